"""Curves and scores as TensorBoard shows them: an observer, used by `--plugin deeploc_bench_plugins.tensorboard`.

Each training's folder gets event files in `tensorboard/`: loss, validation IoU and lr of each epoch, and the mean IoU
on each test set of manipulated images. A training that goes on goes on in another file of the same folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeploc_bench import PluginError, hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

if find_spec("tensorboard") is None:
    raise PluginError("it needs TensorBoard: pip install 'deeploc-bench[tensorboard]'")

CURVES = ("loss", "valid_iou", "lr")


@hookimpl
def deeploc_epoch_finished(folder: Path, epoch: Any) -> None:
    """Add a point to each curve."""
    writer = _writer(folder)
    for name in CURVES:
        writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
    writer.flush()  # what stops the program loses no point


@hookimpl
def deeploc_training_finished(folder: Path, records: Mapping[str, Any]) -> None:
    """Add the mean IoU on each test set of manipulated images."""
    writer = _writer(folder)
    for name, found in records.items():
        truth, union = found.tp + found.fn, found.tp + found.fp + found.fn  # pixels of each image, (N,)
        if truth.any():
            writer.add_scalar(f"test_iou/{name}", (found.tp / union.clip(1)).mean())
    writer.close()


@cache
def _writer(folder: Path) -> SummaryWriter:
    """Return the writer of a training's folder, one for all its epochs: each makes a file of its own."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
