"""Every aggregate of a submission, made of its records alone, and what is kept of it to compare and to rank."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.leaderboard.submission import About, Claim, Claims, Evidence, Submission, recipe_of
from deeploc_bench.plan.facts import Recipe
from deeploc_bench.plan.protocols import PROTOCOLS, Pair
from deeploc_bench.scoring.metrics import false_alarm_area, image_ious
from deeploc_bench.scoring.records import Records
from deeploc_bench.scoring.statistics import SeedIous, seed_average, summary

PairRecords: TypeAlias = Mapping[Pair, Mapping[int, Records]]
"""The records of a submission by pair, then by seed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """What is kept of a submission that passed: what the page shows of it, and what comparing and ranking need.

    `data` are hashes of what it was tested on, by what they are of, such as `ids of lama`. `preds` are hashes of whole
    prediction sets. `seed_ious` are the held-out image IoUs, test generators in the order of the submission's.
    """

    about: About
    recipe: Recipe | None
    claims: Claims
    parameters: int
    data: Mapping[str, str]
    preds: frozenset[str]
    seed_ious: tuple[SeedIous, ...]

    @property
    def name(self) -> str:
        """Return the submission's name."""
        return self.about.name


def pairs_of(protocol: str, generators: Sequence[str]) -> list[Pair]:
    """Return the pairs of a protocol on standard generators, two or more."""
    return PROTOCOLS[protocol](generators, ())


def records_of(evidence: Evidence) -> PairRecords:
    """Return all records of a submission; the generators of each pair are in the order of the protocols' pairs."""
    records: dict[Pair, dict[int, Records]] = {}
    for training in sorted(evidence.trainings, key=lambda training: training.seed):
        for test in training.tests:
            pair = Pair(train_generators=training.train_generators, test_generator=test)
            records.setdefault(pair, {})[training.seed] = evidence.records(training, test)
    return records


def missing(evidence: Evidence, records: PairRecords, protocol: str) -> list[tuple[int, Pair]]:
    """Return every pair of a protocol that has no records of a declared seed, after the seed."""
    pairs = pairs_of(protocol, evidence.generators)
    return [(seed, pair) for seed in evidence.seeds for pair in pairs if seed not in records.get(pair, ())]


def claims_of(evidence: Evidence, records: PairRecords) -> Claims:
    """Return what may be claimed of records that have every pair of `loo`."""
    loo = _row(evidence, records, "loo")
    same = None if missing(evidence, records, "same") else _row(evidence, records, "same")
    return Claims(
        loo=loo,
        same=same,
        cross=None if missing(evidence, records, "cross") else _matrix(evidence, records),
        worst=min(loo.by_generator.values()),
        gap=same.iou - loo.iou if same else None,
        false_alarm_area=_false_alarm_area(evidence, records),
    )


def entry_of(submission: Submission, records: PairRecords) -> Entry:
    """Return what is kept of a submission that passed its checks."""
    return Entry(
        about=About(**{key: getattr(submission, key) for key in About.__struct_fields__}),
        recipe=recipe_of(submission),
        claims=submission.claims,
        parameters=max(training.environment.parameters for training in submission.trainings),
        data=_data(submission, records),
        preds=frozenset(
            digest(counts.pred)
            for training in submission.trainings
            for test, counts in training.tests.items()
            if test != AUTHENTIC
        ),
        # a board keeps a thousand entries of the same few sources
        seed_ious=tuple((tuple(map(sys.intern, s)), ious) for s, ious in _seed_ious(submission, records, "loo")),
    )


def _data(submission: Submission, records: PairRecords) -> dict[str, str]:
    """Return hashes of everything that two submissions tested on the same data agree on."""
    found = {"fingerprint": submission.fingerprint, "generators": " ".join(submission.generators)}
    for name, ids in submission.ids.items():
        found[f"ids of {name}"] = digest(ids)
        found[f"sources of {name}"] = digest(submission.sources[name])
        found[f"pixels of {name}"] = digest(map(str, submission.pixels[name]))
    for pair, by_seed in records.items():
        one = next(iter(by_seed.values()))
        key = f"mask areas of {pair.test_generator}"
        if key not in found:
            found[key] = digest(map(str, (one.tp + one.fn).tolist()))
    return found


def _seed_ious(evidence: Evidence, records: PairRecords, protocol: str) -> list[SeedIous]:
    return [
        (evidence.sources[pair.test_generator], {seed: image_ious(records[pair][seed]) for seed in evidence.seeds})
        for pair in pairs_of(protocol, evidence.generators)
    ]


def _row(evidence: Evidence, records: PairRecords, protocol: str) -> Claim:
    found = summary(_seed_ious(evidence, records, protocol))
    tests = [pair.test_generator for pair in pairs_of(protocol, evidence.generators)]
    return Claim(
        iou=found.iou,
        low=_defined(found.interval.low),
        high=_defined(found.interval.high),
        spread=_defined(found.spread),
        by_generator=dict(zip(tests, found.generator_ious, strict=True)),
    )


def _matrix(evidence: Evidence, records: PairRecords) -> dict[str, dict[str, float]]:
    """Return the IoU of each pair of `cross`, by train, then by test generator."""
    matrix: dict[str, dict[str, float]] = {}
    cells = zip(pairs_of("cross", evidence.generators), _seed_ious(evidence, records, "cross"), strict=True)
    for pair, (_, by_seed) in cells:
        iou = float(seed_average(list(by_seed.values())).mean())
        matrix.setdefault(pair.train_generators[0], {})[pair.test_generator] = iou
    return matrix


def _false_alarm_area(evidence: Evidence, records: PairRecords) -> float | None:
    """Return the mean over the loo trainings of the share of an untouched image that is predicted as manipulated."""
    untouched = [
        Pair(train_generators=pair.train_generators, test_generator=AUTHENTIC)
        for pair in pairs_of("loo", evidence.generators)
    ]
    alarms = [false_alarm_area(found) for pair in untouched for found in records.get(pair, {}).values()]
    return _defined(float(np.mean(alarms))) if alarms else None


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
