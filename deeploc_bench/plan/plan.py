"""From what was asked for to unique trainings, their tests, and the cells that are read from them. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import msgspec

from deeploc_bench.contract.registry import Owned, origin
from deeploc_bench.contract.specs import AUTHENTIC, Model, Split
from deeploc_bench.data.batches import Subset, whole
from deeploc_bench.data.suites import Suite
from deeploc_bench.plan.protocols import PROTOCOLS, matched
from deeploc_bench.plan.recipe import LossExpression, Recipe, resolve, weights_hash

SCHEMA = 1
BASELINES = ("all-manipulated", "centre-prior")
"""The trivial baselines that every table shows."""
TESTING_KEYS = ("input_size", "precision", "weights")
"""The recipe keys that matter to a model that is never trained."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """One content-addressed fit; a model that is never trained has no loss and no train generators.

    `inputs` is what training.json says: all that the fit depends on, and its `identity`.
    """

    suite: str
    model: Owned[Model]
    loss: LossExpression | None
    recipe: Recipe
    seed: int
    train_generators: tuple[str, ...]
    train: Subset
    valid: Subset
    inputs: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Return the hash of all that the fit depends on, 64 hex digits."""
        return str(self.inputs["identity"])

    @property
    def place(self) -> str:
        """Return the training's folder, relative to the runs folder."""
        loss = f"+{self.loss.text.replace('*', 'x')}" if self.loss else ""
        generators = "+".join(self.train_generators) or "untrained"
        return f"{self.suite}/{self.model.spec.name}{loss}/{generators}/seed{self.seed}-{self.identity[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """One cell of one protocol, and the training whose records it reads."""

    protocol: str
    budget: str
    train_generators: tuple[str, ...]
    test_generator: str
    perturbation: str
    training: Training

    @property
    def test(self) -> str:
        """Return what the records are called after: `generator`, or `generator@perturbation`."""
        return f"{self.test_generator}@{self.perturbation}" if self.perturbation else self.test_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Unique trainings with the tests of each, and the cells that read them."""

    tests: Mapping[Training, tuple[str, ...]]
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
    perturbations: Sequence[str] = ()


def make_plan(suite: Suite, request: Request) -> Plan:
    """Turn a request into unique trainings and cells; trainings are shared wherever their inputs are equal."""
    cells = [cell for model in request.models for cell in _cells_of(suite, request, model)]
    unique: dict[str, Training] = {}
    tests: dict[Training, set[str]] = {}
    shared = []
    for cell in cells:
        training = unique.setdefault(cell.training.identity, cell.training)
        tests.setdefault(training, {AUTHENTIC} & set(suite.generators)).add(cell.test)
        shared.append(replace(cell, training=training))
    return Plan(tests={training: tuple(sorted(names)) for training, names in tests.items()}, cells=tuple(shared))


def _cells_of(suite: Suite, request: Request, model: Owned[Model]) -> Iterator[PlannedCell]:
    recipe = resolve(request.recipe, model.spec, request.settings)
    samples = cache(lambda generators, budget: _samples(suite, generators, budget))
    is_trained = model.spec.trainable
    choices = product(request.losses, request.seeds) if is_trained else [(None, 0)]
    for (loss, seed), protocol in product(choices, request.protocols):
        budget = request.budget if protocol == "loo" else "full"
        for cell in PROTOCOLS[protocol](suite.standard, suite.test_only):
            generators = cell.train_generators if is_trained else ()
            train, valid = samples(generators, budget)
            inputs = _inputs(suite, model, loss, recipe, seed=seed, generators=generators, samples=(train, valid))
            training = Training(
                suite=suite.name,
                model=model,
                loss=loss,
                recipe=recipe,
                seed=seed,
                train_generators=generators,
                train=train,
                valid=valid,
                inputs=inputs,
            )
            for perturbation in ("", *request.perturbations):
                yield PlannedCell(
                    protocol=protocol,
                    budget=budget,
                    train_generators=cell.train_generators,
                    test_generator=cell.test_generator,
                    perturbation=perturbation,
                    training=training,
                )


def _samples(suite: Suite, generators: tuple[str, ...], budget: str) -> tuple[Subset, Subset]:
    return _drawn(suite, generators, "train", budget), _drawn(suite, generators, "valid", budget)


def _drawn(suite: Suite, generators: tuple[str, ...], split: Split, budget: str) -> Subset:
    packs = [suite.generators[name].splits[split] for name in generators]
    return matched(packs) if budget == "matched" and packs else whole(*packs)


def _inputs(
    suite: Suite,
    model: Owned[Model],
    loss: LossExpression | None,
    recipe: Recipe,
    *,
    seed: int,
    generators: tuple[str, ...],
    samples: tuple[Subset, Subset],
) -> dict[str, Any]:
    settled: dict[str, Any] = msgspec.to_builtins(recipe)
    depends: dict[str, Any] = {
        "schema": SCHEMA,
        "model": origin(model),
        "loss": [{"weight": weight, **origin(term)} for weight, term in loss.terms] if loss else None,
        "weights": weights_hash(recipe),
        "recipe": {key: settled[key] for key in (settled if loss else TESTING_KEYS) if key != "name"},
        "seed": seed,
        "train": samples[0].fingerprint,
        "valid": samples[1].fingerprint,
    }
    if depends["weights"]:
        depends["recipe"]["weights"] = "file"  # its hash counts, not where it lies
    identity = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    return {
        "identity": identity,
        "suite": suite.name,
        "fingerprint": suite.fingerprint,
        "standard_generators": suite.standard,
        "train_generators": generators,
        "train_samples": _counts(samples[0]),
        "available_samples": [len(suite.generators[name].splits["train"]) for name in generators],
        "loss_expression": loss.text if loss else None,
        "recipe_name": recipe.name,
        "pretraining": model.spec.pretraining,
        **depends,
    }


def budget_of(inputs: Mapping[str, Any]) -> str:
    """Return `matched` where a training.json tells of less than all samples of its generators, else `full`."""
    return "full" if inputs["train_samples"] == inputs["available_samples"] else "matched"


def _counts(subset: Subset) -> list[int]:
    return [len(positions) for _, positions in subset.parts]
