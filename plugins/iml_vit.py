"""IML-ViT, a transformer that looks through windows, with a loss that weighs borders: `iml-vit`, `iml-vit-small`.

Ma et al., IML-ViT: Benchmarking image manipulation localization by vision transformer, arXiv 2307.14863,
https://arxiv.org/abs/2307.14863. `iml-vit` is the paper's: ViT-B/16 with windows of 14 x 14 patches in all but every
third block, images padded with black to 1024 x 1024, five scales of 256 channels. `iml-vit-small` is ours, for small
images: ViT-S/16, images padded to whole patches only, and windows of 4 x 4, about as large a part of 256 x 256 pixels
as the paper's are of 1024 x 1024. Blocks and relative positions are timm's of Segment Anything, as in ViTDet (Li et
al., arXiv 2203.16527), from which the paper has its own, too.

Initial weights are those of a masked autoencoder (He et al., arXiv 2111.06377; CC BY-NC 4.0) and, of the small one, of
DINO (Caron et al., arXiv 2104.14294; Apache-2.0), both trained on ImageNet-1k without labels; no weights of IML-ViT are
used. Say `--loss own` for the paper's loss: binary cross-entropy, plus 20 times that of the pixels within 3 of a mask's
border. Its optimizer and learning rate are the paper's, too. What differs: its means are over the image alone, not over
what it is padded by; an image of more than 1024 pixels a side is padded to whole patches, not cropped; the weights'
places are brought to the grid of 1024 x 1024 pixels (256 x 256 of the small one) once, not in each step, so that a
training at that size is deterministic on a GPU, too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from deeploc_bench import Model, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

ADDRESS = "https://arxiv.org/abs/2307.14863"
PATCH, DEPTH, GLOBAL_BLOCKS = 16, 12, (2, 5, 8, 11)
CHANNELS = 256
RECIPE = {"lr": 1e-4, "optimizer": "adamw"}
EDGE_WEIGHT, EDGE_REACH = 20, 3


class Size(NamedTuple):
    """The network of timm it starts from, its width, heads and windows' side in patches, a licence.

    `least` is the side in pixels that images are padded to at least, `side` the one for which places are kept: for
    others they are interpolated.
    """

    network: str
    width: int
    heads: int
    window: int
    least: int
    side: int
    license: str


SIZES = {
    "iml-vit": Size("vit_base_patch16_224.mae", 768, 12, 14, 1024, 1024, "CC-BY-NC-4.0"),
    "iml-vit-small": Size("vit_small_patch16_224.dino", 384, 6, 4, PATCH, 256, "Apache-2.0"),
}


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the paper's model or the one for small images, or None for another name."""
    if name not in SIZES:
        return None
    build, size = partial(_build, name), SIZES[name]
    return Model(
        name=name, build=build, reference=ADDRESS, pretraining="imagenet", license=size.license, recipe=dict(RECIPE)
    )


def _build(name: str, weights: str | None) -> nn.Module:
    """Build with the transformer's published weights, those of a file, or None; raises WeightsError."""
    import torch
    from deeploc_bench_plugins.towers import Normalization
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, max_pool2d, pad

    size = SIZES[name]

    class ImlVit(nn.Module):
        """Float RGB in [0, 1], (N, 3, H, W) -> logits (N, 1, H, W)."""

        def __init__(self) -> None:
            super().__init__()
            self.normalization = Normalization(size.network)
            self.transformer = _transformer(size, name, weights)
            self.pyramid = _pyramid(size.width)
            self.fuse = nn.Conv2d((len(self.pyramid) + 1) * CHANNELS, CHANNELS, 1)
            self.head = nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.Dropout(), nn.Conv2d(CHANNELS, 1, 1))

        def forward(self, images: Tensor) -> Tensor:
            height, width = images.shape[2:]
            padded = [-(-max(side, size.least) // PATCH) * PATCH for side in (height, width)]
            images = self.normalization(pad(images, (0, padded[1] - width, 0, padded[0] - height)))
            (features,) = self.transformer.forward_intermediates(images, indices=[DEPTH - 1], intermediates_only=True)
            levels = [level(features) for level in self.pyramid]  # (N, 256, h, w) at 1/4, 1/8, 1/16, 1/32
            levels.append(max_pool2d(levels[-1], 1, stride=2))  # 1/64
            levels = [interpolate(level, size=levels[0].shape[2:], mode="bilinear") for level in levels]
            logits = self.head(self.fuse(torch.cat(levels, dim=1)))
            return interpolate(logits, size=tuple(padded), mode="bilinear")[..., :height, :width]

        def training_loss(self, images: Tensor, masks: Tensor) -> Tensor:
            logits = self(images).float()
            weights = 1 + EDGE_WEIGHT * _edges(masks)
            return binary_cross_entropy_with_logits(logits, masks, weight=weights)

    return ImlVit()


def _edges(masks: Tensor) -> Tensor:
    """Return 1 where a pixel of the other kind lies within reach in its row or column, else 0, (N, 1, H, W)."""
    return _dilated(masks) * _dilated(1 - masks)


def _dilated(masks: Tensor) -> Tensor:
    import torch
    from torch.nn.functional import max_pool2d

    long = 2 * EDGE_REACH + 1
    row = max_pool2d(masks, (1, long), stride=1, padding=(0, EDGE_REACH))
    return torch.maximum(row, max_pool2d(masks, (long, 1), stride=1, padding=(EDGE_REACH, 0)))


def _transformer(size: Size, name: str, weights: str | None) -> nn.Module:
    """Return the transformer with the patches, blocks and places of a plain one, or as that begins at random."""
    from deeploc_bench_plugins.towers import network
    from timm.layers import resample_abs_pos_embed_nhwc
    from timm.models.vision_transformer_sam import VisionTransformerSAM
    from torch import nn

    plain = network(size.network, weights, model=name)
    transformer = VisionTransformerSAM(
        img_size=size.side,
        patch_size=PATCH,
        embed_dim=size.width,
        depth=DEPTH,
        num_heads=size.heads,
        drop_path_rate=0.1,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=size.window,
        global_attn_indexes=GLOBAL_BLOCKS,
    )
    transformer.prune_intermediate_layers([DEPTH - 1], prune_norm=True)
    transformer.patch_embed.load_state_dict(plain.patch_embed.state_dict())
    places = plain.pos_embed[:, 1:].unflatten(1, plain.patch_embed.grid_size)  # (1, 14, 14, width), no class token's
    grown = resample_abs_pos_embed_nhwc(places.detach(), transformer.patch_embed.grid_size)
    transformer.pos_embed = nn.Parameter(grown.clone())
    for block, source in zip(transformer.blocks, plain.blocks, strict=True):
        state = {key: value for key, value in block.state_dict().items() if ".rel_pos_" in key}
        block.load_state_dict(state | source.state_dict())
    return transformer


def _pyramid(width: int) -> nn.ModuleList:
    """Return the modules from features (N, width, h, w) to CHANNELS of them at 4, 2, 1 and 1/2 times the size."""
    from timm.layers import LayerNorm2d
    from torch import nn

    half, quarter = width // 2, width // 4

    def twice(inputs: int, outputs: int) -> nn.Module:
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)

    def level(channels: int, *layers: nn.Module) -> nn.Sequential:
        narrow = nn.Conv2d(channels, CHANNELS, 1, bias=False)
        smooth = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        return nn.Sequential(*layers, narrow, LayerNorm2d(CHANNELS), smooth, LayerNorm2d(CHANNELS))

    return nn.ModuleList(
        [
            level(quarter, twice(width, half), LayerNorm2d(half), nn.GELU(), twice(half, quarter)),
            level(half, twice(width, half)),
            level(width),
            level(width, nn.MaxPool2d(2)),
        ]
    )
