"""Decoders of frozen CLIP features, as DeCLIP has them, named `declip-BACKBONE-DECODER`, such as declip-vitl14-conv20.

Smeu, Oneata and Oneata, DeCLIP: Decoding CLIP representations for deepfake localization, WACV 2025, arXiv 2409.08849,
https://arxiv.org/abs/2409.08849. Backbones: vitl14 (the 21st of 24 blocks of ViT-L/14), rn50 (the third stage of
ResNet-50), vitl14-rn50 (both, side by side); vitb16 (the 11th of 12 blocks of ViT-B/16) is not the paper's, but small.
Decoders: linear (one weight a feature), and conv4, conv12 and conv20 (four groups of one, three or five 5 x 5
convolutions with batch normalization and ReLU, 512, 256, 128 and 64 wide, each group followed by an upsampling by two).

The weights are OpenAI's (MIT), of general images, in timm's form, with the activation that they were trained with; no
weights of DeCLIP's own are used. A 256 x 256 image is shown to ViT-L/14 and ResNet-50 at 224 x 224, as in the paper. An
image of another size, which the paper resizes to 224 x 224, is shown at the same scale of 14 to 16 instead. What
`linear` gives is resized bilinearly, not bicubically. The convolutions start as torch draws them, not from N(0, 0.02).
The paper's training is in docs/recipes/declip.toml, with the loss bce.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from deeploc_bench import Model, hookimpl

if TYPE_CHECKING:
    from torch import nn

ADDRESS = "https://arxiv.org/abs/2409.08849"
CELL = 16
"""The pixels a side of which an image has one feature."""
WIDTHS = (512, 256, 128, 64)
LR = 1e-3


class Backbone(NamedTuple):
    """A network of timm, the block that features are taken from, and the side at which it is shown a cell."""

    network: str
    block: int
    side: int


BACKBONES = {
    "vitl14": Backbone("vit_large_patch14_clip_quickgelu_224.openai", 20, 14),
    "vitb16": Backbone("vit_base_patch16_clip_quickgelu_224.openai", 10, 16),
    "rn50": Backbone("resnet50_clip.openai", 3, 14),
}
NAME = re.compile(r"declip-(vitl14-rn50|vitb16-rn50|vitl14|vitb16|rn50)-(linear|conv4|conv12|conv20)")


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the model `declip-BACKBONE-DECODER`, or None for another name."""
    found = NAME.fullmatch(name)
    if not found:
        return None
    build = partial(_build, name, found[1].split("-"), found[2])
    return Model(name=name, build=build, reference=ADDRESS, pretraining="openai-clip", license="MIT", recipe={"lr": LR})


def _build(name: str, backbones: list[str], decoder: str, weights: str | None) -> nn.Module:
    """Build with OpenAI's weights, those of a file, or None: random features; raises WeightsError.

    The file of a model of two backbones holds the tensors of each behind its name, as in `rn50.stem.conv1.conv.weight`.
    """
    from deeploc_bench_plugins.towers import FeatureLocalizer, Frozen, network

    frozen = []
    for backbone in backbones:
        timm_name, block, side = BACKBONES[backbone]
        options = {} if backbone == "rn50" else {"dynamic_img_size": True}
        prefix = f"{backbone}." if len(backbones) > 1 else ""
        built = network(timm_name, weights, model=name, prefix=prefix, **options)
        frozen.append(Frozen(built, timm_name, block=block, side=side))
    channels = sum(one.channels for one in frozen)
    return FeatureLocalizer(frozen, _decoder(decoder, channels), CELL)


def _decoder(name: str, channels: int) -> nn.Module:
    """Return the module from features (N, channels, h, w) to logits, (N, 1, h, w) of linear, else (N, 1, 16h, 16w)."""
    from torch import nn

    if name == "linear":
        return nn.Conv2d(channels, 1, 1)
    layers: list[nn.Module] = []
    for width in WIDTHS:
        for _ in range(int(name.removeprefix("conv")) // len(WIDTHS)):
            layers += [nn.Conv2d(channels, width, 5, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 5, padding=2))
