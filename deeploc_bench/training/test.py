"""Tests a model: one fused count a batch, per-image integers out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import TrainingFailed
from deeploc_bench.contract.plugins import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.augment import to_float
from deeploc_bench.data.batches import evaluation_batches
from deeploc_bench.data.packing import Pack
from deeploc_bench.scoring.records import Records, mask_hash
from deeploc_bench.training.build import logits_of

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Localizer:
    """A built model on its device, ready to be tested."""

    module: nn.Module
    model: Owned[Model]
    device: torch.device
    precision: str
    input_size: int | None


def count_batch(heatmaps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Count a batch in one pass: heatmaps float32 and masks bool, both (N, H, W).

    Returns histograms int64 (N, 2, 256), the authentic pixels first, in right-closed bins (heatmap > 0.5 is exactly
    bins 128 to 255), and the pixels of exactly 0.5, int64 (N, 2).
    """
    count = len(heatmaps)
    bins = (heatmaps * 256).ceil_().sub_(1).clamp_(0, 255).long()
    images = torch.arange(count, device=heatmaps.device)[:, None, None]
    index = bins.add_(masks, alpha=256).add_(images, alpha=512)
    histograms = torch.bincount(index.view(-1), minlength=512 * count).view(count, 2, 256)
    ties = heatmaps == 0.5
    manipulated = (ties & masks).sum(dim=(1, 2))
    return histograms, torch.stack([ties.sum(dim=(1, 2)) - manipulated, manipulated], dim=1)


@torch.inference_mode()
def heatmaps_of(localizer: Localizer, packed: Pack) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield each fixed batch's place, heatmaps float32 at the masks' native size, and masks, both (N, H, W)."""
    localizer.module.eval()
    dtype = AUTOCAST_DTYPES.get(localizer.precision)
    for part, (images, masks) in evaluation_batches(packed):
        batch = to_float(torch.from_numpy(images).to(localizer.device))
        with torch.autocast(localizer.device.type, dtype=dtype, enabled=dtype is not None):
            logits = logits_of(localizer.module, batch, localizer.model, localizer.input_size)
        heatmaps = torch.sigmoid(logits)
        if heatmaps.shape[2:] != batch.shape[2:]:
            heatmaps = F.interpolate(heatmaps, size=batch.shape[2:], mode="bilinear")
        if heatmaps.isnan().any():
            raise TrainingFailed(f"the model's logits are NaN on {packed.files[part.start]} or its batch")
        yield part, heatmaps[:, 0], torch.from_numpy(masks).to(localizer.device)


def evaluate(localizer: Localizer, packed: Pack) -> Records:
    """Return the records of a model on a packed test split."""
    histograms, ties, preds = [], [], []
    for _, heatmaps, masks in heatmaps_of(localizer, packed):
        counted, tied = count_batch(heatmaps, masks)
        histograms.append(counted.cpu().numpy())
        ties.append(tied.cpu().numpy())
        preds += [mask_hash(pred_mask) for pred_mask in (heatmaps > 0.5).cpu().numpy()]
    return _records(packed, np.concatenate(histograms), np.concatenate(ties), preds)


def validation_iou(localizer: Localizer, packs: list[Pack]) -> float:
    """Return the mean over all images of several packs of the IoU at heatmap > 0.5."""
    ious = []
    for packed in packs:
        for _, heatmaps, masks in heatmaps_of(localizer, packed):
            pred_masks = heatmaps > 0.5
            inter = (pred_masks & masks).sum(dim=(1, 2)).double()
            union = (pred_masks | masks).sum(dim=(1, 2)).double()
            ious.append(torch.where(union > 0, inter / union, 1.0).cpu())
    return float(torch.cat(ious).mean())


def _records(packed: Pack, histograms: NDArray[np.int64], ties: NDArray[np.int64], preds: list[str]) -> Records:
    below, above = histograms[:, :, :128].sum(axis=2), histograms[:, :, 128:].sum(axis=2)
    tp, fp, fn, tn = above[:, 1], above[:, 0], below[:, 1], below[:, 0]
    return Records(
        ids=packed.ids,
        sources=packed.sources,
        counts=np.stack([tp, fp, fn, tn, ties[:, 1], ties[:, 0]], axis=1),
        preds=tuple(preds),
        histograms=histograms.astype(np.int32),
    )
