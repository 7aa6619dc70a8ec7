"""Every aggregate of a submission, recomputed from its records, and what is kept of it to compare and to rank."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.leaderboard.submission import Claims, Row, Submission
from deeploc_bench.plan.protocols import PROTOCOLS
from deeploc_bench.scoring.metrics import count_ious
from deeploc_bench.scoring.statistics import SeedIous, interval, seed_average, seed_spread

Pair = tuple[tuple[str, ...], str]
"""Train generators, test generator."""
Tables = Mapping[Pair, Mapping[int, NDArray[np.int64]]]
"""By train generators and test generator, then by seed: tp, fp and fn of each image, (N, 3)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """What is kept of a submission: everything but its records, and of those what comparing and ranking need."""

    submission: Submission
    ids: str
    areas: Mapping[str, NDArray[np.int32]]
    preds: frozenset[str]
    seed_ious: tuple[SeedIous, ...]


def pairs_of(protocol: str, generators: Sequence[str]) -> list[Pair]:
    """Return the cells of a protocol on standard generators, two or more."""
    return [(cell.train_generators, cell.test_generator) for cell in PROTOCOLS[protocol](generators, ())]


def tables_of(submission: Submission) -> Tables:
    """Return the records of a submission as arrays."""
    tables: dict[Pair, dict[int, NDArray[np.int64]]] = {}
    for training in sorted(submission.trainings, key=lambda training: training.seed):
        for test, counts in training.tests.items():
            array = np.array([counts.tp, counts.fp, counts.fn], np.int64).T
            tables.setdefault((tuple(training.train_generators), test), {})[training.seed] = array
    return tables


def is_complete(submission: Submission, tables: Tables, protocol: str) -> bool:
    """Tell whether each cell of a protocol has the records of every declared seed."""
    return all({*submission.seeds} <= {*tables.get(pair, ())} for pair in pairs_of(protocol, submission.generators))


def seed_ious(submission: Submission, tables: Tables, protocol: str) -> tuple[SeedIous, ...]:
    """Return, for each cell of a protocol, the sources of its images and their IoU by seed."""
    return tuple(
        (submission.sources[test], [count_ious(counts) for counts in tables[train, test].values()])
        for train, test in pairs_of(protocol, submission.generators)
    )


def claims_of(submission: Submission, tables: Tables) -> Claims:
    """Return what a submission may claim."""
    loo = _row(submission, tables, "loo")
    same = _row(submission, tables, "same") if is_complete(submission, tables, "same") else None
    cross: dict[str, dict[str, float]] = {}
    if is_complete(submission, tables, "cross"):
        for (train, test), (_, ious) in _cells(submission, tables, "cross"):
            cross.setdefault(train[0], {})[test] = float(seed_average(ious).mean())
    return Claims(
        loo=loo,
        same=same,
        cross=cross or None,
        worst=min(loo.by_generator.values()),
        gap=same.iou - loo.iou if same else None,
        false_alarm_area=_false_alarm_area(submission, tables),
    )


def entry_of(submission: Submission, tables: Tables) -> Entry:
    """Return what is kept of a checked submission."""
    areas = {
        test: (by_seed[seed][:, 0] + by_seed[seed][:, 2]).astype(np.int32)
        for (_, test), by_seed in tables.items()
        for seed in list(by_seed)[:1]
    }
    digests = [
        "\n".join(counts.pred)
        for training in submission.trainings
        for test, counts in training.tests.items()
        if test != AUTHENTIC
    ]
    sources = {name: [sys.intern(source) for source in found] for name, found in submission.sources.items()}
    slim = msgspec.structs.replace(submission, ids={}, pixels={}, sources=sources, trainings=_without_tests(submission))
    return Entry(
        submission=slim,
        ids=_digest(repr(sorted(submission.ids.items()))),
        areas=areas,
        preds=frozenset(_digest(text) for text in digests),
        seed_ious=seed_ious(slim, tables, "loo"),
    )


def _without_tests(submission: Submission) -> list[object]:
    return [msgspec.structs.replace(training, tests={}) for training in submission.trainings]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _cells(submission: Submission, tables: Tables, protocol: str) -> list[tuple[Pair, SeedIous]]:
    pairs = pairs_of(protocol, submission.generators)
    return list(zip(pairs, seed_ious(submission, tables, protocol), strict=True))


def _row(submission: Submission, tables: Tables, protocol: str) -> Row:
    cells = _cells(submission, tables, protocol)
    averages = [(sources, seed_average(ious)) for _, (sources, ious) in cells]
    bounds = interval(averages)
    seeds = zip(*([float(ious.mean()) for ious in by_seed] for _, (_, by_seed) in cells), strict=True)
    by_generator = {test: float(mean.mean()) for ((_, test), _), (_, mean) in zip(cells, averages, strict=True)}
    return Row(
        iou=float(np.mean(list(by_generator.values()))),
        low=_defined(bounds.low),
        high=_defined(bounds.high),
        spread=_defined(seed_spread([float(np.mean(means)) for means in seeds])),
        by_generator=by_generator,
    )


def _false_alarm_area(submission: Submission, tables: Tables) -> float | None:
    """Return the mean over the loo trainings of the share of authentic images that is predicted as manipulated."""
    if AUTHENTIC not in submission.pixels:
        return None
    pixels = np.array(submission.pixels[AUTHENTIC], np.float64)
    alarms = [
        float((counts[:, 1] / pixels).mean())
        for train, _ in pairs_of("loo", submission.generators)
        for counts in tables.get((train, AUTHENTIC), {}).values()
    ]
    return float(np.mean(alarms)) if alarms else None


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
