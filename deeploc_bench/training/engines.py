"""Engines: where the trainings of a plan are done, one after the other here or fanned out over Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deeploc_bench.contract.errors import DeeplocError, TrainingFailed
from deeploc_bench.plan import store
from deeploc_bench.plan.job import Prepared
from deeploc_bench.training import ranks
from deeploc_bench.training.work import Workplace, current_facts, train_and_test, untested

if TYPE_CHECKING:
    import torch

    from deeploc_bench.plan.plan import Training
    from deeploc_bench.plan.store import Tested


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a plan: trainings done now and before, and the reasons of those that failed; by identity."""

    trained: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


Remaining = list[tuple["Training", "list[Tested]"]]
"""The trainings that are not finished, each with the test sets that it is yet to be tested on."""


def to_do(prepared: Prepared, place: Workplace) -> tuple[Remaining, Outcome]:
    """Return what is not done of a plan, and an outcome that tells what is.

    Raises StoreError where the facts or records of a finished training are damaged.
    """
    remaining, outcome = [], Outcome()
    for identity, training in prepared.plan.trainings.items():
        folder = place.runs / training.place
        is_trained = store.is_trained(folder)
        if is_trained and training.loss:
            outcome.reused.append(identity)
        tests = untested(prepared, training, folder)
        is_recorded = (folder / "training.json").exists() and store.read_facts(folder) == current_facts(
            training, folder
        )
        if tests or not is_recorded or (training.loss and not is_trained):
            remaining.append((training, tests))
    return remaining, outcome


def run_local(prepared: Prepared, place: Workplace) -> Outcome:
    """Do every unfinished training here; one that fails does not stop the others.

    Raises DeeplocError for what must stop them all: a broken plugin, missing weights, a full disk.
    """
    remaining, outcome = to_do(prepared, place)
    if not remaining:
        return outcome
    device = rehearsed(remaining, place)
    with ranks.process_group(device):
        for training, _ in remaining:
            with recording_failures(outcome, training.facts.identity):
                record(outcome, training, train_and_test(prepared, training, place, device))
    return outcome


def run_ray(prepared: Prepared, place: Workplace) -> Outcome:
    """Do every unfinished training as a Ray task of its own; see `ray_engine.run`."""
    from deeploc_bench.training import ray_engine

    return ray_engine.run(prepared, place)


ENGINES: Mapping[str, Callable[[Prepared, Workplace], Outcome]] = {"local": run_local, "ray": run_ray}


def rehearsed(remaining: Remaining, place: Workplace) -> torch.device:
    """Rehearse each model, loss and weights once, and return the device; raises DeeplocError before any training."""
    from deeploc_bench.training.build import rehearse
    from deeploc_bench.training.device import resolve_device

    device = resolve_device(place.device)
    seen = set()
    for training, tests in remaining:
        if not tests and store.is_trained(place.runs / training.place):
            continue  # nothing of it is computed
        key = (training.model.spec.name, training.recipe.weights, training.loss and training.loss.text)
        if key not in seen:
            rehearse(training)
            seen.add(key)
    return device


def record(outcome: Outcome, training: Training, is_new: bool) -> None:
    """Count a training that was done, here or by another process that had its lock."""
    identity = training.facts.identity
    if is_new:
        outcome.trained.append(identity)
    elif training.loss and identity not in outcome.reused:
        outcome.reused.append(identity)


@contextmanager
def recording_failures(outcome: Outcome, identity: str) -> Iterator[None]:
    """Note why a training failed, so that the others go on; what must stop them all is raised."""
    try:
        yield
    except TrainingFailed as error:
        outcome.failed[identity] = str(error)
    except (DeeplocError, MemoryError):
        raise
    except Exception as error:
        if ranks.processes() > 1:
            raise  # the other processes wait for this one
        outcome.failed[identity] = f"{type(error).__name__}: {' '.join(str(error).split())}"
