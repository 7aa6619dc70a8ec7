"""Numbers that others published on a suite: `leaderboard/published/<suite>.toml`; shown, never recomputed."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isnan, nan

import msgspec

from deeploc_bench.contract.errors import StoreError, UsageError, unknown
from deeploc_bench.contract.files import convert, parse_toml
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, number
from deeploc_bench.results.tables import make_rows, title
from deeploc_bench.scoring.metrics import iou


class Publication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One publication's IoU, as fractions: by test generator for `same` and `loo`, by train generator for `cross`."""

    name: str
    title: str
    citation: str
    reference: str | None = None
    dialect: str
    same: Mapping[str, float] = {}
    loo: Mapping[str, float] = {}
    cross: Mapping[str, Mapping[str, float]] = {}
    mean_same: float | None = None
    mean_other: float | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything published on one suite."""

    suite: str
    entry: tuple[Publication, ...]


def published() -> dict[str, Published]:
    """Return what was published, by suite; raises StoreError where a file is damaged."""
    found = {}
    for file in sorted(files("deeploc_bench_published").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            where = f"published {file.name}"
            one = convert(parse_toml(file.read_bytes(), where, StoreError), Published, where, StoreError)
            found[one.suite] = one
    return found


def find_publication(name: str) -> tuple[str, Publication]:
    """Return the suite and the publication of that name; raises UsageError."""
    entries = {entry.name: (one.suite, entry) for one in published().values() for entry in one.entry}
    if name not in entries:
        raise UsageError(unknown("publication", name, entries))
    return entries[name]


def published_iou(entry: Publication, protocol: str, pair: Pair) -> float:
    """Return what a publication says of a cell; NaN where it says nothing."""
    if protocol == "cross":
        return entry.cross.get("+".join(pair.train_generators), {}).get(pair.test_generator, nan)
    by_test: Mapping[str, float] = {"same": entry.same, "loo": entry.loo}.get(protocol, {})
    return by_test.get(pair.test_generator, nan)


def published_of(cell: Cell, entry: Publication) -> dict[str, float | str]:
    """Return the published IoU of a cell, and how far the cell's own is above it."""
    theirs = published_iou(entry, cell.protocol, cell.pair)
    return {"name": entry.name, "iou": theirs, "difference": iou(cell.records) - theirs}


def published_tables(cells: Sequence[Cell], entry: Publication) -> list[Table]:
    """Return the tables of all trained cells beside the numbers of a publication, with the difference."""
    trained = [cell for cell in cells if cell.facts.loss and not cell.perturbation]
    note = f"{entry.name}: {entry.title}. {entry.citation} IoU: {entry.dialect}. Published, not recomputed."
    tables = []
    for group in grouped(trained, lambda cell: cell.group).values():
        lines = []
        for row in make_rows(group).pairs:
            if row.pair and row.summary:
                theirs = published_iou(entry, group[0].protocol, row.pair)
                difference = "-" if isnan(theirs) else f"{row.summary.iou - theirs:+.2f}"
                names = ("+".join(row.pair.train_generators), row.pair.test_generator)
                lines.append((*names, row.iou, number(theirs), difference))
        headers = ("train on", "test on", "IoU", entry.name, "difference")
        caption = f"{title(group[0])} beside {entry.name}"
        tables.append(Table(caption=caption, headers=headers, lines=tuple(lines), notes=(note,)))
    return tables
