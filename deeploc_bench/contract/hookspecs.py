"""The hooks a plugin may implement; each returns values, none changes anything."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pluggy

from deeploc_bench.contract.specs import GeneratorDataset, Inclusion, Loss, Model

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
def deeploc_find_model(name: str, find: Callable[[str], Model]) -> Model | None:
    """Return the model of that name, out of a family too large to list, or None; asked only for names nobody listed.

    A name that ends with `.toml` is a file that may describe one. `find(other)` returns the model `other` of any
    plugin, for one that is made of it and called `WORD+other`: its code then counts as that of both. An implementation
    that needs no other model may leave `find` out.
    """


@hookspec(firstresult=True)
def deeploc_find_suite(name: str) -> Iterable[GeneratorDataset | Inclusion] | None:
    """Return the generator datasets of a suite out of a file or a family, or None; asked only for unlisted names.

    A suite may include others, whose generators are called `SUITE.GENERATOR` in it.
    """


@hookspec
def deeploc_training_started(training: Any, folder: Path) -> None:
    """Observe a training whose fit or tests begin, or go on: its facts (`TrainingFacts`, training.json), its folder."""


@hookspec
def deeploc_epoch_finished(training: Any, folder: Path, epoch: Any) -> None:
    """Observe a finished epoch, which is stored by now: its row of epochs.csv (`Epoch`)."""


@hookspec
def deeploc_training_finished(training: Any, folder: Path, records: Mapping[str, Any]) -> None:
    """Observe a training that is tested by now: its `Records` by test set (`generator`, `generator@kind-value`)."""


@hookspec
def deeploc_training_reused(training: Any, folder: Path, records: Mapping[str, Any]) -> None:
    """Observe a training that was asked for and had been done before: its `Records` by test set."""
