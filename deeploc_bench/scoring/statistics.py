"""How sure a score is: intervals over sources and seeds, paired comparisons, ranks. docs/statistics.md derives it.

A row's score is the mean over its generators of the mean over their test images of the IoU, averaged over seeds. Two
things make it uncertain: which sources were drawn, which is measured within the row, and which seed, which is measured
over all rows of a table together, because few rows have more than three.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats: TypeAlias = NDArray[np.float64]
Number: TypeAlias = float | Floats
SeedIous: TypeAlias = tuple[Sequence[str], Mapping[int, Floats]]
"""The source of each image of one test generator, and the IoU of each image by seed; generators share their seeds."""

LEVEL, POWER = 0.05, 0.8
SEEDS = 3
"""How many seeds a row is asked for, when it is told what can be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """The scores of a row, and what its uncertainty is made of.

    `deviations` is (S,), one for each of its S `sources`, sorted: d_s = the mean over generators g of the sum over the
    images i of source s of (iou_i - mean_g) / N_g. They add up to 0. A row that is not `seeded` has no random part:
    another seed would give the same.
    """

    iou: float
    generator_ious: tuple[float, ...]
    seed_ious: tuple[float, ...]
    sources: tuple[str, ...]
    deviations: Floats
    seeded: bool = True

    @property
    def spread(self) -> float:
        """Return the standard deviation over seeds (ddof = 1); NaN for one seed."""
        return float(np.std(self.seed_ious, ddof=1)) if len(self.seed_ious) > 1 else float("nan")

    @property
    def source_variance(self) -> float:
        """Return the variance of the score over sources, S / (S - 1) * the sum of d_s squared; NaN for one source."""
        return float(_source_variance(self.deviations))

    @property
    def seed_share(self) -> float:
        """Return 1 / seeds, the part of the variance between seeds that is in the row's mean."""
        return 1 / len(self.seed_ious) if self.seeded and self.seed_ious else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedVariance:
    """The variance of a score between seeds, and its degrees of freedom; 0 of these where nobody has several seeds."""

    variance: float = 0.0
    freedom: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval, and the number of sources behind it; NaN where one source alone cannot tell."""

    low: float
    high: float
    sources: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row minus another: the difference, its 95 % interval, its p, and what could have been told.

    `detectable` is the true difference that would be found significant with a probability of 0.8. All but the
    difference are NaN where one source alone cannot tell.
    """

    difference: float
    low: float
    high: float
    p: float
    detectable: float


def score(row: Sequence[SeedIous], *, seeded: bool = True) -> Score:
    """Return the score of one generator or more: averaged over seeds image by image, over images, over generators.

    Every table, report and claim is made of these, so that they agree to the last digit.
    """
    # interned: a board keeps a thousand rows of the same few sources
    sources = tuple(map(sys.intern, sorted({source for names, _ in row for source in names})))
    place = {source: position for position, source in enumerate(sources)}
    means, deviations = [], np.zeros(len(sources))
    for names, by_seed in row:
        ious: Floats = np.mean(list(by_seed.values()), axis=0, dtype=np.float64)  # (N,)
        means.append(float(ious.mean()))
        index = np.array([place[name] for name in names], np.intp)
        deviations += np.bincount(index, (ious - means[-1]) / len(ious), len(sources)) / len(row)
    return Score(
        iou=float(np.mean(means)),
        generator_ious=tuple(means),
        seed_ious=tuple(float(np.mean([by_seed[seed].mean() for _, by_seed in row])) for seed in row[0][1]),
        sources=sources,
        deviations=deviations,
        seeded=seeded,
    )


def pooled(scores: Iterable[Score]) -> SeedVariance:
    """Return the variance between seeds, pooled over the rows that have several: each counts by its seeds less one.

    Rows of the same IoUs are copies, and count once.
    """
    unique = {score.seed_ious: score for score in scores}.values()
    several = [score for score in unique if score.seeded and len(score.seed_ious) > 1]
    freedom = sum(len(score.seed_ious) - 1 for score in several)
    squares = sum((len(score.seed_ious) - 1) * score.spread**2 for score in several)
    return SeedVariance(variance=squares / freedom, freedom=freedom) if several else SeedVariance()


def interval(score: Score, seeds: SeedVariance) -> Interval:
    """Return the 95 % interval of a score: Student's t over its sources, and the seeds' variance by their number.

    The degrees of freedom are Welch's and Satterthwaite's. Where nobody has several seeds, it is over sources only.
    """
    between = seeds.variance * score.seed_share
    error, freedom = _error(_source_variance(score.deviations), between, len(score.sources), seeds)
    reach = stdtrit(freedom, 1 - LEVEL / 2) * error
    low, high = np.clip([score.iou - reach, score.iou + reach], 0, 1)
    return Interval(low=float(low), high=float(high), sources=len(score.sources))


def compare(one: Score, other: Score, seeds: SeedVariance) -> Comparison:
    """Return one score minus another of the same test images: paired source by source, with each row's seeds.

    Raises ValueError where they are of other sources.
    """
    if one.sources != other.sources:
        raise ValueError("only rows of the same sources can be compared")
    difference = one.iou - other.iou
    between = seeds.variance * (one.seed_share + other.seed_share)
    error, freedom = _error(_source_variance(one.deviations - other.deviations), between, len(one.sources), seeds)
    reach = stdtrit(freedom, 1 - LEVEL / 2) * error
    return Comparison(
        difference=difference,
        low=float(difference - reach),
        high=float(difference + reach),
        p=float(_p(difference, error, freedom)),
        detectable=float(_detectable(error, freedom)),
    )


def ranks(scores: Sequence[Score], seeds: SeedVariance, alarms: Sequence[float] = ()) -> list[int]:
    """Return the rank of each row of scores sorted from best to worst: 1 + the number of significantly better rows.

    All pairs are compared, and at most 5 % of tables have a false difference anywhere (Holm, 1979). `alarms` are the
    rows' false alarm areas, NaN where unknown: what a row has more of them than another is taken off its lead, because
    IoU can be bought with false alarms. A running maximum keeps the ranks in the order of the scores.
    """
    first, second = np.triu_indices(len(scores), 1)
    shares = np.array([score.seed_share for score in scores])
    ious = np.array([score.iou for score in scores])
    between = seeds.variance * (shares[first] + shares[second])
    error, freedom = _error(_pair_variances(scores), between, len(scores[0].sources) if scores else 0, seeds)
    areas = np.array(alarms or [np.nan] * len(scores))
    bought = np.nan_to_num(np.maximum(areas[first] - areas[second], 0.0))
    p = _p(np.maximum(ious[first] - ious[second] - bought, 0.0), error, freedom)
    order = np.argsort(p, kind="stable")
    holds = p[order] <= LEVEL / (len(p) - np.arange(len(p)))
    significant = np.zeros(len(p), bool)
    significant[order] = np.logical_and.accumulate(holds)
    better = np.bincount(second[significant], minlength=len(scores))
    return [int(rank) for rank in np.maximum.accumulate(1 + better)]


def smallest_difference(scores: Sequence[Score], seeds: SeedVariance) -> float:
    """Return the difference that two rows of three seeds each are told apart by with a probability of 0.8.

    It is that of the median pair of rows, before Holm's correction; NaN for less than two rows.
    """
    variances = _pair_variances(scores)
    if not len(variances):
        return float("nan")
    between = 2 * seeds.variance / SEEDS
    return float(_detectable(*_error(float(np.median(variances)), between, len(scores[0].sources), seeds)))


def _source_variance(deviations: Floats) -> Floats:
    """Return S / (S - 1) times the sum of squares over the last axis, (..., S) -> (...); NaN where S is 1."""
    count = deviations.shape[-1]
    total: Floats = np.square(deviations).sum(axis=-1)
    return total * (count / (count - 1) if count > 1 else np.nan)


def _pair_variances(scores: Sequence[Score]) -> Floats:
    """Return the source variance of the difference of each pair of rows, in the order of `np.triu_indices(n, 1)`."""
    if len(scores) < 2:
        return np.zeros(0)
    deviations = np.stack([score.deviations for score in scores])  # (rows, S)
    # row by row: the differences of all pairs at once would fill the memory where there are a thousand rows
    return np.concatenate([_source_variance(deviations[i] - deviations[i + 1 :]) for i in range(len(scores) - 1)])


def _error(over_sources: Number, over_seeds: Number, sources: int, seeds: SeedVariance) -> tuple[Floats, Floats]:
    """Return the standard error of a sum of both variances, and its degrees of freedom (Satterthwaite, 1946)."""
    total = np.add(over_sources, over_seeds)
    most = max(sources - 1, 1)
    parts = np.square(over_sources) / most + (np.square(over_seeds) / seeds.freedom if seeds.freedom else 0.0)
    return np.sqrt(total), np.where(total > 0, total**2 / np.where(total > 0, parts, 1.0), most)


def _p(difference: Number, error: Floats, freedom: Floats) -> Floats:
    """Return the two-sided p of a difference; where nothing is uncertain, 1 for no difference and 0 for one."""
    t = np.abs(difference) / np.where(error == 0, 1.0, error)
    return np.where(error == 0, np.where(difference == 0, 1.0, 0.0), 2 * stdtr(freedom, -t))


def _detectable(error: Floats, freedom: Floats) -> Floats:
    found: Floats = (stdtrit(freedom, 1 - LEVEL / 2) + stdtrit(freedom, POWER)) * error
    return found
