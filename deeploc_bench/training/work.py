"""Does one training: fits it where it is not finished, tests it where it is not tested, and tells the observers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import torch

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.registry import Registry, observe
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Progress
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TrainingFacts
from deeploc_bench.plan.job import Prepared
from deeploc_bench.plan.plan import Training
from deeploc_bench.plan.store import Tested
from deeploc_bench.training import ranks
from deeploc_bench.training.device import set_arithmetic, start_environment
from deeploc_bench.training.evaluate import Localizer, evaluate, open_localizer
from deeploc_bench.training.fit import fit
from deeploc_bench.training.pictures import write_examples

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


def untested(prepared: Prepared, training: Training, folder: Path) -> list[Tested]:
    """Return the test sets of a training that there are no records of yet, of today's data."""
    return [
        tested
        for tested in prepared.plan.tests[training.facts.identity]
        if store.read_records(folder, tested, _test_split(prepared, tested).fingerprint) is None
    ]


def train_and_test(prepared: Prepared, training: Training, place: Workplace, device: torch.device) -> bool:
    """Do what is not done of a training; returns whether it was trained here, and not by another process meanwhile.

    Raises TrainingFailed, and DeeplocError where the plugin, the weights or the folder are at fault.
    """
    folder = place.runs / training.place
    with store.locked(folder) if ranks.is_leader() else nullcontext():
        if ranks.is_leader():
            store.sweep(folder)
            store.write_facts(folder, current_facts(training, folder))
        is_new = training.loss is not None and not ranks.from_leader(lambda: store.is_trained(folder))
        if is_new:
            fit(
                training,
                folder,
                device=device,
                threads=place.threads,
                progress=place.progress,
                on_epoch=lambda epoch: _notify(
                    prepared.registry, place, "deeploc_epoch_finished", training, epoch=msgspec.to_builtins(epoch)
                ),
            )
        tests = ranks.from_leader(lambda: untested(prepared, training, folder))
        localizer = _localizer(training, folder, device, place.threads) if tests else None
        for tested in tests:
            assert localizer is not None
            _test(localizer, _test_split(prepared, tested), folder, tested)
    if ranks.is_leader():
        records = _records(prepared, training, folder)
        _notify(prepared.registry, place, "deeploc_training_finished", training, records=records)
    return is_new


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
    return msgspec.structs.replace(
        found,
        fingerprint=facts.fingerprint,
        data=facts.data,
        test_data=facts.test_data,
        standard_generators=facts.standard_generators,
    )


def _localizer(training: Training, folder: Path, device: torch.device, threads: int) -> Localizer:
    if training.loss is None:
        environment = start_environment(training, folder, device, threads)
    else:
        environment = store.read_environment(folder)
        set_arithmetic(environment.threads)
    return open_localizer(
        training.model,
        training.recipe,
        weights=folder / "model.safetensors" if training.loss else None,
        device=device,
        precision=environment.precision,
    )


def _test(localizer: Localizer, pack: Pack, folder: Path, tested: Tested) -> None:
    records = evaluate(localizer, pack, tested.perturbation)
    if ranks.is_leader():
        store.write_records(folder, tested, records, pack.fingerprint)
        if not tested.perturbation:
            write_examples(localizer, pack, folder / "examples", tested.name, EXAMPLES)


def _test_split(prepared: Prepared, tested: Tested) -> Pack:
    return prepared.suite.generators[tested.generator].splits["test"]


def _records(prepared: Prepared, training: Training, folder: Path) -> dict[str, Any]:
    tests: Sequence[Tested] = prepared.plan.tests[training.facts.identity]
    data = prepared.suite.test_fingerprints
    return {tested.name: store.read_records(folder, tested, data[tested.generator]) for tested in tests}


def _notify(registry: Registry, place: Workplace, hook: str, training: Training, **what: object) -> None:
    """Tell the observers; they get plain copies, so that what they write into them changes nothing."""
    facts = MappingProxyType(msgspec.to_builtins(training.facts))
    for finding in observe(registry, hook, training=facts, **what):
        place.say(f"warning: {finding}")
