"""Tests a model: one fused count a batch, per-image integers out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import StoreError, TrainingFailed
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.augment import to_float
from deeploc_bench.data.batches import evaluation_batches, read_batch
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.perturb import Perturbation
from deeploc_bench.plan.facts import Testing
from deeploc_bench.plan.store import check_tensors
from deeploc_bench.scoring.records import Records, mask_hash, merge
from deeploc_bench.training.build import build_model, logits_of, placed
from deeploc_bench.training.ranks import map_over_ranks

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Localizer:
    """A built model on its device, ready to be tested."""

    module: nn.Module
    model: Owned[Model]
    device: torch.device
    precision: str
    input_size: int | None


def open_localizer(
    model: Owned[Model], testing: Testing, *, weights: Path | None, device: torch.device, precision: str
) -> Localizer:
    """Return a model with the trained weights of a file, or as it is built where there is none, ready to be tested.

    Raises StoreError where the weights do not fit.
    """
    set_seed(0)  # a model that is never trained may draw its weights
    module = build_model(model, "none" if weights else testing.weights)
    if weights:
        try:
            check_tensors(weights)
            module.load_state_dict(load_file(weights))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise StoreError(f"{weights} is damaged ({reason:.300}); delete it and run again") from None
    return Localizer(
        module=placed(module, device),
        model=model,
        device=device,
        precision=precision,
        input_size=testing.input_size,
    )


def count_batch(heatmaps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Count a batch in one pass: heatmaps float32 and masks bool, both (N, H, W).

    Returns histograms int64 (N, 2, 256), the authentic pixels first, in right-closed bins (heatmap > 0.5 is exactly
    bins 128 to 255), and the pixels of exactly 0.5, int64 (N, 2).
    """
    count = len(heatmaps)
    bins = (heatmaps * 256).ceil_().sub_(1).clamp_(0, 255).long()  # (N, H, W)
    images = torch.arange(count, device=heatmaps.device)[:, None, None]
    # One bincount over image, truth and bin together: a loop over images would wait for the device at each.
    index = bins.add_(masks, alpha=256).add_(images, alpha=512)
    histograms = torch.bincount(index.view(-1), minlength=512 * count).view(count, 2, 256)
    ties = heatmaps == 0.5
    manipulated = (ties & masks).sum(dim=(1, 2))  # (N,)
    return histograms, torch.stack([ties.sum(dim=(1, 2)) - manipulated, manipulated], dim=1)


@torch.inference_mode()
def heatmaps_of(
    localizer: Localizer, pack: Pack, batch: slice, perturbation: Perturbation | None = None
) -> tuple[Tensor, Tensor]:
    """Return a fixed batch's heatmaps, float32 at the masks' native size, and masks, bool, both (N, H, W).

    Raises TrainingFailed where the model's logits are NaN.
    """
    localizer.module.eval()
    images, masks = read_batch(pack, np.arange(batch.start, batch.stop))
    if perturbation:
        images = perturbation.apply(images, pack.ids[batch])
    pixels = to_float(torch.from_numpy(images).to(localizer.device))  # (N, H, W, 3) -> (N, 3, H, W)
    dtype = AUTOCAST_DTYPES.get(localizer.precision)
    with torch.autocast(localizer.device.type, dtype=dtype, enabled=dtype is not None):
        logits = logits_of(localizer.module, pixels, localizer.model, localizer.input_size)
    heatmaps = torch.sigmoid(logits)  # (N, 1, h, w): h, w = H, W, or the model's input size
    if heatmaps.shape[2:] != pixels.shape[2:]:
        heatmaps = F.interpolate(heatmaps, size=pixels.shape[2:], mode="bilinear")
    if heatmaps.isnan().any():
        raise TrainingFailed(f"the model's logits are NaN on {pack.entries[batch.start].file} or its batch")
    return heatmaps[:, 0], torch.from_numpy(masks).to(localizer.device)


def evaluate(localizer: Localizer, pack: Pack, perturbation: Perturbation | None = None) -> Records:
    """Return the records of a model on a packed test split; whole batches are dealt to the ranks."""

    def records(batch: slice) -> Records:
        return records_of(pack, batch, *heatmaps_of(localizer, pack, batch, perturbation))

    return merge(map_over_ranks(records, list(evaluation_batches(pack))))


def validation_iou(localizer: Localizer, packs: Sequence[Pack]) -> float:
    """Return the mean over all images of several packs of the IoU at heatmap > 0.5; the best epoch has the highest."""

    def ious(place: tuple[Pack, slice]) -> NDArray[np.float64]:
        return ious_of(*heatmaps_of(localizer, *place))

    batches = [(pack, batch) for pack in packs for batch in evaluation_batches(pack)]
    return float(np.concatenate(map_over_ranks(ious, batches)).mean())


def ious_of(heatmaps: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return the IoU of each image, (N,), of heatmaps and masks (N, H, W); 1 where both masks are empty.

    The same numbers as `metrics.image_ious` of the records, without making them.
    """
    pred_masks = heatmaps > 0.5
    inter = (pred_masks & masks).sum(dim=(1, 2)).double()
    union = (pred_masks | masks).sum(dim=(1, 2)).double()
    return np.asarray(torch.where(union > 0, inter / union, 1.0).cpu().numpy(), np.float64)


def records_of(pack: Pack, batch: slice, heatmaps: Tensor, masks: Tensor) -> Records:
    """Return the records of a batch's heatmaps, float32, and masks, bool, both (N, H, W)."""
    histograms, ties = (counts.cpu().numpy() for counts in count_batch(heatmaps, masks))  # (N, 2, 256), (N, 2)
    below, above = histograms[:, :, :128].sum(axis=2), histograms[:, :, 128:].sum(axis=2)  # both (N, 2)
    tp, fp, fn, tn = above[:, 1], above[:, 0], below[:, 1], below[:, 0]
    return Records(
        ids=pack.ids[batch],
        sources=pack.sources[batch],
        counts=np.stack([tp, fp, fn, tn, ties[:, 1], ties[:, 0]], axis=1),
        preds=tuple(mask_hash(pred_mask) for pred_mask in (heatmaps > 0.5).cpu().numpy()),
        histograms=histograms.astype(np.int32),
    )
