"""Training losses, all from logits (N, 1, H, W) and masks of the same shape, computed in float32.

Where a loss is batch-wise, the sums run over all pixels of a batch, and a batch without a manipulated pixel counts 0.
tp, fp, fn are sums of probabilities: p over manipulated pixels, p over authentic ones, 1 - p over manipulated ones.

- jaccard: 1 - tp / (tp + fp + fn), batch-wise. Wang et al., Jaccard Metric Losses: Optimizing the Jaccard Index with
  Soft Labels, 2023, arXiv 2302.05666.
- dice: 1 - 2 tp / (2 tp + fp + fn), batch-wise. Wang et al., Dice Semimetric Losses: Optimizing the Dice Score with
  Soft Labels, 2023, arXiv 2303.16296; after Milletari et al., V-Net, 2016, arXiv 1606.04797.
- tversky: 1 - tp / (tp + 0.3 fp + 0.7 fn), batch-wise. Salehi et al., Tversky loss function for image segmentation
  using 3D fully convolutional deep networks, 2017, arXiv 1706.05721.
- lovasz: the Lovász hinge of the Jaccard index, over the pixels of a batch together. Berman et al., The Lovász-Softmax
  loss, 2017, arXiv 1705.08790. The only one of the index losses that teaches anything on a batch of empty masks.
- focal: -(1 - q)^2 log q, q the probability given to the truth, mean over pixels, no class weight. Lin et al., Focal
  Loss for Dense Object Detection, 2017, arXiv 1708.02002.
- bce: -log q, mean over pixels. torch.nn.BCEWithLogitsLoss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from deeploc_bench import Loss, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

ARXIV = "https://arxiv.org/abs/"
TORCH = "https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html"


@hookimpl
def deeploc_losses() -> list[Loss]:
    """Return the losses of segmentation-models-pytorch for binary masks, and torch's binary cross-entropy."""
    return [
        Loss(name="jaccard", build=partial(_build, "JaccardLoss"), reference=f"{ARXIV}2302.05666", license="MIT"),
        Loss(name="dice", build=partial(_build, "DiceLoss"), reference=f"{ARXIV}2303.16296", license="MIT"),
        Loss(name="focal", build=partial(_build, "FocalLoss"), reference=f"{ARXIV}1708.02002", license="MIT"),
        Loss(name="lovasz", build=partial(_build, "LovaszLoss"), reference=f"{ARXIV}1705.08790", license="MIT"),
        Loss(name="tversky", build=build_tversky, reference=f"{ARXIV}1706.05721", license="MIT"),
        Loss(name="bce", build=build_bce, reference=TORCH, license="BSD-3-Clause"),
    ]


def build_tversky() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the Tversky loss with the paper's best weights: 0.3 for false alarms, 0.7 for misses."""
    return _build("TverskyLoss", alpha=0.3, beta=0.7)


def build_bce() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the binary cross-entropy."""
    from torch import nn

    return _in_float32(nn.BCEWithLogitsLoss())


def _build(name: str, **options: float) -> Callable[[Tensor, Tensor], Tensor]:
    from segmentation_models_pytorch import losses

    return _in_float32(getattr(losses, name)(mode="binary", **options))


def _in_float32(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, masks: loss(logits.float(), masks.float())
