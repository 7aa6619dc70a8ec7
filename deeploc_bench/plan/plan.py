"""From what was asked for to unique trainings, the tests of each, and the cells that are read from them. Torch-free."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec.structs import asdict, replace

from deeploc_bench.contract.errors import WeightsError
from deeploc_bench.contract.files import open_regular
from deeploc_bench.contract.owned import Owned, claim
from deeploc_bench.contract.specs import AUTHENTIC, Model, Split
from deeploc_bench.data.batches import Subset, all_samples
from deeploc_bench.data.perturb import Perturbation
from deeploc_bench.data.suites import Suite
from deeploc_bench.plan.facts import Code, Recipe, Term, TrainingFacts, code_of, identified
from deeploc_bench.plan.losses import LossExpression, WeightedLoss
from deeploc_bench.plan.protocols import HELD_OUT, SCORE, Pair, matched, pairs_of
from deeploc_bench.plan.recipe import NO_FILE, resolve, testing_of
from deeploc_bench.plan.store import Tested, place_of

MOST_WEIGHTS = 2**35
"""The largest file of weights, in bytes; a longer one is no model's, and would be hashed for hours."""
Choice: TypeAlias = tuple[LossExpression | None, int]
"""A loss and a seed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """One content-addressed fit, with the facts that identify it; only what is trained by a recipe has a loss."""

    model: Owned[Model]
    loss: LossExpression | None
    recipe: Recipe
    train: Subset
    valid: Subset
    facts: TrainingFacts

    @property
    def place(self) -> str:
        """Return the training's folder, relative to the runs folder."""
        return place_of(self.facts)

    @property
    def seed(self) -> int:
        """Return the seed."""
        return self.facts.seed

    @property
    def title(self) -> str:
        """Return the words of a progress bar."""
        trained = "+".join(self.facts.train_generators)
        return f"{self.facts.what} on {trained} seed {self.seed}" if trained else self.facts.what


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """One cell of one protocol: the identity of the training whose records it reads, and which of them."""

    protocol: str
    budget: str
    pair: Pair
    tested: Tested
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Unique trainings by identity, the test sets of each, and the cells that read them."""

    trainings: Mapping[str, Training]
    tests: Mapping[str, tuple[Tested, ...]]
    cells: tuple[PlannedCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for, resolved but for each model's own recipe overrides."""

    protocols: Sequence[str]
    budget: str
    models: Sequence[Owned[Model]]
    losses: Sequence[LossExpression]
    recipe: Recipe
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    perturbations: Sequence[Perturbation] = ()


def make_plan(suite: Suite, request: Request) -> Plan:
    """Turn a request into unique trainings, then into the cells that read them.

    A training is what its inputs are: models, losses and weights files are hashed once, samples are drawn once for each
    set of train generators, and protocols that need the same training share it. Raises UsageError, RecipeError.
    """
    make = _Trainings(suite, request)
    pairs = [
        # all samples of one generator are the matched budget too
        (protocol, request.budget if protocol in HELD_OUT and len(pair.train_generators) > 1 else "full", pair)
        for protocol in (request.protocols if suite.standard else [SCORE])
        for pair in pairs_of(protocol, suite.standard, suite.test_only, suite.included)
    ]
    authentic = {Tested(generator=AUTHENTIC)} if AUTHENTIC in suite.generators else set()
    trainings: dict[str, Training] = {}
    tests: dict[str, set[Tested]] = {}
    cells = []
    for model in request.models:
        for choice, (protocol, budget, pair) in product(make.choices(model), pairs):
            if model.spec.fits_itself and not pair.train_generators:
                continue
            training = make.training(model, choice, pair.train_generators, budget)
            identity = training.facts.identity
            trainings[identity] = training
            for perturbation in (None, *request.perturbations):
                tested = Tested(generator=pair.test_generator, perturbation=perturbation)
                tests.setdefault(identity, set(authentic)).add(tested)
                cell = PlannedCell(protocol=protocol, budget=budget, pair=pair, tested=tested, identity=identity)
                cells.append(cell)
    return Plan(trainings=trainings, tests=_ordered(tests), cells=tuple(cells))


def make_test_plan(suite: Suite, request: Request, pairs: Sequence[Pair]) -> Plan:
    """Return the plan that tests those models of a request that have no loss on what each pair tests; it has no cells.

    Baselines that fit themselves are fitted on a pair's train generators, and left out where there are none.
    """
    make = _Trainings(suite, request)
    trainings: dict[str, Training] = {}
    tests: dict[str, set[Tested]] = {}
    for model, pair in product(request.models, pairs):
        if not model.spec.trainable or (model.spec.fits_itself and pair.train_generators):
            training = make.training(model, (None, 0), pair.train_generators, "full")
            trainings[training.facts.identity] = training
            tests.setdefault(training.facts.identity, set()).add(Tested(generator=pair.test_generator))
    return Plan(trainings=trainings, tests=_ordered(tests), cells=())


def _ordered(tests: Mapping[str, set[Tested]]) -> dict[str, tuple[Tested, ...]]:
    return {identity: tuple(sorted(found, key=lambda one: one.name)) for identity, found in tests.items()}


def untrained_facts(suite: Suite, kind: Literal["tested", "scored"], model: Code) -> TrainingFacts:
    """Return the facts of a model that was not trained here, on a suite; they have no identity yet."""
    return TrainingFacts(
        kind=kind,
        suite=suite.name,
        fingerprint=suite.fingerprint,
        data=suite.standard_fingerprint,
        test_data=suite.test_fingerprints,
        standard_generators=suite.standard,
        methods=suite.methods,
        regenerated=suite.regenerated,
        references=suite.references,
        added=suite.added,
        included=suite.included,
        model=model,
    )


class _Trainings:
    """Makes the trainings of a suite; each file is hashed, each subset drawn and each training made once."""

    def __init__(self, suite: Suite, request: Request) -> None:
        self.suite, self.request = suite, request
        self.codes = {claim(owned.spec): code_of(owned) for owned in self._plugins()}
        self.subset = cache(self._subset)
        self.weights = cache(file_hash)
        self.made: dict[Any, Training] = {}
        self.about = untrained_facts(suite, "tested", next(iter(self.codes.values())))

    def _plugins(self) -> list[Owned[Any]]:
        return [*self.request.models, *(owned for loss in self.request.losses for owned in loss.losses)]

    def choices(self, model: Owned[Model]) -> list[Choice]:
        """Return the losses and seeds that a model is trained with; none and 0 for one that no recipe trains."""
        if model.spec.fits_itself or not model.spec.trainable:
            return [(None, 0)]
        return list(product(self.request.losses, self.request.seeds))

    def training(self, model: Owned[Model], choice: Choice, generators: tuple[str, ...], budget: str) -> Training:
        """Return the training of a model with a loss and a seed on some generators."""
        loss, seed = choice
        if not model.spec.trainable:
            generators, budget = (), "full"
        key = (model.spec.name, loss and loss.text, seed, generators, budget)
        if key not in self.made:
            train, valid = self.subset(generators, "train", budget), self.subset(generators, "valid", budget)
            recipe = resolve(self.request.recipe, model.spec, self.request.settings)
            facts = self._facts(model, loss, recipe)
            if facts.is_learned:
                facts = replace(
                    facts,
                    train_generators=generators,
                    train_samples=tuple(len(positions) for _, positions in train.packs),
                    available_samples=tuple(len(pack) for pack, _ in train.packs),
                    seed=seed,
                    train=train.fingerprint,
                    valid=valid.fingerprint,
                )
            self.made[key] = Training(
                model=model, loss=loss, recipe=recipe, train=train, valid=valid, facts=identified(facts)
            )
        return self.made[key]

    def _facts(self, model: Owned[Model], loss: LossExpression | None, recipe: Recipe) -> TrainingFacts:
        weights = None if recipe.weights in NO_FILE else self.weights(recipe.weights)
        recorded = replace(recipe, weights="file") if weights else recipe  # it counts by its hash, wherever it lies
        code, spec = self.codes[claim(model.spec)], model.spec
        described = [part.spec for part in (*model.parts, *(loss.losses if loss else ()))]
        facts = replace(
            self.about,
            model=code,
            baseline=spec.baseline,
            pretraining="none" if recipe.weights == "none" and spec.pretraining else spec.pretraining,
            weights=weights,
            references={**self.about.references, **{claim(one): one.reference for one in described if one.reference}},
        )
        if spec.trained_on is not None:
            facts = replace(facts, trained_on=tuple(sorted({*spec.trained_on})))
        elif spec.is_detector:
            facts = replace(facts, pretraining=None)  # "none" would say that it has seen nothing
        if loss is None:
            kind = "fitted" if model.spec.trainable else "tested"
            return replace(facts, kind=kind, testing=testing_of(recorded))
        return replace(
            facts,
            kind="trained",
            loss=tuple(self._term(term, code) for term in loss.terms),
            loss_expression=loss.text,
            recipe=recorded,
        )

    def _term(self, term: WeightedLoss, model: Code) -> Term:
        """Return what is written down of a term; the code of what the model brings itself is the model's."""
        code = replace(self.codes[claim(term.loss.spec)] if term.loss else model, name=term.name)
        return Term(**asdict(code), weight=term.weight, parameters=term.parameters)

    def _subset(self, generators: tuple[str, ...], split: Split, budget: str) -> Subset:
        packs = [self.suite.generators[name].splits[split] for name in generators]
        return matched(packs) if budget == "matched" and packs else all_samples(*packs)


def file_hash(file: str) -> str:
    """Return the hash (64 hex) of a weights file's content; raises WeightsError where it cannot be read."""
    try:
        with open_regular(Path(file)) as content:
            if (size := Path(file).stat().st_size) > MOST_WEIGHTS:
                raise WeightsError(f"weights file {file} has {size} bytes; allowed are at most {MOST_WEIGHTS}")
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights file {file} cannot be read: {error.strerror}") from None
