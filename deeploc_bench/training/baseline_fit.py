"""Baselines that fit themselves: in one go, without loss, recipe or epochs, by the method `fit` of their module."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from accelerate.utils import set_seed
from msgspec import structs
from safetensors.torch import save
from torch import Tensor, nn

from deeploc_bench.contract.errors import DeeplocError, PluginError, TrainingFailed, reason_of
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.augment import to_float
from deeploc_bench.data.batches import as_packs, evaluation_batches, read_batch
from deeploc_bench.data.packing import Tick
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Progress
from deeploc_bench.plan import store
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks
from deeploc_bench.training.build import build_model, logits_of
from deeploc_bench.training.device import peak_bytes, start_environment

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Images, float32 (N, 3, H, W) in [0, 1], and masks, float32 (N, 1, H, W)."""
Fit: TypeAlias = Callable[[Iterable[Batch], Iterable[Batch]], object]
"""Fits a module to training and validation batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """All samples of some packs in fixed batches, in order, at native size; made anew each time that they are read."""

    packs: Sequence[Pack]
    device: torch.device
    tick: Tick = int

    def __len__(self) -> int:
        return sum(1 for pack in self.packs for _ in evaluation_batches(pack))

    def __iter__(self) -> Iterator[Batch]:
        for pack in self.packs:
            for batch in evaluation_batches(pack):
                images, masks = read_batch(pack, batch)
                pixels = to_float(torch.from_numpy(images).to(self.device))
                yield pixels, torch.from_numpy(masks).to(self.device).float()[:, None]
                self.tick()


def fit_baseline(training: Training, folder: Path, *, device: torch.device, threads: int, progress: Progress) -> None:
    """Fit a baseline and write the artifacts into `folder`; every process fits the same, and the leader writes.

    Raises TrainingFailed where it cannot be fitted, StoreError where the folder cannot be written.
    """
    started = time.perf_counter()
    environment = start_environment(training, folder, device, threads)
    set_seed(training.seed)
    module = build_model(training.model, training.recipe.weights).to(device)
    train, valid = (Batches(packs=as_packs(subset), device=device) for subset in (training.train, training.valid))
    with progress(training.title, len(train) + len(valid)) as tick:
        try:
            fit_of(module, training.model)(replace(train, tick=tick), replace(valid, tick=tick))
        except DeeplocError:
            raise
        except Exception as error:
            raise TrainingFailed(f"{training.model.title} cannot be fitted: {reason_of(error)}") from error
    if ranks.is_leader():
        seconds = round(time.perf_counter() - started, 3)
        environment = structs.replace(
            environment,
            wall_seconds=seconds,
            last_start_seconds=seconds,
            peak_memory_mib=round(peak_bytes(device) / 2**20, 1),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
        )
        store.write_environment(folder, environment)
        # last: its existence means "fitted"
        store.write_tensors(folder / "model.safetensors", save, _learned(module), about=None)


def rehearse_fit(training: Training) -> None:
    """Fit a baseline to random images and load what it learned into another, so that mistakes show before any training.

    Raises PluginError or WeightsError.
    """
    size = training.recipe.size
    with torch.random.fork_rng(devices=[]):
        batch = torch.rand(2, 3, size, size), (torch.rand(2, 1, size, size) > 0.5).float()
        fitted, module = (build_model(training.model, weights) for weights in (training.recipe.weights, "none"))
        fit = fit_of(fitted, training.model)
        try:
            fit([batch, batch], [batch])
            module.load_state_dict(_learned(fitted))
            logits_of(module, batch[0], training.model, None)
        except DeeplocError:
            raise
        except Exception as error:
            where = f"{training.model.title} cannot be fitted to images {tuple(batch[0].shape)} and tested on them"
            raise PluginError(f"{where}: {reason_of(error)}") from error


def fit_of(module: nn.Module, model: Owned[Model]) -> Fit:
    """Return the method by which a baseline fits itself; raises PluginError where it has none."""
    fit: Fit | None = getattr(module, "fit", None)
    if not callable(fit):
        raise PluginError(
            f"{model.title} is a baseline that is trainable, but the {type(module).__name__} that it builds has no "
            "method fit. Add fit(train, valid), or say trainable=False."
        )
    return fit


def _learned(module: nn.Module) -> dict[str, Tensor]:
    tensors = module.state_dict().items()
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}
