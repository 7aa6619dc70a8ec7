"""Finished trainings, tested on another suite: the plan of it, without the leaks from one suite into the other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import relpath
from pathlib import Path

import msgspec

from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.contract.findings import shown, summary
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.data.batches import Subset
from deeploc_bench.data.perturb import parse_perturbation
from deeploc_bench.data.suites import Progress, Suite
from deeploc_bench.data.survey import load_sound
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Recipe, TestedSuite, TrainingFacts
from deeploc_bench.plan.finished import folders_of, model_of, settings_of
from deeploc_bench.plan.job import DEFAULT_RECIPE, Job, Prepared
from deeploc_bench.plan.plan import Plan, PlannedCell, Training
from deeploc_bench.plan.protocols import TRANSFER, Pair
from deeploc_bench.plan.recipe import load_recipe
from deeploc_bench.plan.samples import Samples, read_samples
from deeploc_bench.plan.store import Tested

SHOWN = 3
"""Leaks that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished training: its folder and its facts."""

    folder: Path
    facts: TrainingFacts


def prepare_transfer(
    job: Job, trainings: Sequence[str], runs: Path, progress: Progress, registry: Registry, *, threads: int = 1
) -> tuple[Prepared, Path]:
    """Plan the tests of finished trainings, and of the baselines beside them, on the suite of a job.

    Returns the plan, and the runs folder that holds them all. Raises UsageError where one of them cannot be tested on
    it, DataError where its data has errors, or one of its test images was trained on.
    """
    asked = [Finished(folder=folder, facts=store.read_facts(folder)) for folder in folders_of(trainings, runs)]
    root = _root(asked)
    datasets = registry.suite(job.suite)
    for one in asked:
        _refuse_untestable(one, datasets[0].spec.suite)
    baselines, left_out = _baselines(asked, root, registry)
    every = {one.facts.identity: one for one in (*asked, *baselines)}
    made = {identity: _training(one, registry) for identity, one in every.items()}
    suite, findings = load_sound(datasets, data=job.data, progress=progress, threads=threads)
    warnings = [*summary(findings), *left_out, *_check_leaks(asked, suite)]
    trainings_there = {identity: _told(one, suite) for identity, one in made.items()}
    job = replace(job, data=str(suite.data) if suite.data else None)
    plan = _plan(trainings_there, suite, job.perturbations, [one.facts for one in asked])
    return Prepared(job=job, registry=registry, suite=suite, plan=plan, warnings=tuple(warnings)), root


def _root(asked: Iterable[Finished]) -> Path:
    """Return the runs folder that all trainings lie in."""
    roots = set()
    for one in asked:
        folder = one.folder.resolve()
        if not folder.as_posix().endswith(f"/{store.place_of(one.facts)}"):
            raise UsageError(f"{one.folder} was moved: in a runs folder it lies in {store.place_of(one.facts)}")
        roots.add(Path(relpath(folder.parents[3])))
    if len(roots) > 1:
        raise UsageError(f"the trainings lie in several runs folders, {', '.join(map(str, sorted(roots)))}; name one")
    return roots.pop()


def _refuse_untestable(one: Finished, suite: str) -> None:
    facts, folder = one.facts, one.folder
    settings_of(folder, facts)
    if facts.is_detector:
        raise UsageError(
            f"{folder}: model {facts.model.name!r} was trained on no suite; it is tested by "
            f"'deeploc-bench run --suite {suite} --model {facts.model.name}'"
        )
    if facts.suite == suite:
        raise UsageError(f"{folder} was trained on suite {suite!r} itself, which 'deeploc-bench run' tests it on")


def _baselines(asked: Sequence[Finished], root: Path, registry: Registry) -> tuple[list[Finished], list[str]]:
    """Return the baselines in a runs folder that stand beside some trainings, and what to warn of those left out."""
    found, left_out = [], []
    for suite in sorted({one.facts.suite for one in asked}):
        for file in sorted((root / suite).rglob("training.json")):
            one = Finished(folder=file.parent, facts=store.read_facts(file.parent))
            if one.facts.baseline and any(_is_beside(one.facts, other.facts) for other in asked):
                try:
                    model_of(one.folder, one.facts, registry)
                    found.append(one)
                except UsageError as error:
                    left_out.append(f"warning: a baseline is left out: {error}")
    return found, left_out


def _is_beside(baseline: TrainingFacts, facts: TrainingFacts) -> bool:
    """Tell whether a baseline was fitted on what a training was trained on, or on nothing, beside its data."""
    is_like = baseline.kind == "tested" or (baseline.train, baseline.valid) == (facts.train, facts.valid)
    return is_like and (baseline.suite, baseline.data) == (facts.suite, facts.data)


def _training(one: Finished, registry: Registry) -> Training:
    """Return a finished training without its samples, as it is tested: nothing of it is trained again."""
    nothing = Subset(packs=())
    return Training(
        model=model_of(one.folder, one.facts, registry),
        loss=None,
        recipe=_recipe(one),
        train=nothing,
        valid=nothing,
        facts=one.facts,
    )


def _recipe(one: Finished) -> Recipe:
    """Return the recipe whose settings a training is tested by; its weights are its own."""
    facts, settings = one.facts, settings_of(one.folder, one.facts)
    testing = {"precision": settings.precision, "input_size": settings.input_size}
    weights = "none" if facts.is_learned else settings.weights
    return msgspec.structs.replace(facts.recipe or load_recipe(DEFAULT_RECIPE), **testing, weights=weights)


def _told(training: Training, suite: Suite) -> Training:
    """Return a training whose facts tell of the suite that it is tested on."""
    tested = TestedSuite(
        fingerprint=suite.fingerprint,
        test_data=suite.test_fingerprints,
        standard_generators=suite.standard,
        methods=suite.methods,
        regenerated=suite.regenerated,
        added=suite.added,
    )
    transfers = {**training.facts.transfers, suite.name: tested}
    references = {**training.facts.references, **suite.references}
    return replace(training, facts=msgspec.structs.replace(training.facts, transfers=transfers, references=references))


def _plan(
    trainings: Mapping[str, Training], suite: Suite, perturbations: Sequence[str], asked: Sequence[TrainingFacts]
) -> Plan:
    """Return the tests of each training on every generator of a suite, and their cells."""
    kinds = [None, *dict.fromkeys(parse_perturbation(text) for text in perturbations)]
    edited = [name for name in suite.generators if name != AUTHENTIC]
    tests = [Tested(generator=name, perturbation=kind, suite=suite.name) for name in edited for kind in kinds]
    untouched = [Tested(generator=AUTHENTIC, suite=suite.name)] if AUTHENTIC in suite.generators else []
    cells = []
    for identity, training in trainings.items():
        facts = training.facts
        beside = [facts] if facts.is_learned else asked
        for train, budget in dict.fromkeys((other.train_generators, other.budget) for other in beside):
            for tested in tests:
                pair = Pair(train_generators=train, test_generator=tested.generator)
                cell = PlannedCell(protocol=TRANSFER, budget=budget, pair=pair, tested=tested, identity=identity)
                cells.append(cell)
    every = tuple(sorted((*tests, *untouched), key=lambda one: one.name))
    return Plan(trainings=trainings, tests=dict.fromkeys(trainings, every), cells=tuple(cells))


def _check_leaks(asked: Sequence[Finished], suite: Suite) -> list[str]:
    """Return what to warn of; raises DataError where a test image of a suite was trained or validated on."""
    warnings: dict[str, None] = {}
    for one in asked:
        if one.facts.is_learned:
            samples = read_samples(one.folder, one.facts)
            if leaks := list(_leaks(samples, one.facts.suite, suite)):
                more = [f"and {len(leaks) - SHOWN} more"] if len(leaks) > SHOWN else []
                lines = "\n  ".join(map(shown, [*leaks[:SHOWN], *more]))
                raise DataError(
                    f"{one.folder} cannot be tested on suite {suite.name!r}: {len(leaks)} of its test images were "
                    f"trained or validated on. Leave them out of the suite, or of the training.\n  {lines}"
                )
            warnings |= dict.fromkeys(_namesakes(samples, one.facts.suite, suite))
    return list(warnings)


def _leaks(samples: Samples, trained: str, suite: Suite) -> Iterator[str]:
    """Yield the words for each test image of a suite that is one of some samples, pixel by pixel."""
    known = {image: place for part in samples.parts for image, _, place in part.places()}
    for name, generator in suite.generators.items():
        for entry in generator.splits["test"].entries:
            if place := known.get(entry.image_hash):
                yield f"one image stands in {trained}/{place} and in {suite.name}/{name}/test: {entry.file}"


def _namesakes(samples: Samples, trained: str, suite: Suite) -> Iterator[str]:
    """Yield a warning where sources of two suites are called alike: only who made them knows if they are the same."""
    known = {source: place for part in samples.parts for _, source, place in part.places()}
    tested = {
        entry.source: f"{name}/test: {entry.file}"
        for name, generator in suite.generators.items()
        for entry in generator.splits["test"].entries
    }
    if both := sorted(known.keys() & tested.keys()):
        first = f"{trained}/{known[both[0]]} and {suite.name}/{tested[both[0]]}"
        yield shown(
            f"warning: {len(both)} sources are called alike in what was trained on and in suite {suite.name!r}, such "
            f"as {both[0]!r} of {first}; where they are the same photographs, the training has seen them"
        )
