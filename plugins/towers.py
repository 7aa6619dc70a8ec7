"""Networks of timm with published weights, how these are loaded, and localizers on their features.

No plugin itself: a part of those that build on it, and of what identifies their trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from deeploc_bench_plugins.published import published, reason_of
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from deeploc_bench import WeightsError


def network(name: str, weights: str | None, *, model: str, prefix: str = "", **options: Any) -> nn.Module:
    """Build a network of timm with its published weights ("default"), those of a safetensors file, or None.

    The file names tensors as timm does, behind `prefix` where several networks share it. Raises WeightsError.
    """
    if weights is None:
        return timm.create_model(name, **options)
    file = weights
    if weights == "default":
        file = published(timm.get_pretrained_cfg(name).hf_hub_id, whose="network", model=model)
    tensors = _tensors(file, "" if weights == "default" else prefix, model)
    try:
        overlay = {"state_dict": tensors, "custom_load": False}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:
        raise WeightsError(
            f"model {model!r}: weights file {file} does not hold the tensors of timm's {name}, named as timm names "
            f"them{f' behind {prefix!r}' if prefix else ''}: {reason_of(error)}"
        ) from error


def _tensors(file: str, prefix: str, model: str) -> dict[str, Tensor]:
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"model {model!r}: {file} is not a safetensors file: {reason_of(error)}") from error
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not chosen:
        lacking = f"no tensor whose name begins with {prefix!r}; it must hold those of every network of the model"
        lacking = f"{lacking}, each behind its own prefix" if prefix else "no tensor"
        raise WeightsError(f"model {model!r}: weights file {file} has {lacking}")
    return chosen


class Normalization(nn.Module):
    """Brings RGB in [0, 1], (N, 3, H, W), to the mean and standard deviation that a network's weights expect."""

    def __init__(self, name: str) -> None:
        super().__init__()
        config = timm.get_pretrained_cfg(name)
        for what, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(what, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape."""
        return (images - self.mean) / self.std


class Frozen(nn.Module):
    """The features of one block of a network that is not trained, and stays in eval mode.

    RGB in [0, 1], (N, 3, H, W), to (N, channels, h, w). Blocks behind it are left out. `has_norm`: the network's last
    normalization follows. `side` is the side in pixels at which a cell of the localizer's grid is shown to it; an image
    is shown in a multiple of `stride`, the pixels of a feature.
    """

    def __init__(self, network: nn.Module, name: str, *, block: int, side: int, has_norm: bool = False) -> None:
        super().__init__()
        network.prune_intermediate_layers([block], prune_norm=not has_norm)
        self.network = network.requires_grad_(False)
        self.normalization = Normalization(name)
        self.block, self.side, self.has_norm = block, side, has_norm
        self.channels, self.stride = (network.feature_info[block][what] for what in ("num_chs", "reduction"))
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, whatever the localizer is in."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images whose sides are multiples of `stride`."""
        images = self.normalization(images)
        options = {"indices": [self.block], "norm": self.has_norm, "stop_early": True, "intermediates_only": True}
        return self.network.forward_intermediates(images, **options)[0]


class FeatureLocalizer(nn.Module):
    """A head on the features of frozen networks, one of each `cell` x `cell` pixels of an image of any size.

    Images are padded to whole cells by repeating the border. Each network is shown them at its own scale, so that a
    feature sees as much of a small image as of a large one. What the head returns is resized to the image.
    """

    def __init__(self, networks: Sequence[Frozen], head: nn.Module, cell: int) -> None:
        super().__init__()
        self.networks, self.head, self.cell = nn.ModuleList(networks), head, cell

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) of float RGB in [0, 1], (N, 3, H, W)."""
        height, width = images.shape[2:]
        below, right = -height % self.cell, -width % self.cell
        images = pad(images, (0, right, 0, below), mode="replicate")
        grid = ((height + below) // self.cell, (width + right) // self.cell)
        features = [_resized(network(_shown(images, grid, network)), grid) for network in self.networks]
        logits = self.head(torch.cat(features, dim=1))
        return _resized(logits, images.shape[2:])[..., :height, :width]


def _shown(images: Tensor, grid: tuple[int, int], network: Frozen) -> Tensor:
    """Return images of a grid of cells at the scale of a network."""
    height, width = (-(-cells * network.side // network.stride) * network.stride for cells in grid)
    if images.shape[2:] == (height, width):
        return images
    return interpolate(images, size=(height, width), mode="bilinear", antialias=True)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if maps.shape[2:] == tuple(size):
        return maps
    return interpolate(maps, size=tuple(size), mode="bilinear")
