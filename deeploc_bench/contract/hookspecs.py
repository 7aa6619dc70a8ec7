"""The hooks a plugin may implement; each returns values, none changes anything."""

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model

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


@hookspec(firstresult=True)
def deeploc_find_suite(name: str) -> Iterable[GeneratorDataset] | None:
    """Return the generator datasets of a suite out of a file or a family, or None; asked only for unlisted names."""


@hookspec
def deeploc_epoch_finished(training: Mapping[str, Any], epoch: Mapping[str, float]) -> None:
    """Observe a finished epoch: the training's inputs (training.json), and the epoch's row of epochs.csv."""


@hookspec
def deeploc_training_finished(training: Mapping[str, Any], records: Mapping[str, Any]) -> None:
    """Observe a tested training: its inputs (training.json), and its Records by test generator."""
