"""Fits one model: epochs from (seed, epoch) alone, the best epoch by validation IoU, resumable after every epoch."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast, set_seed
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer

from deeploc_bench.contract.errors import StoreError, TrainingFailed, UsageError
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.augment import blur_some, flip, to_float
from deeploc_bench.data.batches import as_packs, training_batch
from deeploc_bench.data.suites import Progress
from deeploc_bench.plan import store
from deeploc_bench.plan.plan import Training
from deeploc_bench.plan.recipe import Recipe
from deeploc_bench.training import ranks
from deeploc_bench.training.build import build_loss, build_model, logits_of
from deeploc_bench.training.evaluate import Localizer, validation_iou

Epochs = list[dict[str, float]]
Environment = dict[str, Any]
VERSIONED = ("deeploc-bench", "torch", "segmentation-models-pytorch", "timm", "accelerate", "numpy", "pillow")


def resolve_device(device: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda` or `cuda:i`; raises UsageError where it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks.processes() > 1 and device.startswith("cuda"):
        if device != "cuda":
            raise UsageError(
                f"--device {device}: each of {ranks.processes()} processes has its own. Use --device cuda."
            )
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: this machine has no CUDA device that torch can use. Use --device cpu.")
    found = torch.device(device)
    if found.index is not None and found.index >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices.")
    return found


def resolve_precision(precision: str, device: torch.device) -> str:
    """Settle `auto` by what the hardware can do: bf16 with AVX512-BF16, AMX or a GPU that has it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """Return a fresh Accelerator for one training; its state is process-wide, so the last one's is dropped."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    if device.index is not None and ranks.processes() == 1:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    return Accelerator(cpu=device.type == "cpu", mixed_precision="no" if precision == "fp32" else precision)


def start_environment(training: Training, folder: Path, device: torch.device, threads: int) -> Environment:
    """Write, or where the training was begun before readopt, what its arithmetic depends on beside its inputs.

    Raises UsageError where it was begun by another number of processes: that is another arithmetic.
    """
    environment = ranks.told(lambda: _environment(training, folder, device, threads))
    if training.loss and environment["processes"] != ranks.processes():
        raise UsageError(
            f"{folder} was begun by {environment['processes']} processes, and goes on only with as many "
            f"(torchrun --nproc-per-node); here are {ranks.processes()}. Or delete that folder to begin anew."
        )
    return environment


def _environment(training: Training, folder: Path, device: torch.device, threads: int) -> Environment:
    found = store.read_json(folder / "environment.json")
    if found is not None and store.finished_epochs(folder):
        return found
    environment = {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "precision": resolve_precision(training.recipe.precision, device),
        "threads": threads,
        "processes": ranks.processes(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
    }
    store.write_json(folder / "environment.json", environment)
    return environment


def fit(
    training: Training,
    folder: Path,
    *,
    device: torch.device,
    threads: int,
    progress: Progress,
    on_epoch: Callable[[Mapping[str, float]], None],
) -> None:
    """Train, going on after the last finished epoch, and write the artifacts into `folder`.

    Raises TrainingFailed where the loss is NaN, StoreError where the folder cannot be written.
    """
    started = time.perf_counter()
    environment = start_environment(training, folder, device, threads)
    torch.set_num_threads(environment["threads"])
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    run = _Fit(training, environment, device)
    epochs, best = run.resume(folder)
    recipe = training.recipe
    with progress(_title(training), recipe.epochs * len(run.batches(0))) as tick:
        for _ in range(len(epochs) * len(run.batches(0))):
            tick()
        for epoch in range(len(epochs), recipe.epochs):
            row = run.epoch(epoch, tick)
            if not epochs or row["valid_iou"] > max(past["valid_iou"] for past in epochs):
                best = _copied(run.module.state_dict())
            epochs.append(row)
            if ranks.is_leader():
                store.write(folder / "resume.safetensors", run.state(epochs, best))
                store.write_epochs(folder, epochs)
                on_epoch(row)
    if ranks.is_leader():
        _finish(folder, environment, epochs, best, run.module, time.perf_counter() - started)


class _Fit:
    """The moving parts of one training: module, optimizer, and the accelerator that drives them."""

    def __init__(self, training: Training, environment: Environment, device: torch.device) -> None:
        self.training, self.recipe = training, training.recipe
        self.accelerator = make_accelerator(device, environment["precision"])
        self.device: torch.device = self.accelerator.device
        self.precision: str = environment["precision"]
        set_seed(training.seed)
        self.module = build_model(training.model, self.recipe).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.plain_optimizer = _optimizer(self.recipe, self.parameters)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.module, self.plain_optimizer)
        assert training.loss is not None
        self.criterion = build_loss(training.loss)
        self.valid = as_packs(training.valid)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the epoch's batches of positions; a last one of less than two images a process is left out."""
        order = np.random.default_rng([self.training.seed, epoch, 0]).permutation(len(self.training.train))
        size = self.recipe.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return [batch for batch in batches if len(batch) >= min(size, 2 * ranks.processes())]

    def epoch(self, epoch: int, tick: Callable[[], object]) -> dict[str, float]:
        """Train and validate one epoch; returns its row of epochs.csv. Raises TrainingFailed where the loss is NaN."""
        started = time.perf_counter()
        set_seed(_mixed(self.training.seed, epoch) + ranks.rank())
        self.wrapped.train()
        batches = self.batches(epoch)
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            lr = self._set_lr((epoch * len(batches) + number) / (self.recipe.epochs * len(batches)))
            total += self._step(batch, [self.training.seed, epoch, number + 1])
            tick()
        loss = float(self.accelerator.reduce(total, "mean")) / len(batches)
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss is {loss} in epoch {epoch + 1}; lower the lr (--set lr=...) or change the loss"
            )
        for buffer in self.module.buffers():
            broadcast(buffer)  # each process gathered its own batch statistics; the leader's are kept
        valid_iou = validation_iou(self._localizer(), self.valid)
        seconds = round(time.perf_counter() - started, 3)
        return {"epoch": epoch + 1, "loss": loss, "valid_iou": valid_iou, "lr": lr, "seconds": seconds}

    def state(self, epochs: Epochs, best: Mapping[str, Tensor]) -> bytes:
        """Return all that an epoch leaves behind: weights, best weights, optimizer state, and the epochs so far."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
        for index, state in self.plain_optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}
        return save(_copied(tensors), {"epochs": json.dumps(epochs), "scaler": json.dumps(scaler)})

    def resume(self, folder: Path) -> tuple[Epochs, dict[str, Tensor]]:
        """Take up the state after the last finished epoch, if there is one; returns its epochs and best weights."""
        path = folder / "resume.safetensors"
        if not path.exists():
            return [], {}
        try:
            tensors = load_file(path)
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
        except Exception as error:
            raise StoreError(f"{path} is damaged ({error}); delete it and run again") from None
        self.module.load_state_dict(_below(tensors, "model."))
        self._load_optimizer(_below(tensors, "optimizer."))
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(json.loads(metadata["scaler"]))
        return json.loads(metadata["epochs"]), _below(tensors, "best.")

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            parameter = self.parameters[int(index)]
            # the memory layout of a state must be its parameter's, or a fused step pairs the wrong elements
            is_shaped = tensor.shape == parameter.shape
            value = torch.empty_like(parameter).copy_(tensor) if is_shaped else tensor.to(parameter.device)
            self.plain_optimizer.state[parameter][key] = value

    def _step(self, batch: NDArray[np.int64], seed: Sequence[int]) -> Tensor:
        images, masks = self._augmented(batch, seed)
        share = len(images) * ranks.processes() / len(batch)  # DDP takes the plain mean over processes
        with self.accelerator.autocast():
            logits = logits_of(self.wrapped, images, self.training.model, self.recipe.input_size)
        if logits.shape != masks.shape:
            logits = F.interpolate(logits, size=masks.shape[2:], mode="bilinear")
        loss = self.criterion(logits, masks) * share
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _augmented(self, batch: NDArray[np.int64], seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        mine = slice(ranks.rank(), None, ranks.processes())
        raw = training_batch(self.training.train, batch, size=recipe.size, fit=recipe.fit, seed=seed)
        images = to_float(torch.from_numpy(raw[0][mine]).to(self.device, non_blocking=True))
        masks = torch.from_numpy(raw[1][mine]).to(self.device, non_blocking=True).float()[:, None]
        random = np.random.default_rng([*seed, 1])
        flips, blurs, sigmas = (random.random(len(batch))[mine] for _ in range(3))
        if recipe.flip:
            images, masks = flip(images, masks, torch.from_numpy(flips < 0.5).to(self.device))
        if recipe.blur_probability > 0:
            chosen = np.where(blurs < recipe.blur_probability, sigmas * recipe.blur_sigma, 0)
            images = blur_some(images, torch.from_numpy(chosen.astype(np.float32)))
        return images, masks

    def _set_lr(self, share: float) -> float:
        lr = self.recipe.lr * (one_cycle(share) if self.recipe.schedule == "one-cycle" else 1.0)
        for group in self.plain_optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _localizer(self) -> Localizer:
        return Localizer(
            module=self.module,
            model=self.training.model,
            device=self.device,
            precision=self.precision,
            input_size=self.recipe.input_size,
        )


def one_cycle(share: float, warm_up: float = 0.3) -> float:
    """Return the share of the peak lr after a share of all steps: a cosine up over `warm_up`, then a cosine to zero.

    After Smith and Topin, Super-convergence, arXiv 1708.07120.
    """
    if share < warm_up:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / warm_up)) / 2
    return (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) / 2


def load_localizer(training: Training, folder: Path, *, device: torch.device, threads: int) -> Localizer:
    """Return the trained model in a folder (or a model that is never trained), ready to be tested."""
    if training.loss is None:
        start_environment(training, folder, device, threads)
    return open_localizer(training.model, training.recipe, folder, device=device, threads=threads)


def open_localizer(
    model: Owned[Model], recipe: Recipe, folder: Path, *, device: torch.device, threads: int
) -> Localizer:
    """Return a model with the weights in a folder, if there are any, and the arithmetic that its environment.json says.

    Raises StoreError where the weights do not fit.
    """
    environment = store.read_json(folder / "environment.json") or {}
    torch.set_num_threads(environment.get("threads", threads))
    torch.use_deterministic_algorithms(True, warn_only=True)
    set_seed(0)
    weights = folder / "model.safetensors"
    module = build_model(model, replace(recipe, weights="none") if weights.exists() else recipe)
    if weights.exists():
        try:
            module.load_state_dict(load_file(weights))
        except Exception as error:
            raise StoreError(f"{weights} is damaged ({error}); delete it and run again") from None
    return Localizer(
        module=module.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        model=model,
        device=device,
        precision=environment.get("precision", "fp32"),
        input_size=recipe.input_size,
    )


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=recipe.lr, fused=True)


def _finish(
    folder: Path, environment: Environment, epochs: Epochs, best: Mapping[str, Tensor], module: nn.Module, wall: float
) -> None:
    peak = torch.cuda.max_memory_allocated() if environment["device"].startswith("cuda") else _peak_bytes()
    environment = {
        **environment,
        "wall_seconds": round(sum(row["seconds"] for row in epochs), 3),
        "last_start_seconds": round(wall, 3),
        "peak_memory_mib": round(peak / 2**20, 1),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }
    store.write_json(folder / "environment.json", environment)
    store.write(folder / "model.safetensors", save(_copied(best)))
    (folder / "resume.safetensors").unlink(missing_ok=True)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _mixed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _title(training: Training) -> str:
    return f"{training.model.spec.name} on {'+'.join(training.train_generators)} seed {training.seed}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu_name() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())
