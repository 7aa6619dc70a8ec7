"""Training losses, all from logits (N, 1, H, W) and masks of the same shape, computed in float32.

Where a loss is batch-wise, the sums run over all pixels of a batch, and a batch without a manipulated pixel counts 0.
tp, fp, fn are sums of probabilities: p over manipulated pixels, p over authentic ones, 1 - p over manipulated ones.

In brackets are the parameters that an expression may set, and what they are where it does not.

- jaccard(smooth=0): 1 - (tp + smooth) / (tp + fp + fn + smooth), batch-wise. Wang et al., Jaccard Metric Losses:
  Optimizing the Jaccard Index with Soft Labels, 2023, arXiv 2302.05666.
- dice(smooth=0): 1 - 2 (tp + smooth) / (2 (tp + smooth) + fp + fn), batch-wise. Wang et al., Dice Semimetric Losses:
  Optimizing the Dice Score with Soft Labels, 2023, arXiv 2303.16296; after Milletari et al., V-Net, 2016, arXiv
  1606.04797.
- tversky(alpha=0.3,beta=0.7,gamma=1): (1 - tp / (tp + alpha fp + beta fn))^gamma, batch-wise. Salehi et al.,
  Tversky loss function for image segmentation using 3D fully convolutional deep networks, 2017, arXiv 1706.05721.
- lovasz: the Lovász hinge of the Jaccard index, over the pixels of a batch together. Berman et al., The Lovász-Softmax
  loss, 2017, arXiv 1705.08790. The only one of the index losses that teaches anything on a batch of empty masks.
- focal(gamma=2): -(1 - q)^gamma log q, q the probability given to the truth, mean over pixels; where `alpha` is set,
  times alpha on manipulated and 1 - alpha on authentic ones. Lin et al., Focal Loss for Dense Object Detection, 2017,
  arXiv 1708.02002.
- bce: -log q, mean over pixels; where `pos_weight` is set, times it on manipulated ones. torch.nn.BCEWithLogitsLoss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from deeploc_bench import Loss, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

ARXIV = "https://arxiv.org/abs/"
TORCH = "https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html"


@hookimpl
def deeploc_losses() -> list[Loss]:
    """Return the losses of segmentation-models-pytorch for binary masks, and torch's binary cross-entropy."""
    return [
        _smp("jaccard", "JaccardLoss", "2302.05666", smooth=0.0),
        _smp("dice", "DiceLoss", "2303.16296", smooth=0.0),
        _smp("focal", "FocalLoss", "1708.02002", gamma=2.0, alpha=None),
        _smp("lovasz", "LovaszLoss", "1705.08790"),
        _smp("tversky", "TverskyLoss", "1706.05721", alpha=0.3, beta=0.7, gamma=1.0),  # the paper's best weights
        Loss(name="bce", build=build_bce, reference=TORCH, license="BSD-3-Clause", parameters={"pos_weight": None}),
    ]


def build_bce(pos_weight: float | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the binary cross-entropy."""
    from torch import nn, tensor

    return _in_float32(nn.BCEWithLogitsLoss(pos_weight=None if pos_weight is None else tensor(pos_weight)))


def _smp(name: str, kind: str, paper: str, **parameters: float | None) -> Loss:
    build = partial(_build, kind, **parameters)
    return Loss(name=name, build=build, reference=f"{ARXIV}{paper}", license="MIT", parameters=parameters)


def _build(kind: str, **parameters: float | None) -> Callable[[Tensor, Tensor], Tensor]:
    from segmentation_models_pytorch import losses

    return _in_float32(getattr(losses, kind)(mode="binary", **parameters))


def _in_float32(loss: nn.Module) -> nn.Module:
    from torch import nn

    class InFloat32(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = loss

        def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
            return self.loss(logits.float(), masks.float())

    return InFloat32()
