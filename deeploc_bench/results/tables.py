"""Tables in the poster's form, by mask area, generator or seed, and by dialect of IoU; cells as JSON."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from deeploc_bench.contract.specs import REGENERATED
from deeploc_bench.plan.protocols import Pair, trained_on
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Field, Table, interval_of, number, starred
from deeploc_bench.results.rows import Row, Rows
from deeploc_bench.results.sections import Section, sections
from deeploc_bench.scoring.dialects import Dialect
from deeploc_bench.scoring.metrics import (
    AREAS,
    area_classes,
    image_auc,
    image_false_positives,
    image_ious,
    iou,
)
from deeploc_bench.scoring.records import merge
from deeploc_bench.scoring.statistics import Comparison, interval

SOURCES_ONLY = "intervals: sources only; another seed or machine may fall outside"
BELOW = "* below the best baseline of the line"


View: TypeAlias = Callable[[Sequence[Cell]], list[Table]]


def score_tables(cells: Sequence[Cell], beside: Sequence[Cell] = ()) -> list[Table]:
    """Return the tables of each experiment and protocol, in the poster's form; `beside` as `sections` has it."""
    return [table for section in sections(cells, beside) for table in tables_of(section)]


def tables_of(section: Section) -> list[Table]:
    """Return the tables of one experiment under one protocol: a list, or for `cross` a matrix a perturbation."""
    made = [_list(section)]
    if section.cells[0].protocol == "cross":
        perturbed = [_matrix(section, rows, f"{section.title} · {name}") for name, rows in section.perturbed.items()]
        made = [_matrix(section, section.rows, section.title), *perturbed]
    notes = regenerated_notes(section.cells)
    return [replace(table, notes=(*table.notes, *notes)) for table in made]


def regenerated_notes(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return what is to be known of the masks of those test generators that were made anew as a whole."""
    tested = dict.fromkeys(cell.pair.test_generator for cell in cells)
    names = [name for name in tested if any(name in cell.tested.regenerated for cell in cells)]
    return (f"{', '.join(names)}: {REGENERATED}",) if names else ()


def difference_of(found: Comparison | None) -> str:
    """Return a difference with its interval, `+0.152, +0.092 to +0.213`; `-` where it is not known."""
    if found is None:
        return "-"
    bounds = interval_of(found.low, found.high, "+")
    return number(found.difference, "+") + ("" if bounds == "-" else f", {bounds}")


def _list(section: Section) -> Table:
    """Return one line per pair, the mean below the standard generators, a column for each of the others."""
    rows, columns = section.rows, {**section.perturbed, **section.baselines}
    has_spread, has_baselines = len(rows.seeds) > 1, bool(section.baselines)
    lines = []
    for row in lines_of(section):
        bounds = interval(row.score, section.seeds(row)) if row.score else None
        lines.append(
            (
                *_names(section, row),
                marked_iou(section, row),
                interval_of(bounds.low, bounds.high) if bounds else "-",
                *([number(row.score.spread if row.score else None)] if has_spread else []),
                *([difference_of(section.above(row))] if has_baselines else []),
                number(row.false_alarm_area),
                *(other.row_of(row.pair).iou for other in columns.values()),
            )
        )
    sources = max((len(row.score.sources) for row in rows.pairs if row.score), default=0)
    over = "sources and seeds" if section.has_seeds else "sources"
    scores = ("IoU", f"95 % interval ({sources} {over})", *(["sd over seeds"] if has_spread else []))
    above = ("above best baseline",) if has_baselines else ()
    return Table(
        caption=section.title + ("" if section.knows_seeds else f"\n{SOURCES_ONLY}"),
        headers=("train on", "test on", *scores, *above, "false alarm area", *columns),
        lines=tuple(lines),
        notes=(BELOW,) if any(str(line[2]).endswith("*") for line in lines) else (),
    )


def lines_of(section: Section) -> list[Row]:
    """Return the rows of a list: the standard generators', their mean where there are several, then the others.

    A detector has one for each test generator, whatever those were trained on that it stands beside.
    """
    rows, first = section.rows.pairs, section.cells[0]
    if first.facts.is_detector:
        rows = tuple(own[0] for own in grouped(rows, lambda row: row.pair and row.pair.test_generator).values())
    ranked = [row for row in rows if row.pair and row.pair.test_generator in first.tested.standard_generators]
    return [*ranked, *([section.rows.mean] if len(ranked) > 1 else []), *rows[len(ranked) :]]


def _names(section: Section, row: Row) -> tuple[str, str]:
    if row.pair is None:
        return ("mean", "")
    first = section.cells[0]
    seen = " (seen)" if any(cell.is_seen for cell in section.shown(row)) else ""
    facts = first.facts
    here = trained_on(row.pair.train_generators, first.protocol, facts.standard_generators, facts.included)
    train = first.train if first.facts.is_detector else here
    return (train, row.pair.test_generator + seen)


def marked_iou(section: Section, row: Row) -> str:
    """Return the IoU of a row as tables print it, with a star where it is below the best baseline."""
    found = section.above(row)
    return starred(row.iou) if found and found.difference < 0 else row.iou


def _matrix(section: Section, rows: Rows, caption: str) -> Table:
    pairs = [row.pair for row in rows.pairs if row.pair]
    tests = tuple(dict.fromkeys(pair.test_generator for pair in pairs))
    trained = {pair.train_generators: "+".join(pair.train_generators) for pair in pairs}
    if section.cells[0].facts.is_detector:
        trained = {pairs[0].train_generators: section.cells[0].train}
    lines = []
    for train, name in trained.items():
        own = (rows.row_of(Pair(train_generators=train, test_generator=test)) for test in tests)
        lines.append((name, *(marked_iou(section, row) for row in own)))
    is_marked = any(str(field).endswith("*") for line in lines for field in line)
    headers = ("train on \\ test on", *tests)
    return Table(caption=caption, headers=headers, lines=tuple(lines), notes=(BELOW,) if is_marked else ())


def by_generator(cells: Sequence[Cell]) -> list[Table]:
    """Return a table a protocol: a line an experiment, a column a pair and the mean; baselines last."""
    tables = []
    for alike in grouped(sections(cells), _likeness).values():
        first = alike[0].cells[0]
        pairs = list(dict.fromkeys(row.pair for section in alike for row in section.rows.pairs if row.pair))
        names = [pair.test_generator for pair in pairs]
        headers = [
            name if names.count(name) == 1 else f"{name}, {trained_on(pair.train_generators, first.protocol, ())}"
            for name, pair in zip(names, pairs, strict=True)
        ]
        shown = pairs if first.added_by else [*pairs, None]
        lines: list[tuple[Field, ...]] = []
        for section in alike:
            cell, seeds = section.cells[0], ", ".join(map(str, section.rows.seeds))
            mark = f", experiment {cell.facts.experiment[:8]}" if section.has_namesake else ""
            lines.append(
                (
                    cell.facts.what,
                    cell.recipe + mark,
                    seeds,
                    *(marked_iou(section, section.rows.row_of(pair)) for pair in shown),
                )
            )
        baselines = [
            (name, "-", "-", *(rows.row_of(pair).iou for pair in shown))
            for section in alike
            for name, rows in section.baselines.items()
        ]
        lines += dict.fromkeys(baselines)
        budget = " (matched budget)" if first.budget == "matched" else ""
        main = f" · {alike[0].main}" if alike[0].main else ""
        added = f" · added by plugin {first.added_by}" if first.added_by else ""
        trained = f" · trained on {first.train}" if first.transferred else ""
        caption = f"{first.protocol}{budget} · {first.suites}{added}{main}{trained} · IoU by generator"
        headers = ["model + loss", "recipe", "seeds", *headers, *([] if first.added_by else ["mean"])]
        notes = regenerated_notes([cell for section in alike for cell in section.cells])
        tables.append(Table(caption=caption, headers=tuple(headers), lines=tuple(lines), notes=notes))
    return tables


def _likeness(section: Section) -> tuple[object, ...]:
    first = section.cells[0]
    return (first.group[:4], section.main, first.pair.train_generators if first.transferred else ())


def by_seed(cells: Sequence[Cell]) -> list[Table]:
    """Return a table an experiment and protocol: a column a seed, and their standard deviation."""
    tables = []
    for section in sections(cells):
        seeds, lines = section.rows.seeds, []
        for row in lines_of(section):
            ious = {cell.facts.seed: iou(cell.records) for cell in section.shown(row)}
            if row.pair is None and row.score:
                ious = dict(zip(seeds, row.score.seed_ious, strict=True))
            spread = number(row.score.spread) if row.score else "-"
            lines.append((*_names(section, row), *(number(ious.get(seed)) for seed in seeds), row.iou, spread))
        headers = ("train on", "test on", *(f"seed {seed}" for seed in seeds), "IoU", "sd over seeds")
        tables.append(Table(caption=section.title, headers=headers, lines=tuple(lines)))
    return tables


def by_area(cells: Sequence[Cell]) -> list[Table]:
    """Return a table an experiment and protocol: the IoU of masks of each class of area, and how many there are."""
    headers = ("train on", "test on", *(header for area in AREAS for header in (area, "images")))
    tables = []
    for section in sections(cells):
        standard = section.cells[0].tested.standard_generators
        found = {row.pair: _by_class(list(section.shown(row)) if row.score else []) for row in section.rows.pairs}
        ranked = [ious for pair, ious in found.items() if pair and pair.test_generator in standard]
        found[None] = [
            (float(np.mean([iou for iou, _ in column])), sum(count for _, count in column))
            for column in zip(*(ranked if section.rows.mean.score else [_by_class([])]), strict=True)
        ]
        lines = [
            (*_names(section, row), *(field for iou, count in found[row.pair] for field in (number(iou), str(count))))
            for row in lines_of(section)
        ]
        caption = f"{section.title} · IoU by mask area, in parts of the image"
        tables.append(Table(caption=caption, headers=headers, lines=tuple(lines)))
    return tables


def _by_class(cells: Sequence[Cell]) -> list[tuple[float, int]]:
    """Return the IoU, averaged over seeds, and the number of the images of each class of mask area."""
    if not cells:
        return [(float("nan"), 0)] * len(AREAS)
    ious = np.mean([image_ious(cell.records) for cell in cells], axis=0)  # (N,)
    classes = area_classes(cells[0].records)
    parts = [ious[classes == area] for area in range(len(AREAS))]
    return [(float(part.mean()) if len(part) else float("nan"), len(part)) for part in parts]


VIEWS: Mapping[str, View] = {
    "area": by_area,
    "generator": by_generator,
    "seed": by_seed,
}


def dialect_ious(cell: Cell, dialects: Iterable[Dialect]) -> dict[str, float]:
    """Return the IoU of a cell in each dialect; those that count authentic images as loaded, with and without them."""
    found, together = {}, None
    if cell.authentic is not None and not cell.perturbation:
        # in one order of ids, as a loader that lists both folders would; equal ids stay two images
        apart = tuple(f"{id}-authentic" for id in cell.authentic.ids)
        together = merge([cell.records, replace(cell.authentic, ids=apart)])
    for dialect in dialects:
        found[dialect.name] = dialect.score(cell.records)
        if dialect.counts_authentic and together is not None:
            found[f"{dialect.name} + authentic"] = dialect.score(together)
    return found


def apart(table: Callable[[Sequence[Cell]], Table], cells: Sequence[Cell]) -> list[Table]:
    """Return a table of the cells of the suite's own generators, then one of what each plugin adds to it."""
    found = grouped(cells, lambda cell: cell.added_by)
    return [
        replace(made, caption=f"{made.caption} · added by plugin {plugin}") if plugin else made
        for plugin, made in ((plugin, table(own)) for plugin, own in found.items())
    ]


def dialect_tables(cells: Sequence[Cell], dialects: Collection[Dialect]) -> list[Table]:
    """Return the tables of all cells, a column a dialect, with what each dialect is below."""
    return apart(lambda own: _dialect_table(own, dialects), cells)


def _dialect_table(cells: Sequence[Cell], dialects: Collection[Dialect]) -> Table:
    ious = [{"iou": iou(cell.records), **dialect_ious(cell, dialects)} for cell in cells]
    names = list(dict.fromkeys(name for found in ious for name in found))
    lines = []
    for cell, found in zip(cells, ious, strict=True):
        test = cell.test + (f"@{cell.perturbation.name}" if cell.perturbation else "")
        lines.append((*_about(cell), test, *(number(found.get(name)) for name in names)))
    return Table(
        caption="IoU by dialect",
        headers=("protocol", "model", "seed", "train on", "test on", *names),
        lines=tuple(lines),
        notes=tuple(f"{dialect.name}: {dialect.what}" for dialect in dialects),
    )


def image_level_tables(cells: Sequence[Cell]) -> list[Table]:
    """Return how well each training tells edited from authentic images, for those that were tested on some."""
    return [table for table in apart(_image_level_table, cells) if table.lines]


def _image_level_table(cells: Sequence[Cell]) -> Table:
    lines = []
    for cell in cells:
        if cell.authentic is not None and not cell.perturbation:
            auc, alarms = image_auc(cell.records, cell.authentic), image_false_positives(cell.authentic)
            lines.append((*_about(cell), cell.test, number(auc), number(alarms)))
    headers = ("protocol", "model", "seed", "train on", "test on", "image AUC", "false positives")
    note = "An image's score is the mean of its heatmap's highest 1 %; false positives are authentic images above 0.5."
    return Table(caption="Image level", headers=headers, lines=tuple(lines), notes=(note,))


def _about(cell: Cell) -> tuple[str, str, str, str]:
    trained = "+".join(cell.pair.train_generators) or "-"
    return (cell.protocol, cell.facts.what, str(cell.facts.seed), trained)
