"""Fits one model: epochs from (seed, epoch) alone, the best epoch by validation IoU, resumable after every epoch."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from accelerate.utils import broadcast, set_seed
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from deeploc_bench.contract.errors import TrainingFailed
from deeploc_bench.contract.files import remove
from deeploc_bench.contract.isolation import unchanged
from deeploc_bench.contract.specs import Image, Mask
from deeploc_bench.data.ahead import ahead
from deeploc_bench.data.augment import Pixels, blur_some, flip, moved
from deeploc_bench.data.batches import as_packs, training_batch
from deeploc_bench.data.suites import Progress
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch, FitState, Recipe, TrainingEnvironment
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks
from deeploc_bench.training.build import TrainingLoss, build_model, placed
from deeploc_bench.training.device import make_accelerator, memory_told, peak_bytes, start_environment
from deeploc_bench.training.evaluate import Localizer, validation_iou

Epochs = list[Epoch]


def fit(
    training: Training,
    folder: Path,
    *,
    device: torch.device,
    threads: int,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Train, going on after the last finished epoch, and write the artifacts into `folder`.

    Raises TrainingFailed where the loss is NaN or memory is too small, StoreError where the folder cannot be read or
    written.
    """
    started = time.perf_counter()
    environment = start_environment(training, folder, device, threads)
    run = Fit(training, environment, device)
    epochs, best = run.resume(folder)
    steps, last = len(run.batches(0)), training.recipe.epochs
    if not steps:
        raise TrainingFailed(f"{len(training.train)} training images make no batch; at least two are needed")
    cure = f"lower the batch size, --set batch_size={max(1, training.recipe.batch_size // 2)}"
    with progress(training.title, last * steps) as tick:
        for _ in range(len(epochs) * steps):
            tick()
        for epoch in range(len(epochs), last):
            with unchanged("code of its model or loss", TrainingFailed), memory_told(run.device, cure):
                finished = run.epoch(epoch, tick)
            if not epochs or finished.valid_iou > max(past.valid_iou for past in epochs):
                best = _copied(run.module.state_dict())
            epochs.append(finished)
            if ranks.is_leader():
                run.keep(folder, epochs, best)
                store.write_epochs(folder, epochs)
                on_epoch(finished)
    if ranks.is_leader():
        table = store.write_epochs(folder, epochs)  # again: a kill may have come between it and the state
        store.write_environment(folder, _with_costs(environment, run, epochs, time.perf_counter() - started, table))
        # last: its existence means "trained"
        store.write_tensors(folder / "model.safetensors", save, _copied(best), about=None)
        remove(folder / "resume.safetensors")


class Fit:
    """The moving parts of one training: module, optimizer, and the accelerator that drives them.

    All randomness is drawn anew from (seed, epoch) or (seed, epoch, step), so that a training that goes on after an
    epoch needs no state of a random generator. The seed tuples must not meet:

        [seed, epoch, 0]            the order of the epoch's samples
        [seed, epoch, step + 1]     where each image of a step is cropped
        [seed, epoch, step + 1, 1]  flips and blurs of a step
        [seed, epoch]               mixed to one number for torch: dropout and the like, plus the rank
    """

    def __init__(self, training: Training, environment: TrainingEnvironment, device: torch.device) -> None:
        self.training, self.recipe = training, training.recipe
        self.accelerator = make_accelerator(device, environment.precision)
        self.device: torch.device = self.accelerator.device
        self.precision: str = environment.precision
        set_seed(training.seed)
        module = build_model(training.model, self.recipe.weights)
        self.module = placed(module, self.device)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.plain_optimizer = _optimizer(self.recipe, self.parameters)
        assert training.loss is not None
        loss = TrainingLoss(self.module, training.model, training.loss, self.recipe.input_size)
        self.loss, self.optimizer = self.accelerator.prepare(loss, self.plain_optimizer)
        if self.accelerator.scaler and self.recipe.optimizer == "sgd":
            # A step that overflows is skipped; where it is the first, torch's fused SGD would leave its momentum unset.
            for parameter in self.parameters:
                self.plain_optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.valid = as_packs(training.valid)
        self.pixels = Pixels()

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the epoch's batches of positions; a last one of less than two images a process is left out."""
        order = np.random.default_rng([self.training.seed, epoch, 0]).permutation(len(self.training.train))
        size = self.recipe.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        # batch normalization fails on a single image, in each process for itself
        return [batch for batch in batches if len(batch) >= min(size, 2 * ranks.processes())]

    def epoch(self, epoch: int, tick: Callable[[], object]) -> Epoch:
        """Train and validate one epoch; raises TrainingFailed where the loss is NaN."""
        started = time.perf_counter()
        set_seed(_mixed(self.training.seed, epoch) + ranks.rank())  # each rank drops out other units
        self.loss.train()
        batches = self.batches(epoch)
        total = torch.zeros((), device=self.device)
        seeds = [[self.training.seed, epoch, number + 1] for number in range(len(batches))]  # 0 is the order's
        for number, raw in enumerate(ahead(self._read, zip(batches, seeds, strict=True))):
            lr = self._set_lr((epoch * len(batches) + number) / (self.recipe.epochs * len(batches)))
            total += self._step(raw, seeds[number])
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
        return Epoch(epoch=epoch + 1, loss=loss, valid_iou=valid_iou, lr=lr, seconds=seconds)

    def keep(self, folder: Path, epochs: Epochs, best: Mapping[str, Tensor]) -> None:
        """Write all that an epoch leaves behind: weights, best weights, optimizer state, and the epochs so far."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
        for index, state in self.plain_optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}
        about = FitState(epochs=tuple(epochs), scaler=scaler)
        store.write_tensors(folder / "resume.safetensors", save, _copied(tensors), about)

    def resume(self, folder: Path) -> tuple[Epochs, dict[str, Tensor]]:
        """Take up the state after the last finished epoch, if there is one; returns its epochs and best weights."""
        state = store.read_state(folder)
        if state is None:
            return [], {}
        tensors = load_file(folder / "resume.safetensors")
        self.module.load_state_dict(_below(tensors, "model."))
        self._load_optimizer(_below(tensors, "optimizer."))
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(dict(state.scaler))
        return list(state.epochs), _below(tensors, "best.")

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            parameter = self.parameters[int(index)]
            # The memory layout of a state must be its parameter's, or a fused step pairs the wrong elements.
            is_shaped = tensor.shape == parameter.shape
            value = torch.empty_like(parameter).copy_(tensor) if is_shaped else tensor.to(parameter.device)
            self.plain_optimizer.state[parameter][key] = value

    def _read(self, drawn: tuple[NDArray[np.int64], Sequence[int]]) -> tuple[Image, Mask]:
        batch, seed = drawn
        return training_batch(self.training.train, batch, size=self.recipe.size, fit=self.recipe.fit, seed=seed)

    def _step(self, raw: tuple[Image, Mask], seed: Sequence[int]) -> Tensor:
        images, masks = self._augmented(raw, seed)
        share = len(images) * ranks.processes() / len(raw[0])  # DDP takes the plain mean over processes
        with self.accelerator.autocast():
            loss: Tensor = self.loss(images, masks) * share
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _augmented(self, raw: tuple[Image, Mask], seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        own = slice(ranks.rank(), None, ranks.processes())
        images = self.pixels.of(moved(torch.from_numpy(raw[0][own]), self.device))
        masks = moved(torch.from_numpy(raw[1][own]), self.device).float()[:, None]  # (N, 1, H, W)
        # Drawn for the whole batch, then cut: an image's augmentation does not depend on the number of processes.
        random = np.random.default_rng([*seed, 1])
        flips, blurs, sigmas = (random.random(len(raw[0]))[own] for _ in range(3))
        if recipe.flip:
            images, masks = flip(images, masks, moved(torch.from_numpy(flips < 0.5), self.device))
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


def _with_costs(
    environment: TrainingEnvironment, run: Fit, epochs: Epochs, seconds: float, table: str
) -> TrainingEnvironment:
    """Return where a training was done, with what it cost: `seconds` are those since it was started last.

    `table` is the checksum of its epochs.csv.
    """
    return msgspec.structs.replace(
        environment,
        wall_seconds=round(sum(epoch.seconds for epoch in epochs), 3),
        last_start_seconds=round(seconds, 3),
        peak_memory_mib=round(peak_bytes(run.device) / 2**20, 1),
        parameters=sum(parameter.numel() for parameter in run.module.parameters()),
        epochs=table,
    )


def one_cycle(share: float, warm_up: float = 0.3) -> float:
    """Return the share of the peak lr after a share of all steps: a cosine up over `warm_up`, then a cosine to zero.

    After Smith and Topin, Super-convergence, arXiv 1708.07120.
    """
    if share < warm_up:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / warm_up)) / 2
    return (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) / 2


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=recipe.lr, fused=True)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _mixed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
