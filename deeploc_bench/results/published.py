"""Numbers that others published on a suite: `leaderboard/published/<suite>.toml`; shown, never recomputed."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import nan
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from deeploc_bench.contract.errors import StoreError, UsageError, unknown
from deeploc_bench.contract.files import MOST_TOML, convert, parse_toml, read_bytes
from deeploc_bench.contract.findings import shown
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, linked, number
from deeploc_bench.results.rows import make_rows
from deeploc_bench.results.sections import title
from deeploc_bench.scoring.metrics import iou


class PublishedRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a publication: the model, what it was trained on, in words, and the place where it was read.

    `iou` is by test generator, in fractions; a row of which no more is known has its `mean` alone. `protocol` says of
    which protocol's cells it tells, if of any.
    """

    model: str
    trained_on: str
    place: str
    protocol: Literal["same", "loo"] | None = None
    budget: Literal["full", "matched"] = "full"
    iou: Mapping[str, float] = {}
    mean: float | None = None


class PublishedMatrix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The IoUs of a model trained on each generator and tested on every one: by train, then by test generator."""

    model: str
    place: str
    iou: Mapping[str, Mapping[str, float]]


class Publication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One publication: its rows, and the matrix of protocol `cross`, if it has one.

    `dialect` is that of its IoU, `not stated` unless the source says so; `conditions` is what else is to be known.
    """

    name: str
    title: str
    citation: str
    conditions: str = ""
    reference: str | None = None
    dialect: str
    row: tuple[PublishedRow, ...] = ()
    cross: PublishedMatrix | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything published on one suite."""

    suite: str
    entry: tuple[Publication, ...]


def published(folder: Path | None = None) -> dict[str, Published]:
    """Return what was published, by suite, in a folder that is there, or else in the installed one.

    Raises StoreError where a file is damaged.
    """
    found = {}
    place = folder if folder and folder.is_dir() else files("deeploc_bench_published")
    for file in sorted(place.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            where = shown(f"published {file.name}")
            one = convert(parse_toml(_content(file, where), where, StoreError), Published, where, StoreError)
            if f"{one.suite}.toml" != file.name:
                raise StoreError(f"{where} is of suite {one.suite!r}; name the file after its suite")
            found[one.suite] = one
    return found


def _content(file: Traversable, where: str) -> bytes:
    try:
        return read_bytes(file, MOST_TOML) if isinstance(file, Path) else file.read_bytes()
    except OSError as error:
        raise StoreError(f"{where}: {error.strerror}") from None


def find_publication(name: str) -> tuple[str, Publication]:
    """Return the suite and the publication of that name; raises UsageError."""
    entries = {entry.name: (one.suite, entry) for one in published().values() for entry in one.entry}
    if name not in entries:
        raise UsageError(unknown("publication", name, entries))
    return entries[name]


def rows_of(entry: Publication) -> list[PublishedRow]:
    """Return the rows of a publication; of a matrix its diagonal, and the mean of the others on each generator."""
    if entry.cross is None:
        return list(entry.row)
    matrix = entry.cross.iou
    same = {name: row.get(name, nan) for name, row in matrix.items()}
    others = {test: _mean([row.get(test, nan) for train, row in matrix.items() if train != test]) for test in matrix}
    about = PublishedRow(model=entry.cross.model, place=entry.cross.place, trained_on="one of the others, mean")
    return [
        *entry.row,
        replace(about, protocol="same", trained_on="the same generator", iou=same),
        replace(about, iou=others),
    ]


def published_iou(entry: Publication, protocol: str, budget: str, pair: Pair) -> float:
    """Return what a publication says of a cell; NaN where it says nothing."""
    if protocol == "cross":
        matrix = entry.cross.iou if entry.cross else {}
        return matrix.get("+".join(pair.train_generators), {}).get(pair.test_generator, nan)
    rows = [row for row in rows_of(entry) if (row.protocol, row.budget) == (protocol, budget)]
    return next((row.iou.get(pair.test_generator, nan) for row in rows), nan)


def published_of(cell: Cell, entry: Publication) -> dict[str, float | str]:
    """Return the published IoU of a cell, and how far the cell's own is above it."""
    theirs = nan if cell.added_by else published_iou(entry, cell.protocol, cell.budget, cell.pair)
    return {"name": entry.name, "iou": theirs, "difference": iou(cell.records) - theirs}


def published_tables(cells: Sequence[Cell], entry: Publication) -> list[Table]:
    """Return the tables of all trained cells beside the numbers of a publication, with the difference."""
    own = [cell for cell in cells if not cell.added_by and not cell.transferred]
    trained = [cell for cell in own if cell.facts.loss and not cell.perturbation]
    notes = (_note(entry), f"Its dialect of IoU: {entry.dialect}. Published, not recomputed.")
    tables = []
    for group in grouped(trained, lambda cell: cell.group).values():
        lines = []
        for row in make_rows(group).pairs:
            if row.pair and row.score:
                theirs = published_iou(entry, group[0].protocol, group[0].budget, row.pair)
                names = ("+".join(row.pair.train_generators), row.pair.test_generator)
                lines.append((*names, row.iou, number(theirs), number(row.score.iou - theirs, "+")))
        headers = ("train on", "test on", "IoU", entry.name, "difference")
        caption = f"{title(group[0])} beside {entry.name}"
        tables.append(Table(caption=caption, headers=headers, lines=tuple(lines), notes=notes))
    return tables


def published_table(published: Published) -> Table:
    """Return all rows that were published on a suite, and below, where each was read and the citation.

    The mean is over all generators, the one that was stated where no more is known, or it says how many there are.
    """
    rows = [(entry, row) for entry in published.entry for row in rows_of(entry)]
    names = sorted({name for _, row in rows for name in row.iou})
    lines = []
    for entry, row in rows:
        what = f"{entry.title}: {row.model}"
        ious = (number(row.iou.get(name)) for name in names)
        lines.append((linked(what, entry.reference), row.trained_on, _mean_of(row, names), *ious, entry.dialect))
    headers = ("publication", "trained on", "IoU", *names, "dialect")
    return Table(headers=headers, lines=tuple(lines), notes=tuple(map(_note, published.entry)))


def _mean_of(row: PublishedRow, names: Sequence[str]) -> str:
    if row.iou.keys() >= {*names}:
        return number(_mean([*row.iou.values()]))
    return f"{len(row.iou)} of {len(names)}" if row.mean is None else number(row.mean)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan


def _note(entry: Publication) -> str:
    """Return the citation, and the place of each row; one for both rows of a matrix."""
    places = [f"{row.model}, trained on {row.trained_on}: {row.place}" for row in entry.row]
    places += [f"{entry.cross.model}: {entry.cross.place}"] if entry.cross else []
    words = (f"{entry.title}: {entry.citation}", entry.conditions, f"Read from: {'; '.join(places)}.")
    return " ".join(filter(None, words))
