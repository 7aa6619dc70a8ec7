"""Cells with their records, gathered into the rows and tables that are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.scoring.metrics import false_alarm_area, image_ious, iou
from deeploc_bench.scoring.records import Records
from deeploc_bench.scoring.statistics import Interval, interval, seed_average, seed_spread

Group: TypeAlias = tuple[str, str, str, str | None, str]
"""What a table is about: protocol, budget, model, loss, recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One (train generators -> test generator) pair of one protocol, model, loss and seed, with its records."""

    protocol: str
    budget: str
    model: str
    loss: str | None
    recipe: str
    seed: int
    train_generators: tuple[str, ...]
    test_generator: str
    perturbation: str = ""
    training: str
    records: Records
    authentic: Records | None

    @property
    def group(self) -> Group:
        """Return what a table is about."""
        return (self.protocol, self.budget, self.model, self.loss, self.recipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pair over all its seeds."""

    train_generators: tuple[str, ...]
    test_generator: str
    iou: float
    interval: Interval
    spread: float
    false_alarm_area: float
    sources: tuple[str, ...]
    image_ious: NDArray[np.float64]
    seed_ious: tuple[float, ...]


def make_row(cells: Sequence[Cell]) -> Row:
    """Average the cells of one pair over seeds, image by image."""
    ious = seed_average([image_ious(cell.records) for cell in cells])
    alarms = [false_alarm_area(cell.authentic) for cell in cells if cell.authentic is not None]
    seeds = tuple(iou(cell.records) for cell in cells)
    return Row(
        train_generators=cells[0].train_generators,
        test_generator=cells[0].test_generator,
        iou=float(ious.mean()),
        interval=interval([(cells[0].records.sources, ious)]),
        spread=seed_spread(seeds),
        false_alarm_area=float(np.mean(alarms)) if alarms else float("nan"),
        sources=cells[0].records.sources,
        image_ious=ious,
        seed_ious=seeds,
    )


def make_rows(cells: Sequence[Cell]) -> list[Row]:
    """Gather the cells of one table into rows, in the cells' order."""
    pairs: dict[tuple[tuple[str, ...], str], list[Cell]] = {}
    for cell in cells:
        pairs.setdefault((cell.train_generators, cell.test_generator), []).append(cell)
    return [make_row(pair) for pair in pairs.values()]


def mean_row(rows: Sequence[Row]) -> Row:
    """Return the mean over generators; its interval resamples sources jointly."""
    by_seed = zip(*(row.seed_ious for row in rows), strict=False)
    means = tuple(float(np.mean(ious)) for ious in by_seed)
    return Row(
        train_generators=(),
        test_generator="",
        iou=float(np.mean([row.iou for row in rows])),
        interval=interval([(row.sources, row.image_ious) for row in rows]),
        spread=seed_spread(means),
        false_alarm_area=float(np.mean([row.false_alarm_area for row in rows])),
        sources=(),
        image_ious=np.array([]),
        seed_ious=means,
    )
