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
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.augment import Pixels
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counted:
    """What is counted of a batch of N images.

    `histograms` is int32 (N, 2, 256), the authentic pixels first, in right-closed bins (heatmap > 0.5 is exactly bins
    128 to 255); `ties` are the authentic and the manipulated pixels of exactly 0.5, int64 (N, 2); `pred_masks` is bool
    (N, H, W).
    """

    histograms: NDArray[np.int32]
    ties: NDArray[np.int64]
    pred_masks: NDArray[np.bool_]


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


def count_batch(heatmaps: Tensor, masks: Tensor) -> Counted:
    """Count a batch in one pass, on its device: heatmaps float32 and masks bool, both (N, H, W)."""
    return count_here(heatmaps, masks) if heatmaps.device.type == "cpu" else count_there(heatmaps, masks)


def count_here(heatmaps: Tensor, masks: Tensor) -> Counted:
    """Do `count_batch` on the CPU, image by image, so that what is made of one stays in the cache."""
    places = (_places(*image).view(-1) for image in zip(heatmaps, masks, strict=True))
    histograms = [torch.bincount(place, minlength=512).int() for place in places]
    levels, truth = heatmaps.numpy(), masks.numpy()
    ties = levels == 0.5  # by numpy, which compares and counts ten times faster than torch
    manipulated = areas(ties & truth)
    return Counted(
        histograms=torch.stack(histograms).view(-1, 2, 256).numpy(),
        ties=np.stack([areas(ties) - manipulated, manipulated], axis=1),
        pred_masks=levels > 0.5,
    )


def count_there(heatmaps: Tensor, masks: Tensor) -> Counted:
    """Do `count_batch` on a GPU, all images at once; nothing waits for the device before all is under way."""
    count = len(heatmaps)
    images = torch.arange(count, device=heatmaps.device)[:, None, None]
    places = _places(heatmaps, masks).long().add_(images, alpha=512).view(-1)
    ones = torch.ones(1, dtype=torch.int32, device=heatmaps.device)
    # bincount would wait, to learn how many bins there are
    histograms = ones.new_zeros(512 * count).scatter_add_(0, places, ones.expand(len(places)))
    ties, pred_masks = heatmaps == 0.5, heatmaps > 0.5
    manipulated = (ties & masks).sum(dim=(1, 2))
    both = torch.stack([ties.sum(dim=(1, 2)) - manipulated, manipulated], dim=1)
    return Counted(
        histograms=histograms.view(count, 2, 256).cpu().numpy(),
        ties=both.cpu().numpy(),
        pred_masks=pred_masks.cpu().numpy(),
    )


def areas(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the pixels of each mask, (N, H, W) -> (N,)."""
    return np.array([np.count_nonzero(mask) for mask in masks], np.int64)


def _places(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Return the bin of each pixel, 0 to 255, and 256 more where it is manipulated: int16, in the heatmaps' shape."""
    return (heatmaps * 256).ceil_().to(torch.int16).sub_(1).clamp_(0, 255).add_(masks, alpha=256)


@torch.inference_mode()
def heatmaps_of(
    localizer: Localizer, pack: Pack, batch: slice, perturbation: Perturbation | None = None
) -> tuple[Tensor, Tensor]:
    """Return a fixed batch's heatmaps, float32 at the masks' native size, and masks, bool, both (N, H, W).

    Raises TrainingFailed where the model's logits are NaN.
    """
    heatmaps, masks = _heatmaps(localizer, Pixels(), pack, batch, perturbation)
    _refuse_nan(heatmaps.sum(), pack, batch)
    return heatmaps, masks


@torch.inference_mode()
def _heatmaps(
    localizer: Localizer, pixels: Pixels, pack: Pack, batch: slice, perturbation: Perturbation | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `heatmaps_of` does, NaN where the logits are; nothing here waits for the device."""
    localizer.module.eval()
    images, masks = read_batch(pack, batch)
    if perturbation:
        images = perturbation.apply(images, pack.ids[batch])
    fed = pixels.of(torch.from_numpy(images).to(localizer.device))  # (N, H, W, 3) -> (N, 3, H, W)
    dtype = AUTOCAST_DTYPES.get(localizer.precision)
    with torch.autocast(localizer.device.type, dtype=dtype, enabled=dtype is not None):
        logits = logits_of(localizer.module, fed, localizer.model, localizer.input_size)
    heatmaps = torch.sigmoid(logits)  # (N, 1, h, w): h, w = H, W, or the model's input size
    if heatmaps.shape[2:] != fed.shape[2:]:
        heatmaps = F.interpolate(heatmaps, size=fed.shape[2:], mode="bilinear")
    return heatmaps[:, 0], torch.from_numpy(masks).to(localizer.device)


def _refuse_nan(total: Tensor, pack: Pack, batch: slice) -> None:
    """Raise TrainingFailed where the sum of a batch's heatmaps is NaN, as it is where one of its pixels is."""
    if total.isnan():
        raise TrainingFailed(f"the model's logits are NaN on {pack.entries[batch.start].file} or its batch")


def evaluate(localizer: Localizer, pack: Pack, perturbation: Perturbation | None = None) -> Records:
    """Return the records of a model on a packed test split; whole batches are dealt to the ranks.

    Raises TrainingFailed where the model's logits are NaN.
    """
    pixels = Pixels()

    def records(batch: slice) -> Records:
        heatmaps, masks = _heatmaps(localizer, pixels, pack, batch, perturbation)
        total = heatmaps.sum()  # looked at behind the counts, so that a device is waited for once a batch
        found = records_of(pack, batch, heatmaps, masks)
        _refuse_nan(total, pack, batch)
        return found

    return merge(map_over_ranks(records, list(evaluation_batches(pack))))


def validation_iou(localizer: Localizer, packs: Sequence[Pack]) -> float:
    """Return the mean over all images of several packs of the IoU at heatmap > 0.5; the best epoch has the highest.

    Raises TrainingFailed where the model's logits are NaN.
    """
    pixels = Pixels()

    def ious(place: tuple[Pack, slice]) -> NDArray[np.float64]:
        heatmaps, masks = _heatmaps(localizer, pixels, *place)
        total = heatmaps.sum()
        found = ious_of(heatmaps, masks)
        _refuse_nan(total, *place)
        return found

    batches = [(pack, batch) for pack in packs for batch in evaluation_batches(pack)]
    return float(np.concatenate(map_over_ranks(ious, batches)).mean())


def ious_of(heatmaps: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return the IoU of each image, (N,), of heatmaps and masks (N, H, W); 1 where both masks are empty.

    The same numbers as `metrics.image_ious` of the records, without making them.
    """
    overlaps = overlaps_here if heatmaps.device.type == "cpu" else overlaps_there
    inter, union = overlaps(heatmaps, masks)
    ious: NDArray[np.float64] = np.divide(inter, union, out=np.ones(len(inter)), where=union > 0)
    return ious


def overlaps_here(heatmaps: Tensor, masks: Tensor) -> NDArray[np.int64]:
    """Return the pixels of the intersections and of the unions with the predicted masks, (2, N), on the CPU."""
    pred_masks, truth = heatmaps.numpy() > 0.5, masks.numpy()
    return np.stack([areas(pred_masks & truth), areas(pred_masks | truth)])


def overlaps_there(heatmaps: Tensor, masks: Tensor) -> NDArray[np.int64]:
    """Do `overlaps_here` on a GPU, all images at once."""
    pred_masks = heatmaps > 0.5
    both = torch.stack([pred_masks & masks, pred_masks | masks])  # (2, N, H, W)
    return np.asarray(both.sum(dim=(2, 3)).cpu().numpy(), np.int64)


def records_of(pack: Pack, batch: slice, heatmaps: Tensor, masks: Tensor) -> Records:
    """Return the records of a batch's heatmaps, float32, and masks, bool, both (N, H, W)."""
    counted = count_batch(heatmaps, masks)
    histograms, ties = counted.histograms, counted.ties
    below, above = histograms[:, :, :128].sum(axis=2), histograms[:, :, 128:].sum(axis=2)  # both (N, 2)
    tp, fp, fn, tn = above[:, 1], above[:, 0], below[:, 1], below[:, 0]
    return Records(
        ids=pack.ids[batch],
        sources=pack.sources[batch],
        counts=np.stack([tp, fp, fn, tn, ties[:, 1], ties[:, 0]], axis=1),
        preds=tuple(map(mask_hash, counted.pred_masks)),
        histograms=histograms,
    )
