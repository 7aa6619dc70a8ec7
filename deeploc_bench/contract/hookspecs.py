"""The hooks a plugin may implement; each returns values, none changes anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model

if TYPE_CHECKING:
    from deeploc_bench.contract.events import Epoch, Training, TrainingRecords

hookspec = pluggy.HookspecMarker("deeploc_bench")
hookimpl = pluggy.HookimplMarker("deeploc_bench")


@hookspec
def deeploc_datasets() -> Iterable[GeneratorDataset]:  # type: ignore[empty-body]
    """Return the generator datasets of this plugin."""


@hookspec
def deeploc_models() -> Iterable[Model]:  # type: ignore[empty-body]
    """Return the models of this plugin."""


@hookspec
def deeploc_losses() -> Iterable[Loss]:  # type: ignore[empty-body]
    """Return the losses of this plugin."""


@hookspec(firstresult=True)
def deeploc_find_model(name: str) -> Model | None:
    """Return the model of that name, out of a family too large to list, or None; asked only for names nobody listed."""


@hookspec
def deeploc_epoch_finished(training: Training, epoch: Epoch) -> None:
    """Observe a finished epoch; return nothing, change nothing."""


@hookspec
def deeploc_training_finished(training: Training, records: TrainingRecords) -> None:
    """Observe a finished and tested training; return nothing, change nothing."""
