"""Two models that look at nothing, so that every other score has something to be compared with; neither is trained.

- all-manipulated: every pixel, with logit 1 (heatmap 0.73). Its IoU is the manipulated share of the image.
- centre-prior: the centred rectangle of half the height and half the width, 25 % of the area. The logit falls from 1 in
  the centre to 0 on the rectangle's border and -1 on the image's, so that curves over thresholds mean something too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeploc_bench import Model, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn


@hookimpl
def deeploc_models() -> list[Model]:
    """Return both baselines."""
    builds = {"all-manipulated": build_all_manipulated, "centre-prior": build_centre_prior}
    return [
        Model(name=name, build=build, reference=None, pretraining="none", license="MIT", trainable=False, baseline=True)
        for name, build in builds.items()
    ]


def build_all_manipulated() -> nn.Module:
    """Return a module that calls every pixel manipulated."""
    import torch
    from torch import nn

    class AllManipulated(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.ones_like(images[:, :1], dtype=torch.float32)  # (N, 1, H, W)

    return AllManipulated()


def build_centre_prior() -> nn.Module:
    """Return a module that calls the pixels with centres inside the rectangle manipulated."""
    import torch
    from torch import nn

    class CentrePrior(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            count, _, height, width = images.shape
            rows, columns = (_distances(torch.arange(side, device=images.device), side) for side in (height, width))
            logits = 1 - 2 * torch.maximum(rows[:, None], columns)  # (H, W)
            return logits.repeat(count, 1, 1, 1)

    return CentrePrior()


def _distances(indices: Tensor, side: int) -> Tensor:
    """Return how far the pixels lie from the centre line: 0 on it, 1 on the image's border."""
    return (2 * indices + 1 - side).abs() / side
