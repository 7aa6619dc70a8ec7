"""How sure a score is: intervals over sources, spread over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ImageIous = tuple[Sequence[str], Floats]
"""The source and the seed-averaged IoU of each image of one test generator."""

SeedIous: TypeAlias = tuple[Sequence[str], Mapping[int, Floats]]
"""The source of each image of one test generator, and the IoU of each image by seed; generators share their seeds."""

RESAMPLES = 2000
FEW_SOURCES = 30
GRAIN = 2.0**30
"""Resampled sums are taken in this fraction of an IoU of 1, so that an interval has the same bits on any machine."""
# Student's t, 97.5 %, for 1 to 28 degrees of freedom
T_975 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448),
    *(2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval, and the number of sources behind it; NaN where one source alone cannot tell."""

    low: float
    high: float
    sources: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The scores of a row: the mean over its generators, its interval, and the spread over seeds (NaN for one)."""

    iou: float
    interval: Interval
    spread: float
    generator_ious: tuple[float, ...]
    seed_ious: tuple[float, ...]


def summary(row: Sequence[SeedIous]) -> Summary:
    """Return the scores of one generator or more: averaged over seeds image by image, over images, over generators.

    Every table, report and claim is made of these, so that they agree to the last digit.
    """
    averages = [(sources, seed_average(list(by_seed.values()))) for sources, by_seed in row]
    means = tuple(float(average.mean()) for _, average in averages)
    seed_ious = tuple(
        float(np.mean([by_seed[seed].mean() for _, by_seed in row])) for seed in (row[0][1] if row else ())
    )
    return Summary(
        iou=float(np.mean(means)),
        interval=interval(averages),
        spread=seed_spread(seed_ious),
        generator_ious=means,
        seed_ious=seed_ious,
    )


def interval(row: Sequence[ImageIous]) -> Interval:
    """Return the 95 % interval of a row: the mean over its generators of the mean over images of the IoU.

    Sources are resampled jointly over the generators (percentile bootstrap, 2,000 resamples of a frozen stream); a
    resample without any image of one generator is the mean over the others. Below 30 sources it is a t interval on
    source means, linearized so as to allow for sources of unequal size: with d_s = the mean over generators g of the
    sum over the images i of source s of (iou_i - mean_g) / N_g, the variance is S / (S - 1) * sum of d_s squared.
    """
    names = sorted({source for sources, _ in row for source in sources})
    sums, sizes = (np.stack(parts) for parts in zip(*(_by_source(part, names) for part in row), strict=True))
    if len(names) < 2:
        return Interval(low=float("nan"), high=float("nan"), sources=len(names))
    low, high = _t_bounds(sums, sizes) if len(names) < FEW_SOURCES else _bootstrap_bounds(sums, sizes)
    return Interval(low=max(0.0, low), high=min(1.0, high), sources=len(names))


def seed_average(ious: Sequence[Floats]) -> Floats:
    """Return the mean over seeds of the IoU of each image, (N,)."""
    average: Floats = np.mean(ious, axis=0, dtype=np.float64)
    return average


def seed_spread(values: Sequence[float]) -> float:
    """Return the standard deviation (ddof = 1) of a score over seeds; NaN for one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def is_separable(one: Sequence[SeedIous], other: Sequence[SeedIous]) -> bool:
    """Tell whether two rows differ: the 95 % interval of their difference leaves out 0.

    The rows hold the same images. Paired percentile bootstrap, 2,000 resamples of a frozen stream: sources are drawn
    for both rows at once, seeds for each on its own. A row of one seed tells nothing of seeds, and is never separable.
    """
    if min(len(by_seed) for row in (one, other) for _, by_seed in row) < 2:
        return False
    names = sorted({source for sources, _ in one for source in sources})
    weights, random = _source_weights(len(names)), np.random.RandomState(1)
    first, second = (_resampled(row, names, weights, random) for row in (one, other))
    low, high = np.nanpercentile(first - second, [2.5, 97.5])
    return bool(low > 0 or high < 0)


@lru_cache(maxsize=4)
def _source_weights(count: int) -> Floats:
    """Return how often each source is drawn in each resample of the frozen stream, (RESAMPLES, count)."""
    return _drawn(np.random.RandomState(0), count)


def _drawn(random: np.random.RandomState, count: int) -> Floats:
    """Return how often each of `count` things is drawn in each resample, (RESAMPLES, count)."""
    # NumPy freezes RandomState's streams (NEP 19), but its default integer differs between platforms.
    drawn = random.randint(0, count, size=(RESAMPLES, count), dtype=np.int64)
    return np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float64)


def _resampled(row: Sequence[SeedIous], names: Sequence[str], weights: Floats, random: np.random.RandomState) -> Floats:
    """Return the mean over generators of the IoU in each resample of sources and seeds, (RESAMPLES,)."""
    seeds = _drawn(random, len(row[0][1]))
    means = []
    for sources, by_seed in row:
        parts = [_by_source((sources, ious), names) for ious in by_seed.values()]
        sums = _exact(np.stack([part[0] for part in parts]))  # (seeds, S)
        images = GRAIN * (weights @ parts[0][1])
        totals = ((seeds @ sums) * weights).sum(axis=1) / seeds.sum(axis=1)
        means.append(np.divide(totals, images, out=np.full_like(totals, np.nan), where=images > 0))
    average: Floats = np.nanmean(np.stack(means), axis=0)
    return average


def _exact(sums: Floats) -> Floats:
    """Return sums in grains: whole numbers, which a matrix product adds exactly, in whatever order a machine does."""
    whole: Floats = np.rint(sums * GRAIN)
    return whole


def _by_source(part: ImageIous, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the sum of the IoUs and the number of images of each source, both (S,)."""
    sources, values = part
    place = {name: position for position, name in enumerate(names)}
    index = np.array([place[source] for source in sources], np.intp)
    return (
        np.bincount(index, weights=values, minlength=len(names)).astype(np.float64),
        np.bincount(index, minlength=len(names)).astype(np.float64),
    )


def _t_bounds(sums: Floats, sizes: Floats) -> tuple[float, float]:  # both (generators, S)
    means = sums.sum(axis=1) / sizes.sum(axis=1)
    shares = ((sums - means[:, None] * sizes) / sizes.sum(axis=1)[:, None]).mean(axis=0)
    count = sums.shape[1]
    reach = T_975[count - 2] * np.sqrt(count / (count - 1) * (shares**2).sum())
    return float(means.mean() - reach), float(means.mean() + reach)


def _bootstrap_bounds(sums: Floats, sizes: Floats) -> tuple[float, float]:  # both (generators, S)
    count = sums.shape[1]
    weights = _source_weights(count)
    totals, images = weights @ _exact(sums).T, GRAIN * (weights @ sizes.T)  # (RESAMPLES, generators)
    means = np.divide(totals, images, out=np.full_like(totals, np.nan), where=images > 0)
    low, high = np.nanpercentile(np.nanmean(means, axis=1), [2.5, 97.5])
    return float(low), float(high)
