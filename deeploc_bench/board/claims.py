"""Every aggregate of a submission, recomputed from its records."""

from __future__ import annotations

import math

import numpy as np

from deeploc_bench.board.submission import Claims, Row, Submission, TrainingRecords
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.scoring.metrics import false_alarm_area
from deeploc_bench.scoring.records import Records
from deeploc_bench.scoring.rows import Cell, make_rows, mean_row
from deeploc_bench.scoring.rows import Row as ScoredRow

Pair = tuple[tuple[str, ...], str]
"""Train generators, test generator."""


def pairs_of(protocol: str, generators: list[str]) -> list[Pair]:
    """Return the cells of a protocol on standard generators, sorted."""
    if protocol == "loo":
        return [(tuple(other for other in generators if other != name), name) for name in generators]
    if protocol == "same":
        return [((name,), name) for name in generators]
    return [((train,), test) for train in generators for test in generators]


def records_of(submission: Submission, training: TrainingRecords, generator: str) -> Records:
    """Return the records of one training on one test set, without ties and histograms."""
    counts = training.tests[generator]
    tp, fp, fn = (np.array(values, np.int64) for values in (counts.tp, counts.fp, counts.fn))
    tn = np.array(submission.pixels[generator], np.int64) - tp - fp - fn
    nothing = np.zeros_like(tp)
    return Records(
        ids=tuple(submission.ids[generator]),
        sources=tuple(submission.sources[generator]),
        counts=np.stack([tp, fp, fn, tn, nothing, nothing], axis=1).reshape(-1, 6),
        preds=tuple(counts.pred),
    )


def is_complete(submission: Submission, protocol: str) -> bool:
    """Tell whether each cell of a protocol has the records of every declared seed."""
    have = {
        (tuple(training.train_generators), test, training.seed)
        for training in submission.trainings
        for test in training.tests
    }
    return all(
        (train, test, seed) in have
        for train, test in pairs_of(protocol, submission.generators)
        for seed in submission.seeds
    )


def rows_of(submission: Submission, protocol: str) -> list[ScoredRow]:
    """Return a protocol's row of each cell over all seeds."""
    return make_rows([cell for pair in pairs_of(protocol, submission.generators) for cell in _cells(submission, pair)])


def claims_of(submission: Submission) -> Claims:
    """Return what a submission may claim."""
    loo = _row(rows_of(submission, "loo"))
    same = _row(rows_of(submission, "same")) if is_complete(submission, "same") else None
    cross: dict[str, dict[str, float]] = {}
    if is_complete(submission, "cross"):
        for row in rows_of(submission, "cross"):
            cross.setdefault(row.train_generators[0], {})[row.test_generator] = row.iou
    alarms = [
        false_alarm_area(records_of(submission, training, AUTHENTIC))
        for training in submission.trainings
        if AUTHENTIC in training.tests and len(training.train_generators) > 1
    ]
    return Claims(
        loo=loo,
        same=same,
        cross=cross or None,
        worst=min(loo.by_generator.values()),
        gap=same.iou - loo.iou if same else None,
        false_alarm_area=float(np.mean(alarms)) if alarms else None,
    )


def _cells(submission: Submission, pair: Pair) -> list[Cell]:
    train, test = pair
    return [
        Cell(
            protocol="",
            budget=submission.budget,
            model=submission.model.name,
            loss=submission.loss_expression,
            recipe="",
            seed=training.seed,
            train_generators=train,
            test_generator=test,
            training=training.identity,
            records=records_of(submission, training, test),
            authentic=None,
        )
        for training in sorted(submission.trainings, key=lambda training: training.seed)
        if tuple(training.train_generators) == train and test in training.tests
    ]


def _row(rows: list[ScoredRow]) -> Row:
    mean = mean_row(rows)
    return Row(
        iou=mean.iou,
        low=_defined(mean.interval.low),
        high=_defined(mean.interval.high),
        spread=_defined(mean.spread),
        by_generator={row.test_generator: row.iou for row in rows},
    )


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
