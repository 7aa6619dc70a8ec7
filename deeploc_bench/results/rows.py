"""Rows of scores: the records of each pair averaged over seeds, their mean, and the variance between all seeds."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.data.perturb import Perturbation
from deeploc_bench.plan.protocols import PROTOCOLS, Pair
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import number
from deeploc_bench.scoring.metrics import false_alarm_area, image_ious
from deeploc_bench.scoring.records import Records
from deeploc_bench.scoring.statistics import Comparison, Score, SeedIous, SeedVariance, compare, pooled, score

MOST_FALSE_ALARM = 0.20
"""A row that takes more of an untouched image for manipulated is not ranked: flooding is not finding."""
Kind: TypeAlias = tuple[str, str, str, str, Perturbation | None]
"""What rows must have in common to be seen together: suite, data, protocol, budget, perturbation."""
SeedRecords: TypeAlias = Mapping[int, Records]
Pool: TypeAlias = Mapping[Pair | None, SeedVariance]
"""The variance between seeds of each pair, and of the mean (None)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of scores: a pair, or the mean over the standard generators (None); `score` is None where it lacks.

    `images` is the hash of the ids, sources and mask areas of what was tested.
    """

    pair: Pair | None
    score: Score | None = None
    images: str = ""
    false_alarm_area: float = math.nan
    lacking: str = ""
    """Of a mean: how many of its pairs there are, such as `3 of 4`; empty where all are."""

    @property
    def floods(self) -> bool:
        """Tell whether it takes so much of an untouched image for manipulated that it is not ranked."""
        return self.false_alarm_area > MOST_FALSE_ALARM  # not where that is unknown, NaN

    @property
    def iou(self) -> str:
        """Return the IoU as tables print it."""
        return self.lacking or number(self.score.iou if self.score else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one experiment under one protocol: its pairs in order, their mean, and the seeds averaged."""

    pairs: tuple[Row, ...]
    mean: Row
    seeds: tuple[int, ...]
    left_out: tuple[int, ...] = ()
    """Seeds that not every cell has."""

    @property
    def seed_words(self) -> str:
        """Return the words for its seeds, `seed 0` or `seeds 0, 1`."""
        return f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"

    def row_of(self, pair: Pair | None) -> Row:
        """Return the row of a pair, or the mean (None); an empty one where there is none."""
        return next((row for row in (*self.pairs, self.mean) if row.pair == pair), Row(pair=pair))


def make_row(pair: Pair, records: SeedRecords, *, seeded: bool, alarm: float = math.nan) -> Row:
    """Return the row of a pair, its seeds averaged, which were tested on the same images."""
    found = score([_seed_ious(records)], seeded=seeded)
    return Row(pair=pair, score=found, images=_images(next(iter(records.values()))), false_alarm_area=alarm)


def mean_row(rows: Sequence[Row], tests: Sequence[SeedRecords]) -> Row:
    """Return the mean over the rows of a protocol's pairs and their records, or how many of them there are."""
    counts = Counter(seed for records in tests for seed in records)
    if not counts or min(counts.values()) < len(tests):
        return Row(pair=None, lacking=f"{max(counts.values(), default=0)} of {len(tests)}")
    scores = [row.score for row in rows if row.score]
    if len(scores) < len(rows):
        return Row(pair=None, lacking=f"{len(scores)} of {len(rows)}")
    return Row(
        pair=None,
        score=score(list(map(_seed_ious, tests)), seeded=scores[0].seeded),
        images=digest(row.images for row in rows),
        false_alarm_area=float(np.mean([row.false_alarm_area for row in rows])),
    )


def make_rows(cells: Sequence[Cell], seeds: Sequence[int] | None = None) -> Rows:
    """Average the cells of one group and perturbation over seeds, image by image, paired by number.

    Only seeds that every cell has are averaged (where none is complete, all that there are), or exactly `seeds`, so
    that a column is over the seeds of the one beside it. The mean is over all standard generators, or says how many
    there are; what was added to a suite has none.
    """
    first = cells[0]
    standard = first.tested.standard_generators
    test_only = sorted({cell.pair.test_generator for cell in cells} - {*standard})
    found = grouped(cells, lambda cell: cell.pair)
    trained = first.pair.train_generators
    scored = [Pair(train_generators=trained, test_generator=name) for name in (*standard, *test_only)]
    rule = PROTOCOLS.get(first.protocol)
    expected = rule(standard, test_only, first.facts.included) if rule else scored
    ranked = [pair for pair in expected if pair.test_generator in standard]
    if first.added_by:
        expected, ranked = [pair for pair in expected if pair not in ranked], []
    by_pair = {pair: {cell.facts.seed: cell for cell in found.get(pair, ())} for pair in expected}
    every = sorted({cell.facts.seed for cell in cells}) if seeds is None else list(seeds)
    complete = [seed for seed in every if all(seed in by_pair[pair] for pair in ranked)]
    averaged = complete or every
    chosen = {pair: [by_seed[seed] for seed in averaged if seed in by_seed] for pair, by_seed in by_pair.items()}
    if seeds is not None:
        chosen = {pair: taken if len(taken) == len(seeds) else [] for pair, taken in chosen.items()}
    rows = {pair: _row(pair, chosen[pair]) for pair in sorted(expected, key=lambda pair: pair not in ranked)}
    return Rows(
        pairs=tuple(rows.values()),
        mean=mean_row([rows[pair] for pair in ranked], [_by_seed(chosen[pair]) for pair in ranked]),
        seeds=tuple(averaged),
        left_out=tuple(seed for seed in every if seed not in averaged),
    )


def kind_of(cell: Cell) -> Kind:
    """Return what the rows of a cell have in common with those that may stand beside them."""
    return (cell.suites, cell.facts.data, cell.protocol, cell.budget, cell.perturbation)


def seed_pools(cells: Iterable[Cell]) -> dict[Kind, Pool]:
    """Return the `seed_pool` of each kind of rows that some cells make."""
    trained = (cell for cell in cells if cell.facts.is_seeded)
    groups = grouped(trained, lambda cell: (kind_of(cell), cell.group)).values()
    alike = grouped(groups, lambda own: kind_of(own[0]))
    return {kind: seed_pool(map(make_rows, found)) for kind, found in alike.items()}


def seed_pool(rows: Iterable[Rows]) -> Pool:
    """Return the variance between seeds of each pair and of the mean, pooled over rows of one kind that do not flood.

    A row that floods hardly varies, and would make the others look surer than they are.
    """
    every = grouped((row for one in rows for row in (*one.pairs, one.mean)), lambda row: row.pair)
    return {pair: pooled(row.score for row in found if row.score and not row.floods) for pair, found in every.items()}


def above(row: Row, baselines: Iterable[Row], seeds: SeedVariance) -> Comparison | None:
    """Return a row minus the best of some baselines on the same images; None where there is none."""
    scores = [one.score for one in baselines if one.score and one.images == row.images]
    if row.score is None or not scores:
        return None
    return compare(row.score, max(scores, key=lambda score: score.iou), seeds)


def _row(pair: Pair, cells: Sequence[Cell]) -> Row:
    # an experiment fixes the standard generators' data, not that of the test-only ones
    tested = {(cell.tested.test_data[pair.test_generator], _images(cell.records)) for cell in cells}
    if len(tested) != 1:
        return Row(pair=pair)
    return make_row(pair, _by_seed(cells), seeded=cells[0].facts.is_seeded, alarm=_false_alarm_area(cells))


def _by_seed(cells: Sequence[Cell]) -> SeedRecords:
    return {cell.facts.seed: cell.records for cell in cells}


def _false_alarm_area(cells: Sequence[Cell]) -> float:
    alarms = [false_alarm_area(cell.authentic) for cell in cells if cell.authentic is not None]
    data = {cell.tested.test_data.get(AUTHENTIC) for cell in cells}
    # of every training, and on one data set, or nothing is known
    return float(np.mean(alarms)) if len(alarms) == len(cells) and len(data) == 1 else math.nan


def _seed_ious(records: SeedRecords) -> SeedIous:
    return next(iter(records.values())).sources, {seed: image_ious(one) for seed, one in records.items()}


def _images(records: Records) -> str:
    areas = (records.tp + records.fn).tolist()
    return digest(f"{id} {source} {area}" for id, source, area in zip(records.ids, records.sources, areas, strict=True))
