"""What takes the content out of an image and leaves its noise, as modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from deeploc_bench_plugins.residual_unet import TRUNCATION, srm_filters
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

LAYERS, MAPS = 7, 32
MIDDLE, SPREAD = 0.5, 0.25
"""The mean and the spread of what a front end returns: about those of an image in [0, 1]."""


class Srm(nn.Module):
    """Images (N, 3, H, W) in [0, 1] -> the residuals of three fixed filters of their gray, in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", srm_filters()[:, None], persistent=False)  # (3, 1, 5, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Return the residuals, 0.5 where there is none."""
        gray = F.pad(images.mean(1, keepdim=True), (2, 2, 2, 2), mode="reflect")
        residuals = F.conv2d(gray, self.filters)
        return MIDDLE + residuals.clamp(-TRUNCATION, TRUNCATION) / (2 * TRUNCATION)


class Bayar(nn.Module):
    """A convolution whose filters predict a pixel by those around it: (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, side: int = 5) -> None:
        super().__init__()
        self.side = side
        self.free = nn.Parameter(torch.rand(outputs, inputs, side**2 - 1) / side**2)

    def weight(self) -> Tensor:
        """Return the filters, (outputs, inputs, side, side): -1 in the centre, the other weights sum to 1."""
        around = self.free + (1 - self.free.sum(-1, keepdim=True)) / self.free.shape[-1]
        before, after = around.chunk(2, dim=-1)
        filters = torch.cat([before, -torch.ones_like(around[..., :1]), after], dim=-1)
        return filters.unflatten(-1, (self.side, self.side))

    def forward(self, images: Tensor) -> Tensor:
        """Return how far each pixel lies from its prediction."""
        return F.conv2d(F.pad(images, (self.side // 2,) * 4, mode="reflect"), self.weight())


class Normalized(nn.Module):
    """A residual extractor of three channels, given the mean and the spread of an image."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor, self.norm = extractor, nn.BatchNorm2d(3, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return residuals (N, 3, H, W) of images (N, 3, H, W)."""
        return MIDDLE + SPREAD * self.norm(self.extractor(images))


def residual_stack() -> nn.Module:
    """Return the convolutions of the `noiseprint` front end: (N, 3, H, W) -> (N, 3, H, W)."""
    layers: list[nn.Module] = [nn.Conv2d(3, MAPS, 3, padding=1), nn.ReLU()]
    for _ in range(LAYERS - 2):
        layers += [nn.Conv2d(MAPS, MAPS, 3, padding=1, bias=False), nn.BatchNorm2d(MAPS), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(MAPS, 3, 3, padding=1, bias=False))


FRONTS: Mapping[str, Callable[[], nn.Module]] = {
    "srm": Srm,
    "bayar": lambda: Normalized(Bayar(3, 3)),
    "noiseprint": lambda: Normalized(residual_stack()),
}


class Fronted(nn.Module):
    """A front end and the model behind it: float RGB in [0, 1], (N, 3, H, W) -> logits (N, 1, H, W)."""

    def __init__(self, front: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.front, self.model = front, model

    def noise(self, images: Tensor) -> Tensor:
        """Return what the model behind sees, float32 (N, 3, H, W), whatever the precision of the training."""
        with torch.autocast(images.device.type, enabled=False):
            noise: Tensor = self.front(images.float())
        return noise

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the model behind."""
        logits: Tensor = self.model(self.noise(images))
        return logits


class OwnFronted(Fronted):
    """A front end before a model that brings a loss of its own."""

    def training_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of the model behind."""
        loss: Tensor = self.model.training_loss(self.noise(images), masks)
        return loss
