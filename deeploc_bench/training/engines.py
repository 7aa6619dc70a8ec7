"""Does what is not done of a plan: each training is fitted where it is not finished and tested where it is not tested.

Torch is imported where something is to be computed, so that a plan that is done is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from deeploc_bench.contract.errors import DeeplocError, StoreError, TrainingFailed, reason_of
from deeploc_bench.contract.registry import Registry, observe
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Progress
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch, TrainingFacts, keeping_added
from deeploc_bench.plan.job import Prepared
from deeploc_bench.plan.plan import Training
from deeploc_bench.plan.store import Tested
from deeploc_bench.training import ranks

if TYPE_CHECKING:
    import torch

    from deeploc_bench.training.evaluate import Localizer

EXAMPLES = 3
"""Test images of each generator kept as pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where and how trainings are done: runs folder, device, threads, and how progress and messages are shown."""

    runs: Path
    device: str = "auto"
    threads: int = 1
    progress: Progress
    say: Callable[[str], None]
    is_terminal: bool = True
    """Where progress cannot be seen, a line an epoch is said instead."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a plan: trainings done now and before, and the reasons of those that failed; by identity."""

    trained: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


Remaining = list[tuple[Training, list[Tested]]]
"""The trainings that are not finished, each with the test sets that it is yet to be tested on."""


def to_do(prepared: Prepared, place: Workplace) -> tuple[Remaining, Outcome]:
    """Return what is not done of a plan, and an outcome that tells what is.

    Raises StoreError where the facts or records of a finished training are damaged.
    """
    remaining, outcome = [], Outcome()
    for identity, training in prepared.plan.trainings.items():
        folder = place.runs / training.place
        if training.loss and store.is_trained(folder):
            outcome.reused.append(identity)
        tests = untested(prepared, training, folder)
        recorded = store.read_facts(folder) if (folder / "training.json").exists() else None
        is_ready = store.is_ready(folder, training.facts)
        if tests or recorded != current_facts(training, folder) or not is_ready:
            remaining.append((training, tests))
    return remaining, outcome


def untested(prepared: Prepared, training: Training, folder: Path) -> list[Tested]:
    """Return the test sets of a training that there are no records of yet, of today's data."""
    return [
        tested
        for tested in prepared.plan.tests[training.facts.identity]
        if store.read_records(folder, tested, split_of(prepared, tested).fingerprint) is None
    ]


def split_of(prepared: Prepared, tested: Tested) -> Pack:
    """Return the packed samples of a test set."""
    return prepared.suite.generators[tested.generator].splits["test"]


def current_facts(training: Training, folder: Path) -> TrainingFacts:
    """Return what the training.json of a folder is to say: what it was made by, as recorded, and of today's data.

    Raises StoreError where the folder is another training's, or its facts are damaged.
    """
    facts = training.facts
    if not (folder / "training.json").exists():
        return facts
    found = store.read_facts(folder)
    if found.identity != facts.identity:
        raise StoreError(f"{folder / 'training.json'} is of another training; move that folder away and run again")
    today = msgspec.structs.replace(
        found,
        fingerprint=facts.fingerprint,
        data=facts.data,
        test_data=facts.test_data,
        standard_generators=facts.standard_generators,
        methods=facts.methods,
        added=facts.added,
    )
    return keeping_added(today, found)


def rehearsed(remaining: Remaining, place: Workplace) -> torch.device:
    """Rehearse each model, loss and weights once, and return the device; raises DeeplocError before any training."""
    from deeploc_bench.training.baseline_fit import rehearse_fit
    from deeploc_bench.training.device import resolve_device
    from deeploc_bench.training.rehearsal import rehearse

    device = resolve_device(place.device)
    seen = set()
    for training, tests in remaining:
        if not tests and store.is_ready(place.runs / training.place, training.facts):
            continue  # nothing of it is computed
        key = (training.model.spec.name, training.recipe.weights, training.loss and training.loss.text)
        if key not in seen:
            (rehearse_fit if training.model.spec.fits_itself else rehearse)(training)
            seen.add(key)
    return device


def record(outcome: Outcome, training: Training, is_new: bool) -> None:
    """Count a training that was done, here or by another process that had its lock; baselines are not counted."""
    identity = training.facts.identity
    if training.loss and is_new:
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
        outcome.failed[identity] = reason_of(error)


def train_and_test(prepared: Prepared, training: Training, place: Workplace, device: torch.device) -> bool:
    """Do what is not done of a training; returns whether it was trained here, and not by another process meanwhile.

    Raises TrainingFailed, and DeeplocError where the plugin, the weights or the folder are at fault.
    """
    folder = place.runs / training.place
    with store.locked(folder) if ranks.is_leader() else nullcontext():
        if ranks.is_leader():
            store.sweep(folder)
            store.write_facts(folder, current_facts(training, folder))
        is_new = not ranks.from_leader(lambda: store.is_ready(folder, training.facts))
        if is_new:
            _learn(prepared.registry, training, place, device)
        tests = ranks.from_leader(lambda: untested(prepared, training, folder))
        localizer = _localizer(training, folder, device, place.threads) if tests else None
        for tested in tests:
            assert localizer is not None
            _test(localizer, split_of(prepared, tested), folder, tested)
    if ranks.is_leader():
        records = _records(prepared, training, folder)
        _notify(prepared.registry, place, "deeploc_training_finished", training, records=records)
    return is_new


def _learn(registry: Registry, training: Training, place: Workplace, device: torch.device) -> None:
    from deeploc_bench.training.baseline_fit import fit_baseline  # torch, where something is to be computed
    from deeploc_bench.training.fit import fit

    folder = place.runs / training.place
    if training.loss is None:
        fit_baseline(training, folder, device=device, threads=place.threads, progress=place.progress)
        return
    fit(
        training,
        folder,
        device=device,
        threads=place.threads,
        progress=place.progress,
        on_epoch=lambda epoch: _tell_epoch(registry, place, training, epoch),
    )


def _localizer(training: Training, folder: Path, device: torch.device, threads: int) -> Localizer:
    from deeploc_bench.training.device import set_arithmetic, start_environment
    from deeploc_bench.training.evaluate import open_localizer

    if training.facts.is_learned:
        environment = store.read_environment(folder)
        set_arithmetic(environment.threads)
    else:
        environment = start_environment(training, folder, device, threads)
    return open_localizer(
        training.model,
        training.recipe,
        weights=folder / "model.safetensors" if training.facts.is_learned else None,
        device=device,
        precision=environment.precision,
    )


def _test(localizer: Localizer, pack: Pack, folder: Path, tested: Tested) -> None:
    from deeploc_bench.training.evaluate import evaluate
    from deeploc_bench.training.pictures import write_examples

    records = evaluate(localizer, pack, tested.perturbation)
    if ranks.is_leader():
        if not tested.perturbation:
            write_examples(localizer, pack, folder / "examples", tested.name, EXAMPLES)
        store.write_records(folder, tested, records, pack.fingerprint)  # last: they mean "tested"


def _records(prepared: Prepared, training: Training, folder: Path) -> dict[str, Any]:
    tests, data = prepared.plan.tests[training.facts.identity], prepared.suite.test_fingerprints
    return {tested.name: store.read_records(folder, tested, data[tested.generator]) for tested in tests}


def _tell_epoch(registry: Registry, place: Workplace, training: Training, epoch: Epoch) -> None:
    if not place.is_terminal:
        found = f"loss {epoch.loss:.3f}, validation IoU {epoch.valid_iou:.3f}, {epoch.seconds:.1f} s"
        place.say(f"{training.title}: epoch {epoch.epoch} of {training.recipe.epochs}, {found}")
    _notify(registry, place, "deeploc_epoch_finished", training, epoch=msgspec.to_builtins(epoch))


def _notify(registry: Registry, place: Workplace, hook: str, training: Training, **what: object) -> None:
    """Tell the observers; they get plain copies, so that what they write into them changes nothing."""
    facts = MappingProxyType(msgspec.to_builtins(training.facts))
    for finding in observe(registry, hook, training=facts, **what):
        place.say(f"warning: {finding}")


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
