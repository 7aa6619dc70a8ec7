"""Tables that set the records beside something else: the dialects of IoU, and what others published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from deeploc_bench.results.published import Entry, published_iou
from deeploc_bench.results.render import markdown, number
from deeploc_bench.results.tables import grouped
from deeploc_bench.scoring.dialects import Dialect
from deeploc_bench.scoring.metrics import iou
from deeploc_bench.scoring.records import Records, merge
from deeploc_bench.scoring.rows import Cell, make_rows


def dialect_ious(cell: Cell, dialects: Sequence[Dialect]) -> dict[str, float]:
    """Return the IoU of a cell in each dialect; those that count authentic images as loaded, with and without them."""
    found = {}
    for dialect in dialects:
        found[dialect.name] = dialect.score(cell.records)
        if dialect.listed and cell.authentic is not None and not cell.perturbation:
            found[f"{dialect.name} + authentic"] = dialect.score(_listed(cell.records, cell.authentic))
    return found


def _listed(manipulated: Records, authentic: Records) -> Records:
    """Return both in one order of ids, as a loader that lists both folders would; equal ids stay two images."""
    apart = replace(authentic, ids=tuple(f"{id}-authentic" for id in authentic.ids))
    return merge([manipulated, apart])


def render_dialects(cells: Sequence[Cell], dialects: Sequence[Dialect]) -> str:
    """Return one table of all cells, a column a dialect, and what each dialect is."""
    ious = [{"iou": iou(cell.records), **dialect_ious(cell, dialects)} for cell in cells]
    names = list(dict.fromkeys(name for found in ious for name in found))
    lines = [
        [*_about(cell), *(f"{found[name]:.3f}" if name in found else "-" for name in names)]
        for cell, found in zip(cells, ious, strict=True)
    ]
    body = markdown(lines, ["protocol", "model", "seed", "train on", "test on", *names])
    return "\n".join(["IoU by dialect", body, "", *(f"{dialect.name}: {dialect.what}" for dialect in dialects)])


def _about(cell: Cell) -> list[str]:
    model = cell.model if cell.loss is None else f"{cell.model} + {cell.loss}"
    test = f"{cell.test_generator}@{cell.perturbation}" if cell.perturbation else cell.test_generator
    return [cell.protocol, model, str(cell.seed), "+".join(cell.train_generators) or "-", test]


def published_of(cell: Cell, entry: Entry) -> dict[str, float | str]:
    """Return the published IoU of a cell, and how far the cell's own is above it."""
    theirs = published_iou(entry, cell.protocol, cell.train_generators, cell.test_generator)
    return {"name": entry.name, "iou": theirs, "difference": iou(cell.records) - theirs}


def render_published(cells: Sequence[Cell], entry: Entry) -> str:
    """Return the tables of all trained cells beside the numbers of a publication, with the difference."""
    parts = []
    for (protocol, _, model, loss, recipe), mine in grouped(c for c in cells if c.loss and not c.perturbation):
        lines = []
        for row in make_rows(mine):
            theirs = published_iou(entry, protocol, row.train_generators, row.test_generator)
            difference = "-" if math.isnan(theirs) else f"{row.iou - theirs:+.2f}"
            trained = "+".join(row.train_generators)
            lines.append([trained, row.test_generator, number(row.iou), number(theirs), difference])
        headers = ["train on", "test on", "IoU", entry.name, "difference"]
        parts.append(f"{protocol} · {model} + {loss} · {recipe} beside {entry.name}\n{markdown(lines, headers)}")
    note = f"{entry.name}: {entry.title}. {entry.citation} IoU: {entry.dialect}. Published, not recomputed."
    return "\n\n".join([*parts, note])
