"""Does what is not done of a plan: each training is fitted where it is not finished and tested where it is not tested.

Torch is imported where something is to be computed, so that a plan that is done is told at once.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deeploc_bench.contract.errors import DeeplocError, StoreError, TrainingFailed, reason_of
from deeploc_bench.contract.isolation import guarded, kept_alive, unchanged
from deeploc_bench.data.packs import Pack
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch, TrainingFacts, keeping_added
from deeploc_bench.plan.job import Prepared
from deeploc_bench.plan.plan import Training
from deeploc_bench.plan.samples import is_untold, write_samples
from deeploc_bench.plan.store import Tested
from deeploc_bench.training import ranks
from deeploc_bench.training.failures import failing_alone
from deeploc_bench.training.telling import tell, tell_done, tell_epoch, tell_reused
from deeploc_bench.training.turns import free_first
from deeploc_bench.training.workplace import Outcome, Remaining, Workplace

if TYPE_CHECKING:
    import torch

    from deeploc_bench.training.evaluate import Localizer

EXAMPLES = 3
"""Test images of each generator kept as pictures."""


def to_do(prepared: Prepared, place: Workplace) -> tuple[Remaining, Outcome]:
    """Return what is not done of a plan, and an outcome that tells what is.

    Raises StoreError where the facts or records of a finished training are damaged.
    """
    remaining, outcome = [], Outcome()
    for identity, training in prepared.plan.trainings.items():
        folder = place.runs / training.place
        if training.loss and store.is_trained(folder):
            outcome.reused.append(identity)
        tests = left_of(prepared, training, folder)
        if tests is not None:
            remaining.append((training, tests))
    return remaining, outcome


def left_of(prepared: Prepared, training: Training, folder: Path) -> list[Tested] | None:
    """Return the test sets that a training is yet to be tested on, or None where nothing at all is left to do.

    Raises StoreError where its facts or records are damaged.
    """
    recorded = store.read_facts(folder) if (folder / "training.json").exists() else None
    # without its facts nothing can be told of a folder, until they are written again
    tests = untested(prepared, training, folder) if recorded else [*prepared.plan.tests[training.facts.identity]]
    is_told = store.is_ready(folder, training.facts) and not is_untold(folder, training)
    return tests if tests or recorded != current_facts(training, folder) or not is_told else None


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
        regenerated=facts.regenerated,
        references={**found.references, **facts.references},
        added=facts.added,
        included=facts.included,
        transfers={**found.transfers, **facts.transfers},
    )
    return keeping_added(today, found)


def rehearsed(remaining: Remaining, place: Workplace) -> torch.device:
    """Rehearse all that is to be trained, and return the device; raises DeeplocError before any training."""
    from deeploc_bench.training.device import check_precision, resolve_device

    device = resolve_device(place.device)
    for training, _ in remaining:
        if training.loss and not store.is_ready(place.runs / training.place, training.facts):
            check_precision(training.recipe.precision, device)
    rehearse_each(remaining, place)
    return device


def rehearse_each(remaining: Remaining, place: Workplace) -> None:
    """Rehearse each model, loss and weights once, and say what to warn of; raises DeeplocError."""
    from deeploc_bench.training.baseline_fit import rehearse_fit
    from deeploc_bench.training.rehearsal import rehearse

    seen = set()
    for training, tests in remaining:
        if not tests and store.is_ready(place.runs / training.place, training.facts):
            continue  # nothing of it is computed
        key = (training.model.spec.name, training.recipe.weights, training.loss and training.loss.text)
        if key not in seen:
            what = training.model.title + (f" with loss {training.loss.text!r}" if training.loss else "")
            with kept_alive(what), unchanged(what):
                warnings = (rehearse_fit if training.model.spec.fits_itself else rehearse)(training)
            for warning in warnings or ():
                place.say(f"warning: {warning}")
            seen.add(key)


def record(outcome: Outcome, training: Training, is_new: bool) -> None:
    """Count a training that was done, here or by another process that had its lock; baselines are not counted."""
    identity = training.facts.identity
    if training.loss and is_new:
        outcome.trained.append(identity)
    elif training.loss and identity not in outcome.reused:
        outcome.reused.append(identity)


@contextmanager
def recording_failures(outcome: Outcome, training: Training, place: Workplace) -> Iterator[None]:
    """Note and say why a training failed, so that the others go on; what must stop them all is raised."""
    try:
        yield
    except DeeplocError:
        raise
    except Exception as error:
        if ranks.processes() > 1 and not isinstance(error, TrainingFailed):
            raise  # the other processes wait for this one
        reason = str(error) if isinstance(error, TrainingFailed) else reason_of(error)
        outcome.failed[training.facts.identity] = reason
        place.say(f"failed: {training.place}: {reason}")
        if place.is_debug:
            place.say("".join(traceback.format_exception(error)))


def train_and_test(
    prepared: Prepared,
    training: Training,
    place: Workplace,
    device: torch.device,
    on_epoch: Callable[[Epoch], None],
) -> bool:
    """Do what is not done of a training; returns whether it was trained here, and not by another process meanwhile.

    What a plugin's code set meanwhile is put back. Raises TrainingFailed, and StoreError or UsageError where the folder
    is at fault.
    """
    from deeploc_bench.training.device import working_on

    folder = place.runs / training.place
    lock = store.locked(folder) if ranks.is_leader() else nullcontext()
    with failing_alone(), guarded("its code"), working_on(device), lock:
        if ranks.is_leader():
            store.sweep(folder)
            store.write_facts(folder, current_facts(training, folder))
            write_samples(folder, training)
        is_new = not ranks.from_leader(lambda: store.is_ready(folder, training.facts))
        if is_new:
            _learn(training, place, device, on_epoch)
        tests = ranks.from_leader(lambda: untested(prepared, training, folder))
        localizer = _localizer(training, folder, device, place.threads) if tests else None
        for tested in tests:
            assert localizer is not None
            _test(localizer, split_of(prepared, tested), folder, tested)
    return is_new


def _learn(training: Training, place: Workplace, device: torch.device, on_epoch: Callable[[Epoch], None]) -> None:
    from deeploc_bench.training.baseline_fit import fit_baseline  # torch, where something is to be computed
    from deeploc_bench.training.fit import fit

    folder, progress = place.runs / training.place, place.progress
    if training.loss is None:
        fit_baseline(training, folder, device=device, threads=place.threads, progress=progress)
    else:
        fit(training, folder, device=device, threads=place.threads, progress=progress, on_epoch=on_epoch)


def _localizer(training: Training, folder: Path, device: torch.device, threads: int) -> Localizer:
    from deeploc_bench.training.device import set_arithmetic, start_environment
    from deeploc_bench.training.evaluate import open_localizer

    if training.facts.is_learned:
        environment = store.read_environment(folder)
        set_arithmetic(environment.threads, device)
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

    with unchanged("code of its model", TrainingFailed):
        records = evaluate(localizer, pack, tested.perturbation)
        if ranks.is_leader() and not tested.perturbation:
            write_examples(localizer, pack, folder / "examples", tested.name, EXAMPLES)
    if ranks.is_leader():
        store.write_records(folder, tested, records, pack.fingerprint)  # last: they mean "tested"


def run_local(prepared: Prepared, place: Workplace) -> Outcome:
    """Do every unfinished training here; one that fails does not stop the others, nor does one that another run is at.

    Raises DeeplocError for what must stop them all: a plugin found broken before any training, missing weights, a full
    disk.
    """
    remaining, outcome = to_do(prepared, place)
    tell_reused(prepared, place, [training for training, _ in remaining])
    if not remaining:
        return outcome
    for training, _ in remaining:
        if training.loss:
            ranks.refuse_too_many(training.title, training.recipe.batch_size, len(training.train))
    device = rehearsed(remaining, place)
    with ranks.process_group(device):
        for training in free_first([training for training, _ in remaining], place.runs):
            with recording_failures(outcome, training, place):
                tell(prepared, place, training, "deeploc_training_started")
                on_epoch = partial(tell_epoch, prepared, place, training)
                record(outcome, training, train_and_test(prepared, training, place, device, on_epoch))
                tell_done(prepared, place, training)
    return outcome
