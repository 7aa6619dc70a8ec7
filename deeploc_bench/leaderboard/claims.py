"""Every aggregate of a submission, made of its records alone, and what is kept of it to compare and to rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan, sqrt
from typing import TypeAlias

import numpy as np
from msgspec import structs

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.leaderboard.submission import About, Claim, Claims, Evidence, Submission, recipe_of
from deeploc_bench.plan.facts import Recipe
from deeploc_bench.plan.protocols import PROTOCOLS, RANKED, Pair, declared
from deeploc_bench.results.comparison import Method
from deeploc_bench.results.rows import Rows, make_row, mean_row
from deeploc_bench.scoring.metrics import false_alarm_area
from deeploc_bench.scoring.records import Records

DIGITS = 6
"""Decimals of a claim: few enough that no claim rests on the last bit of a machine's arithmetic."""
NEARLY_ALL = 0.9
"""A prediction of more of an edited image floods it, where the mask covers less than half."""
PairRecords: TypeAlias = Mapping[Pair, Mapping[int, Records]]
"""The records of a submission by pair, then by seed."""
TransferIous: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]
ProtocolRows: TypeAlias = Mapping[str, Rows]
"""The rows of the protocols that a submission has all pairs of."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """What is kept of a submission that passed: what the page shows of it, and what comparing and ranking need.

    `data` are hashes of what it was tested on, by what they are of, such as `ids of lama`. `predictions` are hashes of
    the counts of whole test sets. `flooded` is the share of the held-out tests of edited images in which nearly all of
    the image is predicted, though most of it is authentic.
    """

    about: About
    recipe: Recipe | None
    claims: Claims
    parameters: int
    data: Mapping[str, str]
    predictions: frozenset[str]
    flooded: float
    rows: ProtocolRows

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


def rows_of(evidence: Evidence, records: PairRecords) -> ProtocolRows:
    """Return the rows of each protocol that a submission is complete in."""
    complete = [name for name in RANKED if not missing(evidence, records, name)]
    return {name: _rows(evidence, records, pairs_of(name, evidence.generators)) for name in complete}


def claims_of(rows: ProtocolRows, transfers: TransferIous | None = None) -> Claims:
    """Return what may be claimed of rows that have `loo`, and of the tests on other suites."""
    loo, same = _claim(rows["loo"]), _claim(rows["same"]) if "same" in rows else None
    return Claims(
        loo=loo,
        same=same,
        cross=_matrix(rows["cross"]) if "cross" in rows else None,
        worst=min(loo.by_generator.values()),
        gap=_rounded(_iou(rows["same"]) - _iou(rows["loo"])) if same else None,
        false_alarm_area=_rounded(rows["loo"].mean.false_alarm_area),
        transfers=transfers or {},
    )


def transfer_ious(evidence: Evidence) -> TransferIous:
    """Return the IoU, over seeds, on each other suite, by what was trained on and by test generator."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for suite in sorted(evidence.transfers):
        for pair, by_seed in records_of(evidence.transferred(suite)).items():
            row = make_row(pair, by_seed, seeded=evidence.is_seeded)
            if row.score and pair.test_generator != AUTHENTIC:
                own = found.setdefault(suite, {}).setdefault("+".join(pair.train_generators), {})
                own[pair.test_generator] = round(row.score.iou, DIGITS)
    return found


def claimed(evidence: Evidence, records: PairRecords) -> Submission:
    """Return evidence that has every pair of `loo` with the claims that its records give."""
    return Submission(**structs.asdict(evidence), claims=claims_of(rows_of(evidence, records), transfer_ious(evidence)))


def entry_of(submission: Submission, records: PairRecords, rows: ProtocolRows) -> Entry:
    """Return what is kept of a submission that passed its checks."""
    return Entry(
        about=About(**{key: getattr(submission, key) for key in About.__struct_fields__}),
        recipe=recipe_of(submission),
        claims=submission.claims,
        parameters=max(one.environment.parameters if one.environment else 0 for one in submission.trainings),
        data=_data(submission, records),
        predictions=frozenset(
            digest(map(str, (*counts.tp, *counts.fp)))
            for training in submission.trainings
            for test, counts in training.tests.items()
            if test != AUTHENTIC
        ),
        flooded=_flooded(submission, records),
        rows=rows,
    )


def shown_of(entry: Entry) -> Entry:
    """Return an entry with no more rows than a page shows, since a board holds thousands: of `same` the mean alone."""
    rows = {"loo": entry.rows["loo"]}
    if "same" in entry.rows:
        rows["same"] = replace(entry.rows["same"], pairs=())
    return replace(entry, rows=rows)


def _flooded(evidence: Evidence, records: PairRecords) -> float:
    found = [one for pair in pairs_of("loo", evidence.generators) for one in records[pair].values()]
    whole = [(one.tp + one.fp > NEARLY_ALL * one.pixels) & (one.tp + one.fn < one.pixels / 2) for one in found]
    return float(np.concatenate(whole).mean())


def method_of(entry: Entry, protocol: str) -> Method:
    """Return an entry as one of two methods that are compared; it has all pairs of the protocol."""
    about = entry.about
    return Method(
        name=about.name,
        suite=about.suite,
        protocol=protocol,
        budget=about.budget if protocol == "loo" else "full",
        rows=entry.rows[protocol],
        standard=about.generators,
        elsewhere=f"trained elsewhere: {declared(about.model.trained_on)}" if about.is_detector else "",
    )


def _data(submission: Submission, records: PairRecords) -> dict[str, str]:
    """Return hashes of everything that two submissions tested on the same data agree on."""
    # a test-only generator that one of them lacks makes another fingerprint, of data that is the same all the same
    what = f"fingerprint of {', '.join(sorted(submission.ids))}"
    found = {what: submission.fingerprint, "generators": " ".join(submission.generators)}
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


def _rows(evidence: Evidence, records: PairRecords, pairs: Sequence[Pair]) -> Rows:
    tests = {pair: {seed: records[pair][seed] for seed in evidence.seeds} for pair in pairs}
    rows = [
        make_row(pair, found, seeded=evidence.is_seeded, alarm=_false_alarm_area(pair, records))
        for pair, found in tests.items()
    ]
    return Rows(pairs=tuple(rows), mean=mean_row(rows, list(tests.values())), seeds=evidence.seeds)


def _false_alarm_area(pair: Pair, records: PairRecords) -> float:
    """Return the mean over seeds of the share of an untouched image that a pair's training takes for manipulated."""
    untouched = records.get(Pair(train_generators=pair.train_generators, test_generator=AUTHENTIC), {})
    return float(np.mean([false_alarm_area(found) for found in untouched.values()])) if untouched else nan


def _claim(rows: Rows) -> Claim:
    found = rows.mean.score
    assert found is not None  # a submission has all seeds of all pairs, on the same images
    tests = [row.pair.test_generator for row in rows.pairs if row.pair]
    return Claim(
        iou=round(found.iou, DIGITS),
        standard_error=_rounded(sqrt(found.source_variance)),
        spread=_rounded(found.spread),
        by_generator={test: round(iou, DIGITS) for test, iou in zip(tests, found.generator_ious, strict=True)},
    )


def _matrix(rows: Rows) -> dict[str, dict[str, float]]:
    """Return the IoU of each pair of `cross`, by train, then by test generator."""
    matrix: dict[str, dict[str, float]] = {}
    for row in rows.pairs:
        assert row.pair is not None and row.score is not None
        matrix.setdefault(row.pair.train_generators[0], {})[row.pair.test_generator] = round(row.score.iou, DIGITS)
    return matrix


def _iou(rows: Rows) -> float:
    assert rows.mean.score is not None
    return rows.mean.score.iou


def _rounded(value: float | None) -> float | None:
    return None if value is None or isnan(value) else round(value, DIGITS)
