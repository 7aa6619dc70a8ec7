"""What a submission must hold: against itself and its suite. Runs nothing of it.

Checks of values trust the shape: they run only where the checks of shape, of cells and of the suite found nothing.
"""

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from deeploc_bench.contract.errors import RecipeError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.specs import AUTHENTIC, OWN
from deeploc_bench.data.suites import Manifest
from deeploc_bench.leaderboard.claims import PairRecords, ProtocolRows, claims_of, missing, pairs_of, transfer_ious
from deeploc_bench.leaderboard.submission import Claims, Evidence, TrainingRecords, recipe_of
from deeploc_bench.plan.losses import text_of
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.plan.recipe import division
from deeploc_bench.scoring.records import Records

FIRST_DAY = datetime.date(2020, 1, 1)
Findings: TypeAlias = Iterator[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The evidence of a submission of sound shape, its records, and the manifest of its suite, if there is one."""

    evidence: Evidence
    records: PairRecords
    manifest: Manifest | None
    rows: ProtocolRows = field(default_factory=dict)
    """Its rows, once its cells are known to be complete."""

    def of_each_training(self) -> Iterator[tuple[str, Pair, Records]]:
        """Yield the words for each training and test, the pair, and its records."""
        for pair, by_seed in self.records.items():
            for seed, found in by_seed.items():
                yield title_of(seed, pair), pair, found


def check_place(evidence: Evidence, file: Path) -> Findings:
    """Check that the file is called and lies as the submission says."""
    if evidence.name != file.stem:
        yield Finding(check="name", message=f"name {evidence.name!r} is not the file's, {file.stem!r}")
    if file.parent.parent.name == "submissions" and evidence.suite != file.parent.name:
        yield Finding(check="place", message=f"suite {evidence.suite!r} lies in the folder of {file.parent.name!r}")


def check_date(evidence: Evidence) -> Findings:
    """Check that its day has come, somewhere on earth, and that there was such a field of research then."""
    if evidence.date < FIRST_DAY:
        yield Finding(check="date", message=f"date {evidence.date} is before {FIRST_DAY}")
    today = datetime.datetime.now(datetime.UTC).date()
    if evidence.date > today + datetime.timedelta(days=1):
        yield Finding(check="date", message=f"date {evidence.date} is still to come; today is {today}")


def check_origin(evidence: Evidence) -> Findings:
    """Check that source and environments are told, or that predictions were scored, which have neither."""
    told = [evidence.model.source, *(training.environment for training in evidence.trainings)]
    if not evidence.is_scored and None in told:
        message = "the model's source or an environment is null, which only scored predictions have"
        yield Finding(check="origin", message=message)
    if evidence.is_scored and (any(told) or evidence.is_baseline or evidence.recipe is not None or evidence.speed):
        message = "scored predictions have no source, recipe, speed and environment, and are no baseline (false)"
        yield Finding(check="origin", message=message)


def check_order(evidence: Evidence) -> Findings:
    """Check that seeds and ids are sorted, that each appears once, and that there are some."""
    named = {"seeds": evidence.seeds} | {f"ids of {name}": ids for name, ids in evidence.ids.items()}
    for what, values in named.items():
        yield from _sorted(what, values)


def check_shape(evidence: Evidence) -> Findings:
    """Check what all others rest on: two standard generators, ids of all that is tested, lists of one length."""
    generators = evidence.generators
    yield from _sorted("generators", generators)
    if len(generators) < 2:
        yield Finding(check="generators", message="loo needs a suite of two standard generators or more")
    if AUTHENTIC in generators:
        yield Finding(check="generators", message=f"{AUTHENTIC!r} is not a standard generator: it has no edits")
    for name in sorted({*generators, *evidence.sources, *evidence.pixels} - {*evidence.ids}):
        yield Finding(check="ids", message=f"{name!r} has no ids; list the ids of its test images, sorted")
    yield from check_lengths(evidence)


def check_lengths(evidence: Evidence) -> Findings:
    """Check that each list of the images of a test set is as long as that of its ids."""
    for name, ids in evidence.ids.items():
        for what, columns in (("sources", evidence.sources), ("pixels", evidence.pixels)):
            found = len(columns.get(name, ()))
            if name not in columns or found != len(ids):
                yield Finding(check="lengths", message=f"{name} has {len(ids)} ids and {found} {what}; one each")
    for training in evidence.trainings:
        for test, counts in training.tests.items():
            if test not in evidence.ids:
                message = f"{training.title}, is tested on {test!r}, which has no ids"
                yield Finding(check="ids", message=message)
            for what in ("tp", "fp", "fn", "pred"):
                found, ids = len(getattr(counts, what)), evidence.ids.get(test, ())
                if found != len(ids):
                    message = f"{training.title}, test {test}: {found} values of {what} for {len(ids)} ids"
                    yield Finding(check="lengths", message=message)


def check_cells(case: Case) -> Findings:
    """Check that `loo` is complete, `same` and `cross` complete or absent, and that no training is beside them."""
    evidence = case.evidence
    known = {pair.train_generators for name in ("loo", "same") for pair in pairs_of(name, evidence.generators)}
    titles = Counter((training.seed, training.train_generators) for training in evidence.trainings)
    for training in evidence.trainings:
        if training.train_generators not in known:
            yield Finding(check="cells", message=f"{training.title}: belongs to no protocol of the standard generators")
        if training.seed not in evidence.seeds:
            yield Finding(check="seeds", message=f"{training.title}: its seed is not among the declared ones")
        if titles.pop((training.seed, training.train_generators), 0) > 1:
            yield Finding(check="cells", message=f"{training.title}: appears twice")
    yield from _complete(case)


def _complete(case: Case) -> Findings:
    evidence, before = case.evidence, set[Pair]()
    for protocol, rule in (("loo", "required"), ("same", "complete or absent"), ("cross", "complete or absent")):
        pairs = set(pairs_of(protocol, evidence.generators))
        lacking = missing(evidence, case.records, protocol)
        if lacking and (protocol == "loo" or case.records.keys() & (pairs - before)):
            message = f"{protocol} is {rule}: {len(lacking)} of its tests are missing, the first of"
            cure = f"run --protocol {protocol} to the end with every seed"
            yield Finding(check="cells", message=f"{message} {title_of(*lacking[0])}; {cure}")
        before |= pairs
    yield from _untouched(case)


def _untouched(case: Case) -> Findings:
    """False alarms are told of all trainings or of none: of all, where the suite has authentic images."""
    evidence, manifest = case.evidence, case.manifest
    trained = {pair.train_generators for pair in pairs_of("loo", evidence.generators)}
    pairs = [Pair(train_generators=train, test_generator=AUTHENTIC) for train in sorted(trained)]
    lacking = [(seed, pair) for pair in pairs for seed in evidence.seeds if seed not in case.records.get(pair, ())]
    is_due = manifest is not None and AUTHENTIC in manifest.generators
    if lacking and (is_due or len(lacking) < len(pairs) * len(evidence.seeds)):
        message = f"{len(lacking)} tests on authentic images are missing, the first of {title_of(*lacking[0])}"
        yield Finding(check="cells", message=f"{message}; every training of loo is tested on them, or none")


def check_identities(case: Case) -> Findings:
    """Check that trainings of one identity are one: what is never trained stands for several, with the same records."""
    evidence, first = case.evidence, dict[str, TrainingRecords]()
    for training in evidence.trainings:
        other = first.setdefault(training.identity, training)
        shared = training.tests.keys() & other.tests.keys()
        if other is training or not (evidence.is_seeded or any(training.tests[t] != other.tests[t] for t in shared)):
            continue
        yield Finding(check="identity", message=f"{training.title}: has the identity of {other.title}")


def check_held_out(case: Case) -> Findings:
    """Check that no held-out generator was trained on, here or before; a detector declares if it was."""
    evidence = case.evidence
    if evidence.model.trained_on is not None and not evidence.is_detector:
        yield Finding(check="held-out", message="trained_on is only for a detector that is only tested; leave it null")
    for name in sorted({*evidence.pretraining_generators} & {*evidence.generators}):
        yield Finding(check="held-out", message=f"{name} is held out, but the declared pretraining has seen it")
    for training in evidence.trainings:
        strange = sorted({*training.train_generators} - {*evidence.generators})
        if strange:
            message = f"{training.title}: {', '.join(strange):.200} are not among the standard generators"
            yield Finding(check="held-out", message=message)


def check_loss(case: Case) -> Findings:
    """Check that the loss expression is that of its terms, and that the model's own loss is the model's code."""
    evidence = case.evidence
    expected = text_of([(term.weight, term.name, term.parameters) for term in evidence.loss])
    if evidence.loss and evidence.loss_expression != expected:
        message = f"loss_expression {evidence.loss_expression!r}; of its terms it is {expected!r:.300}"
        yield Finding(check="loss", message=message)
    if any(term.name == OWN and term.source != evidence.model.source for term in evidence.loss):
        yield Finding(check="loss", message=f"the source of loss {OWN!r} is not the model's, which it is a part of")


def check_division(case: Case) -> Findings:
    """Check that the division follows from the recipe and the declared facts alone."""
    evidence = case.evidence
    try:
        recipe = recipe_of(evidence)
    except RecipeError as error:
        yield Finding(check="recipe", message=str(error))
        return
    expected = division(recipe, evidence.pretraining) if evidence.loss else "open"
    if evidence.division != expected:
        message = f"division {evidence.division!r}; by its recipe and pretraining it is {expected!r}"
        yield Finding(check="division", message=message)


def check_claims(case: Case, claims: Claims) -> Findings:
    """Check that every claim equals what the records give, to the last of its six decimals."""
    given = _leaves(msgspec.to_builtins(claims_of(case.rows, transfer_ious(case.evidence))))
    claimed = _leaves(msgspec.to_builtins(claims))
    for path in sorted({*given, *claimed}):
        if given.get(path) != claimed.get(path):
            what = repr(".".join(path))  # a stranger's words, which may hold any character
            message = f"{what:.200} is claimed as {claimed.get(path)!r}; the records give {given.get(path)}"
            yield Finding(check="claims", message=message)


def title_of(seed: int, pair: Pair) -> str:
    """Return the words for a test of a training."""
    return f"seed {seed}, trained on {'+'.join(pair.train_generators):.120}, test {pair.test_generator}"


def _sorted(what: str, values: Sequence[Any]) -> Findings:
    check = what.partition(" ")[0]
    if not values and check != "generators":
        yield Finding(check=check, message=f"{what}: there are none")
    for number, (before, after) in enumerate(pairwise(values), start=2):
        if before >= after:
            message = f"{what} must be sorted, each once: number {number}, {after!r}, follows {before!r}"
            yield Finding(check=check, message=message)
            return


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, part in value.items() for key, leaf in _leaves(part, (*path, name)).items()}
