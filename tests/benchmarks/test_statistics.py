"""How often equal rows are told apart, better ones are found, and intervals hold the truth: a simulation.

Run with: pytest tests/benchmarks/test_statistics.py --benchmark-only -o addopts= -s

A page is one draw: as many sources, with replacement, as a new test set; every row on it is a method of its own, and
every training has a seed of its own. Methods differ image by image as the committed ones do, but equally in truth:
each is the mean IoU of all, plus a Gaussian combination of the methods' differences from it, which have mean zero. New
seeds are Gaussian combinations of the measured deviations of seeds, which gives them the measured covariance. The
ranks, the intervals and the variance between seeds are the shipped ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tabulate import tabulate

from deeploc_bench.leaderboard.claims import pairs_of, records_of
from deeploc_bench.leaderboard.submission import read_evidence
from deeploc_bench.scoring.metrics import image_ious
from deeploc_bench.scoring.statistics import Score, SeedVariance, interval, pooled, ranks, score

BOARD = Path(__file__).parents[2] / "leaderboard/submissions/photos"
METHODS = tuple(f"residual-unet-{loss}" for loss in ("jaccard", "dice", "focal", "0.5xdice-0.5xfocal"))
PAGES = 2000
MOST_FALSE = 0.06
SEEDS, ROWS = (1, 2, 3, 4, 5), (2, 5, 10, 20)
NO_SEEDS = SeedVariance()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What pages are drawn from: sums of IoU over the images of each source, (..., generators, sources).

    `counts` are the numbers of these images, `base` is the mean method, `methods` (M, G, S) are the differences of
    each from it, and `seeds` (D, G, S) the deviations of seeds; both are scaled so that sums of them, weighted by
    independent standard Gaussians, have the measured covariance.
    """

    counts: np.ndarray
    base: np.ndarray
    methods: np.ndarray
    seeds: np.ndarray

    @property
    def iou(self):
        """The true score of every row that is not made better."""
        return mean_of(self.base, self.counts)


def mean_of(sums, counts):
    """The mean over generators of the mean over images, of sums (..., G, S)."""
    return (sums.sum(-1) / counts.sum(-1)).mean(-1)


def sums_of(evidence, sources):
    """The sum of the IoU over the images of each source, (seeds, G, S), of a submission, and how many there are."""
    tests = held_out(evidence)
    places = [np.searchsorted(sources, next(iter(test.values())).sources) for test in tests]
    sums = [
        [np.bincount(place, image_ious(test[seed]), len(sources)) for place, test in zip(places, tests, strict=True)]
        for seed in evidence.seeds
    ]
    return np.array(sums), np.array([np.bincount(place, minlength=len(sources)) for place in places])


def held_out(evidence):
    """The records of each held-out generator of a submission, by seed."""
    records = records_of(evidence)
    return [records[pair] for pair in pairs_of("loo", evidence.generators)]


def measured():
    """The world of the committed submissions."""
    kept = [read_evidence(BOARD / f"{name}.json") for name in METHODS]
    sources = sorted({source for name in kept[0].generators for source in kept[0].sources[name]})
    found = [sums_of(evidence, sources) for evidence in kept]
    counts, by_seed = found[0][1], [sums for sums, _ in found]
    check(kept[0], by_seed[0], counts)
    means = np.stack([sums.mean(axis=0) for sums in by_seed])
    base = means.mean(axis=0)
    apart = means - base
    apart -= np.einsum("m,gs->mgs", mean_of(apart, counts), counts)  # so that all are equal in truth
    several = [sums for sums in by_seed if len(sums) > 1]
    seeds = [(sums - sums.mean(axis=0)) / np.sqrt((len(sums) - 1) * len(several)) for sums in several]
    methods = apart / np.sqrt(len(METHODS) - 1)
    return World(counts=counts, base=base, methods=methods, seeds=np.concatenate(seeds))


def check(evidence, sums, counts):
    """Raise where `score_of`, which is fast, does not give what the shipped `score` gives."""
    tests = held_out(evidence)
    ious = [(next(iter(test.values())).sources, {seed: image_ious(test[seed]) for seed in test}) for test in tests]
    expected = score(ious)
    found = score_of(sums, mean_of(sums, counts), counts, expected.sources)
    np.testing.assert_allclose(found.deviations, expected.deviations, atol=1e-14)
    np.testing.assert_allclose([found.iou, *found.seed_ious], [expected.iou, *expected.seed_ious], rtol=1e-12)


def page(world, seeds, random, *, better=0.0, sources=None):
    """The scores of one page: a row for each number of seeds, all on the same new sources, the first made better."""
    pick = random.integers(0, world.counts.shape[1], sources or world.counts.shape[1])
    counts = world.counts[:, pick]  # (G, S)
    weights = random.normal(size=(len(seeds), len(world.methods)))
    methods = world.base[:, pick] + np.tensordot(weights, world.methods[..., pick], 1)  # (rows, G, S)
    methods[0] += better * counts
    row = np.repeat(np.arange(len(seeds)), seeds)  # of each training
    weights = random.normal(size=(len(row), len(world.seeds)))
    sums = methods[row] + np.tensordot(weights, world.seeds[..., pick], 1)  # (trainings, G, S)
    ious = mean_of(sums, counts)
    names = tuple(f"source-{place:03}" for place in range(len(pick)))
    return [score_of(sums[row == place], ious[row == place], counts, names) for place in range(len(seeds))]


def score_of(sums, ious, counts, names):
    """The score of one row, of the sums of its seeds (seeds, G, S): `score`, without its images."""
    mean, size = sums.mean(axis=0), counts.sum(axis=1)
    generators = mean.sum(axis=1) / size
    deviations = ((mean - generators[:, None] * counts) / size[:, None]).mean(axis=0)
    return Score(
        iou=float(generators.mean()),
        generator_ious=tuple(generators),
        seed_ious=tuple(ious.tolist()),
        sources=names,
        deviations=deviations,
    )


def ranked(scores, seeds):
    """The rank of each row, by its place on the page."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place].iou)
    found = ranks([scores[place] for place in order], seeds)
    return dict(zip(order, found, strict=True))


def separated(world, seeds, *, knows_seeds=True):
    """The share of pages on which any two of equal rows get different ranks."""
    random = np.random.default_rng([len(seeds), *seeds])
    found = 0
    for _ in range(PAGES):
        scores = page(world, seeds, random)
        found += max(ranked(scores, pooled(scores) if knows_seeds else NO_SEEDS).values()) > 1
    return found / PAGES


def found_alone(world, seeds, better):
    """The share of pages on which the one better row has rank 1 and every other has another rank."""
    random = np.random.default_rng([len(seeds), *seeds, round(1000 * better)])
    found = 0
    for _ in range(PAGES):
        scores = page(world, seeds, random, better=better)
        places = ranked(scores, pooled(scores))
        found += places[0] == 1 and all(place > 1 for row, place in places.items() if row)
    return found / PAGES


def covered(world, seeds, sources):
    """The share of intervals that hold the true score of their row; the rows of a page share their sources."""
    random = np.random.default_rng([*seeds, sources])
    held = []
    for _ in range(PAGES):
        scores = page(world, seeds, random, sources=sources)
        variance = pooled(scores)
        bounds = [interval(score, variance) for score in scores]
        held += [bound.low <= world.iou <= bound.high for bound in bounds]
    return float(np.mean(held))


def row_seeds(seeds, rows):
    """The seeds of each row; where all have one, the last has three, or nothing trained would be ranked."""
    return [1] * (rows - 1) + [3] if seeds == 1 else [seeds] * rows


FIELDS = {f"{k} seed{'s' * (k > 1)}": lambda rows, k=k: row_seeds(k, rows) for k in SEEDS} | {
    "1, 2, 3, 1, ...": lambda rows: [1 + row % 3 for row in range(rows)],
    "5, the others 1": lambda rows: [5] + [1] * (rows - 1),
}


@pytest.fixture(scope="module")
def world():
    return measured()


def show(title, header, lines):
    print(f"\n{title}\n\n{tabulate(lines, header, tablefmt='github', floatfmt='.3f')}")


def test_false_separation(benchmark, world):
    def table():
        return [[name, *(separated(world, seeds(rows)) for rows in ROWS)] for name, seeds in FIELDS.items()]

    lines = benchmark.pedantic(table, rounds=1)
    about = f"(a) Equal rows that get different ranks: share of {PAGES} pages, by seeds a row"
    show(f"{about} (1 seed: the last row has 3)", ["seeds", *(f"{rows} rows" for rows in ROWS)], lines)
    assert max(value for line in lines for value in line[1:]) <= MOST_FALSE


def test_power(benchmark, world):
    fields = [(better, seeds) for better in (0.02, 0.03, 0.05) for seeds in (1, 2, 3, 5)]

    def table():
        return [
            [better, seeds, *(found_alone(world, row_seeds(seeds, rows), better) for rows in (2, 10))]
            for better, seeds in fields
        ]

    lines = benchmark.pedantic(table, rounds=1)
    about = f"(b) The one better row has rank 1, and no other has: share of {PAGES} pages"
    shown = [[f"{better:.2f}", seeds, *rest] for better, seeds, *rest in lines]
    show(f"{about} (1 seed: the last row has 3)", ["better by", "seeds", "2 rows", "10 rows"], shown)
    assert lines[0][2] < lines[-1][2]  # nothing is promised but that more is found of what is larger


def test_coverage(benchmark, world):
    sizes = sorted({11, 35, 60, world.counts.shape[1]})

    def table():
        return [[seeds, *(covered(world, row_seeds(seeds, 5), size) for size in sizes)] for seeds in (1, 3)]

    lines = benchmark.pedantic(table, rounds=1)
    about = f"(c) Intervals that hold the truth: share of 5 rows of {PAGES} pages"
    show(f"{about} (1 seed: the last row has 3)", ["seeds", *(f"{size} sources" for size in sizes)], lines)
    assert all(0.93 <= value <= 0.98 for line in lines for value in line[1:])


def test_without_the_variance_between_seeds(benchmark, world):
    lines = benchmark.pedantic(
        lambda: [[seeds, *(separated(world, [seeds] * rows, knows_seeds=False) for rows in ROWS)] for seeds in (1, 3)],
        rounds=1,
    )
    about = f"(d) As (a), but by sources only, as if another seed gave the same: share of {PAGES} pages"
    show(about, ["seeds", *(f"{rows} rows" for rows in ROWS)], lines)
    assert lines[0][1] > MOST_FALSE
