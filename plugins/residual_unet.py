"""A small full-resolution U-Net on fixed high-pass residuals beside RGB.

Edits leave little in the content and much in the noise, so the network is given the residuals of the SRM filters
(Fridrich and Kodovsky, Rich models for steganalysis of digital images, IEEE TIFS 2012), in the choice of three that
Zhou et al. feed to a detector (Learning rich features for image manipulation detection, arXiv 1805.04953), and
truncated as both do. The U-Net is Ronneberger et al.'s (arXiv 1505.04597), shallow and narrow; what it skips is added
to what comes from below, as in LinkNet (Chaurasia and Culurciello, arXiv 1707.03718), and convolved once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from deeploc_bench import Model, hookimpl

WIDTHS = (16, 32, 48, 64)
TRUNCATION = 3 / 255


def build() -> Any:
    """Build the network, from scratch."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F  # noqa: N812

    def convolution(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    class ResidualUnet(nn.Module):
        """Float RGB in [0, 1], (N, 3, H, W) -> logits (N, 1, H, W)."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("filters", srm_filters()[:, None].repeat(3, 1, 1, 1), persistent=False)
            levels = [*pairwise(WIDTHS)][::-1]  # the channels of each level and of the one below it, from the deepest
            self.down = nn.ModuleList(
                nn.Sequential(convolution(inputs, outputs), convolution(outputs, outputs))
                for inputs, outputs in pairwise((12, *WIDTHS))
            )
            self.narrow = nn.ModuleList(nn.Conv2d(deep, skip, 1, bias=False) for skip, deep in levels)
            self.up = nn.ModuleList(convolution(skip, skip) for skip, _ in levels)
            self.head = nn.Conv2d(WIDTHS[0], 1, 1)

        def forward(self, images: Tensor) -> Tensor:
            residuals = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), self.filters, groups=3)
            features = torch.cat([2 * images - 1, residuals.clamp(-TRUNCATION, TRUNCATION) / TRUNCATION], dim=1)
            skips = []
            for level, block in enumerate(self.down):
                features = block(F.max_pool2d(features, 2) if level else features)
                skips.append(features)
            for narrow, block, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
                grown = F.interpolate(narrow(features), size=skip.shape[2:], mode="nearest")
                features = block(grown + skip)
            return self.head(features)

    return ResidualUnet()


def srm_filters() -> Any:
    """Return the three SRM high-pass filters, (3, 5, 5): first-order, second-order (KV) and second-order line."""
    import torch

    square = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]
    kv = [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]
    line = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    scales = torch.tensor([4.0, 12.0, 2.0])
    return torch.tensor([square, kv, line], dtype=torch.float32) / scales[:, None, None]


@hookimpl
def deeploc_models() -> list[Model]:
    """The embedded suite's default model."""
    return [
        Model(
            name="residual-unet",
            build=build,
            reference="https://arxiv.org/abs/1805.04953",
            pretraining="none",
            license="MIT",
        )
    ]
