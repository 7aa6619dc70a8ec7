"""A linear or small convolutional head on frozen DINOv2 features, named `dinov2-SIZE-HEAD`, such as dinov2-small-conv.

Oquab et al., DINOv2: Learning robust visual features without supervision, arXiv 2304.07193,
https://arxiv.org/abs/2304.07193. Sizes: small, base and large (ViT-S/14, ViT-B/14 and ViT-L/14, without registers).
Features are those of the last block, normalized. Heads: linear, the paper's for segmentation (batch normalization and
one weight a feature), and conv, ours: two 3 x 3 convolutions, 256 and 64 wide, with batch normalization and ReLU, each
followed by an upsampling by two, and one weight a feature.

The weights are Meta's (Apache-2.0), of general images (LVD-142M), in timm's form. An image is taken at its own size and
padded to whole patches of 14 x 14 pixels, which have one feature each; logits are resized bilinearly.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from deeploc_bench import Model, hookimpl

if TYPE_CHECKING:
    from torch import nn

ADDRESS = "https://arxiv.org/abs/2304.07193"
PATCH = 14
BLOCKS = {"small": 12, "base": 12, "large": 24}
NAME = re.compile(r"dinov2-(small|base|large)-(linear|conv)")
LR = 1e-3


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the model `dinov2-SIZE-HEAD`, or None for another name."""
    found = NAME.fullmatch(name)
    if not found:
        return None
    build = partial(_build, name, found[1], found[2])
    return Model(
        name=name, build=build, reference=ADDRESS, pretraining="lvd142m", license="Apache-2.0", recipe={"lr": LR}
    )


def _build(name: str, size: str, head: str, weights: str | None) -> nn.Module:
    """Build with Meta's weights, those of a file, or None: random features; raises WeightsError."""
    from deeploc_bench_plugins.towers import FeatureLocalizer, Frozen, network

    timm_name = f"vit_{size}_patch14_dinov2.lvd142m"
    built = network(timm_name, weights, model=name, dynamic_img_size=True)
    frozen = Frozen(built, timm_name, block=BLOCKS[size] - 1, side=PATCH, has_norm=True)
    return FeatureLocalizer([frozen], _linear(frozen.channels) if head == "linear" else _conv(frozen.channels), PATCH)


def _linear(channels: int) -> nn.Module:
    """Return the module from features (N, channels, h, w) to logits (N, 1, h, w)."""
    from torch import nn

    return nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, 1, 1))


def _conv(channels: int) -> nn.Module:
    """Return the module from features (N, channels, h, w) to logits (N, 1, 4h, 4w)."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, width in ((channels, 256), (256, 64)):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers, nn.Conv2d(64, 1, 1))
