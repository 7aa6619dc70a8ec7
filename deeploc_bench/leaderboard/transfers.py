"""Tests of a submission's trainings on other suites: collected, checked against those suites' manifests, and shown."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path

import numpy as np
from msgspec import structs

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.data.suites import Manifest
from deeploc_bench.leaderboard.checks import Case, Findings, check_lengths, check_order
from deeploc_bench.leaderboard.claims import claimed, records_of
from deeploc_bench.leaderboard.collect import counts_of, tests_of
from deeploc_bench.leaderboard.data_checks import check_areas, check_predictions, check_suite
from deeploc_bench.leaderboard.folder import unlisted
from deeploc_bench.leaderboard.ranking import Ranked
from deeploc_bench.leaderboard.submission import Evidence, Submission, Transfer, TransferRecords
from deeploc_bench.results.cells import Cell, grouped, read_cells
from deeploc_bench.results.render import Table, number


def with_transfers(submission: Submission, runs: Path, suites: Sequence[str]) -> Submission:
    """Return a submission with the tests of its trainings on other suites, out of the runs folder it was collected of.

    Raises UsageError where a training was not tested on one of them.
    """
    if not suites:
        return submission
    cells = [cell for cell in read_cells(runs) if not cell.added_by and not cell.perturbation]
    transfers = {}
    for suite in dict.fromkeys(suites):
        own = grouped((cell for cell in cells if cell.transferred == suite), lambda cell: cell.facts.identity)
        lacking = [training for training in submission.trainings if training.identity not in own]
        if lacking:
            raise UsageError(
                f"{submission.name}: {len(lacking)} trainings were not tested on {suite}, the first: "
                f"{lacking[0].title}. Test them: deeploc-bench test TRAINING... --suite {suite}"
            )
        transfers[suite] = _transfer(suite, {one.identity: own[one.identity] for one in submission.trainings})
    evidence = structs.replace(submission, transfers=transfers)
    values = {key: getattr(evidence, key) for key in Evidence.__struct_fields__}
    return claimed(Evidence(**values), records_of(evidence))


def _transfer(suite: str, cells: Mapping[str, Sequence[Cell]]) -> Transfer:
    tests = {identity: tests_of(own) for identity, own in cells.items()}
    known = next(iter(tests.values()))  # a training that was tested on other images is refused by its check
    tested = next(iter(cells.values()))[0].facts.transfers[suite]
    return Transfer(
        fingerprint=tested.fingerprint,
        generators=tuple(sorted(tested.standard_generators)),
        ids={name: records.ids for name, records in known.items()},
        sources={name: records.sources for name, records in known.items()},
        pixels={name: tuple(records.pixels.tolist()) for name, records in known.items()},
        trainings=tuple(
            TransferRecords(identity=identity, tests={name: counts_of(records) for name, records in found.items()})
            for identity, found in tests.items()
        ),
    )


def check_transfers(evidence: Evidence, manifests: Mapping[str, Manifest]) -> Findings:
    """Check the tests on other suites: of all trainings, on the images of the suites' manifests, count by count."""
    for suite in sorted(evidence.transfers):
        for finding in _check(evidence, suite, manifests.get(suite)):
            yield structs.replace(finding, message=f"transfer to {suite}: {finding.message}")


def _check(evidence: Evidence, suite: str, manifest: Manifest | None) -> Findings:
    if suite == evidence.suite:
        yield Finding(check="transfer", message="that is its own suite, whose tests stand with its trainings")
        return
    if manifest is None:
        yield Finding(check="manifest", message=unlisted(suite))
        return
    due = sorted(training.identity for training in evidence.trainings)
    if sorted(one.identity for one in evidence.transfers[suite].trainings) != due or len({*due}) < len(due):
        message = "the trainings tested there must be those of the submission, each once"
        yield Finding(check="transfer", message=message)
        return
    own = evidence.transferred(suite)
    shape = [*check_order(own), *check_lengths(own), *_all_tested(own)]
    yield from shape
    if shape:
        return
    case = Case(evidence=own, records=records_of(own), manifest=manifest)
    found = [*check_suite(case)]
    yield from found
    if not found:
        yield from check_areas(case)
        yield from check_predictions(case)


def _all_tested(own: Evidence) -> Findings:
    """Every training is tested on all that any is tested on, all standard generators of the suite among it."""
    if lacking := sorted({*own.generators, *own.sources, *own.pixels} - {*own.ids}):
        yield Finding(check="ids", message=f"{lacking[0]!r} has no ids; list the ids of its test images, sorted")
    for training in own.trainings:
        if training.tests.keys() != own.ids.keys():
            message = f"{training.title}: tested on {', '.join(sorted(training.tests))}; due: {', '.join(own.ids)}"
            yield Finding(check="transfer", message=message)


def transfer_table(rows: Sequence[Ranked]) -> Table:
    """Return the mean IoU on each other suite beside that on the own one, by how many generators were trained on."""
    suites = sorted({suite for row in rows for suite in row.entry.claims.transfers})
    lines = []
    for entry in (row.entry for row in rows if row.entry.claims.transfers):
        others = len(entry.about.generators) - 1
        for words, count, own in (("one", 1, entry.claims.same), ("all but one", others, entry.claims.loo)):
            means = (_mean(entry.claims.transfers.get(suite, {}), count) for suite in suites)
            lines.append((entry.name, words, number(own.iou if own else nan), *map(number, means)))
    own_suite = rows[0].entry.about.suite if rows else ""
    return Table(headers=("entry", "trained on", own_suite, *suites), lines=tuple(lines))


def _mean(ious: Mapping[str, Mapping[str, float]], count: int) -> float:
    """Return the mean over trainings on so many generators of the mean over what was tested."""
    means = [np.mean([*by_test.values()]) for train, by_test in ious.items() if len(train.split("+")) == count]
    return float(np.mean(means)) if means else nan
