"""Tables that put the records beside something else: the dialects of IoU, and what others published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.published import Publication, published_iou
from deeploc_bench.results.render import Table, number
from deeploc_bench.results.tables import make_rows, title
from deeploc_bench.scoring.dialects import Dialect
from deeploc_bench.scoring.metrics import iou
from deeploc_bench.scoring.records import Records, merge


def dialect_ious(cell: Cell, dialects: Sequence[Dialect]) -> dict[str, float]:
    """Return the IoU of a cell in each dialect; those that count authentic images as loaded, with and without them."""
    found = {}
    for dialect in dialects:
        found[dialect.name] = dialect.score(cell.records)
        if dialect.counts_authentic and cell.authentic is not None and not cell.perturbation:
            found[f"{dialect.name} + authentic"] = dialect.score(_together(cell.records, cell.authentic))
    return found


def _together(manipulated: Records, authentic: Records) -> Records:
    """Return both in one order of ids, as a loader that lists both folders would; equal ids stay two images."""
    apart = replace(authentic, ids=tuple(f"{id}-authentic" for id in authentic.ids))
    return merge([manipulated, apart])


def dialect_table(cells: Sequence[Cell], dialects: Sequence[Dialect]) -> Table:
    """Return one table of all cells, a column a dialect, with what each dialect is below."""
    ious = [{"iou": iou(cell.records), **dialect_ious(cell, dialects)} for cell in cells]
    names = list(dict.fromkeys(name for found in ious for name in found))
    return Table(
        caption="IoU by dialect",
        headers=("protocol", "model", "seed", "train on", "test on", *names),
        lines=tuple(
            (*_about(cell), *(f"{found[name]:.3f}" if name in found else "-" for name in names))
            for cell, found in zip(cells, ious, strict=True)
        ),
        notes=tuple(f"{dialect.name}: {dialect.what}" for dialect in dialects),
    )


def _about(cell: Cell) -> tuple[str, ...]:
    test = f"{cell.pair.test_generator}@{cell.perturbation.name}" if cell.perturbation else cell.pair.test_generator
    trained = "+".join(cell.pair.train_generators) or "-"
    return cell.protocol, cell.facts.what, str(cell.facts.seed), trained, test


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
                difference = "-" if math.isnan(theirs) else f"{row.summary.iou - theirs:+.2f}"
                names = ("+".join(row.pair.train_generators), row.pair.test_generator)
                lines.append((*names, row.iou, number(theirs), difference))
        headers = ("train on", "test on", "IoU", entry.name, "difference")
        caption = f"{title(group[0])} beside {entry.name}"
        tables.append(Table(caption=caption, headers=headers, lines=tuple(lines), notes=(note,)))
    return tables
