"""Tests a model: one fused count a batch, per-image integers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import TrainingFailed
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.augment import to_float
from deeploc_bench.data.batches import evaluation_parts, read
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.perturb import perturbed
from deeploc_bench.scoring.records import Records, mask_hash, merge
from deeploc_bench.training.build import logits_of
from deeploc_bench.training.ranks import over

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
def heatmaps_of(localizer: Localizer, packed: Pack, part: slice, perturbation: str = "") -> tuple[Tensor, Tensor]:
    """Return a fixed batch's heatmaps, float32 at the masks' native size, and masks, bool, both (N, H, W).

    `perturbation` is a name that `parse_perturbation` gave, or empty for the images as they are.
    Raises TrainingFailed where the model's logits are NaN.
    """
    localizer.module.eval()
    images, masks = read(packed, np.arange(part.start, part.stop))
    images = perturbed(images, packed.ids[part], perturbation)
    batch = to_float(torch.from_numpy(images).to(localizer.device))
    dtype = AUTOCAST_DTYPES.get(localizer.precision)
    with torch.autocast(localizer.device.type, dtype=dtype, enabled=dtype is not None):
        logits = logits_of(localizer.module, batch, localizer.model, localizer.input_size)
    heatmaps = torch.sigmoid(logits)
    if heatmaps.shape[2:] != batch.shape[2:]:
        heatmaps = F.interpolate(heatmaps, size=batch.shape[2:], mode="bilinear")
    if heatmaps.isnan().any():
        raise TrainingFailed(f"the model's logits are NaN on {packed.files[part.start]} or its batch")
    return heatmaps[:, 0], torch.from_numpy(masks).to(localizer.device)


def evaluate(localizer: Localizer, packed: Pack, perturbation: str = "") -> Records:
    """Return the records of a model on a packed test split; whole batches are dealt to the ranks."""
    return merge(
        over(
            list(evaluation_parts(packed)),
            lambda part: records_of(packed, part, *heatmaps_of(localizer, packed, part, perturbation)),
        )
    )


def validation_iou(localizer: Localizer, packs: list[Pack]) -> float:
    """Return the mean over all images of several packs of the IoU at heatmap > 0.5."""
    parts = [(packed, part) for packed in packs for part in evaluation_parts(packed)]
    return float(np.concatenate(over(parts, lambda place: _ious(localizer, *place))).mean())


def _ious(localizer: Localizer, packed: Pack, part: slice) -> NDArray[np.float64]:
    heatmaps, masks = heatmaps_of(localizer, packed, part)
    pred_masks = heatmaps > 0.5
    inter = (pred_masks & masks).sum(dim=(1, 2)).double()
    union = (pred_masks | masks).sum(dim=(1, 2)).double()
    return np.asarray(torch.where(union > 0, inter / union, 1.0).cpu().numpy(), np.float64)


def records_of(packed: Pack, part: slice, heatmaps: Tensor, masks: Tensor) -> Records:
    """Return the records of a batch's heatmaps, float32, and masks, bool, both (N, H, W)."""
    counted, tied = (counts.cpu().numpy() for counts in count_batch(heatmaps, masks))
    below, above = counted[:, :, :128].sum(axis=2), counted[:, :, 128:].sum(axis=2)
    tp, fp, fn, tn = above[:, 1], above[:, 0], below[:, 1], below[:, 0]
    return Records(
        ids=packed.ids[part],
        sources=packed.sources[part],
        counts=np.stack([tp, fp, fn, tn, tied[:, 1], tied[:, 0]], axis=1),
        preds=tuple(mask_hash(pred_mask) for pred_mask in (heatmaps > 0.5).cpu().numpy()),
        histograms=counted.astype(np.int32),
    )
