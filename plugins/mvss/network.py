"""The network of `mvss`, and its loss."""

from __future__ import annotations

import timm
import torch
from deeploc_bench_plugins.fronts.extractors import Bayar
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

PIXELS, IMAGE = 0.16, 0.04
"""The paper's weights of the pixels' and of the image's loss; the rest is the borders'."""
GRAY = (0.299, 0.587, 0.114)
TINY = 1e-6
"""Under a root, which has no gradient at 0."""


class Mvss(nn.Module):
    """Float RGB in [0, 1], (N, 3, H, W) -> logits (N, 1, H, W)."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        options = {"features_only": True, "out_indices": (1, 2, 3, 4), "output_stride": 16}
        self.edges, self.noise = (timm.create_model(backbone, **options) for _ in range(2))
        self.bayar = Bayar(1, 3)
        channels = self.edges.feature_info.channels()
        self.sobels = nn.ModuleList(Sobel() for _ in channels)
        self.borders = nn.ModuleList(Border(count, 1) for count in channels)
        self.joints = nn.ModuleList(Border(1, 1) for _ in channels[1:])
        self.fusion = Fusion(2 * channels[-1])
        config = timm.get_pretrained_cfg(backbone)
        for what, values in (("mean", config.mean), ("std", config.std), ("gray", GRAY)):
            self.register_buffer(what, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self._logits(images, self.edges((images - self.mean) / self.std))

    def training_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the weighted loss of pixels, images and borders; masks are float32 (N, 1, H, W)."""
        stages = self.edges((images - self.mean) / self.std)
        logits, borders = self._logits(images, stages).float(), self._borders(stages).float()
        image = F.binary_cross_entropy_with_logits(logits.amax((1, 2, 3)), masks.amax((1, 2, 3)))
        edges = dice(borders.sigmoid(), edges_of(masks, borders))
        return PIXELS * dice(logits.sigmoid(), masks) + IMAGE * image + (1 - PIXELS - IMAGE) * edges

    def _logits(self, images: Tensor, stages: list[Tensor]) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # the noise is as fine as bf16 is coarse
            noise = self.bayar((images.float() * self.gray).sum(1, keepdim=True))
        logits = self.fusion(torch.cat([stages[-1], self.noise(noise)[-1]], dim=1))  # (N, 1, H / 16, W / 16)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear")

    def _borders(self, stages: list[Tensor]) -> Tensor:
        """Return the logits of borders, (N, 1, H / 4, W / 4), joined from the shallow stage to the deep."""
        found = [border(sobel(one)) for one, sobel, border in zip(stages, self.sobels, self.borders, strict=True)]
        joined = found[0]
        for one, joint in zip(found[1:], self.joints, strict=True):
            joined = joint(joined.relu() + F.interpolate(one, size=joined.shape[2:], mode="bilinear"))
        return joined


class Sobel(nn.Module):
    """Weighs maps (N, C, H, W) by how steep their sum is."""

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        self.register_buffer("filters", torch.stack([across, across.T])[:, None], persistent=False)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        slopes = self.norm(F.conv2d(maps.sum(1, keepdim=True), self.filters, padding=1)).float()
        return maps * (slopes.square().sum(1, keepdim=True) + TINY).sqrt().sigmoid()


class Border(nn.Module):
    """A residual block of a few channels: (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.body = nn.Sequential(
            *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of `outputs` channels."""
        narrow = self.narrow(maps)
        return narrow + self.body(narrow)


class Fusion(nn.Module):
    """Attention over positions beside attention over channels: (N, inputs, h, w) -> logits (N, 1, h, w)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        count = inputs // 4
        self.before = nn.ModuleList(block(inputs, count) for _ in range(2))
        self.after = nn.ModuleList(block(count, count) for _ in range(2))
        self.query, self.key = (nn.Conv2d(count, max(count // 8, 1), 1) for _ in range(2))
        self.value = nn.Conv2d(count, count, 1)
        self.shares = nn.Parameter(torch.zeros(2))  # of the attended maps beside the maps, as in the paper
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(count, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits."""
        places, channels = (before(maps) for before in self.before)
        attended = places + self.shares[0] * self._over_places(places)
        weighed = channels + self.shares[1] * over_channels(channels)
        return self.head(self.after[0](attended) + self.after[1](weighed))

    def _over_places(self, maps: Tensor) -> Tensor:
        query, key, value = (one(maps).float().flatten(2) for one in (self.query, self.key, self.value))  # (N, c, P)
        with torch.autocast(maps.device.type, enabled=False):
            weights = (query.transpose(1, 2) @ key).softmax(-1)  # (N, P, P)
            return (value @ weights.transpose(1, 2)).view_as(maps)


def over_channels(maps: Tensor) -> Tensor:
    """Return each channel of maps (N, C, h, w) as a mean of all, weighed by how little they are alike."""
    with torch.autocast(maps.device.type, enabled=False):
        flat = maps.float().flatten(2)
        alike = flat @ flat.transpose(1, 2)  # (N, C, C)
        return ((alike.amax(-1, keepdim=True) - alike).softmax(-1) @ flat).view_as(maps)


def edges_of(masks: Tensor, borders: Tensor) -> Tensor:
    """Return 1 within a pixel of a border of masks (N, 1, H, W), else 0, at the size of the maps of borders."""
    small = F.adaptive_max_pool2d(masks, borders.shape[2:])
    return F.max_pool2d(small, 3, 1, 1) + F.max_pool2d(-small, 3, 1, 1)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution, a normalization and a rectifier."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def dice(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Return the Dice loss over a batch, with squares and 1 added to both sums, as the paper has it."""
    both, every = (heatmaps * masks).sum(), heatmaps.square().sum() + masks.square().sum()
    return 1 - (2 * both + 1) / (every + 1)
