"""Patch Forensics: an Xception network that ends after a few blocks and judges overlapping patches, each for itself.

Chai, Bau, Lim and Isola, What makes fake images detectable? Understanding properties that generalize, ECCV 2020, arXiv
2008.10588, https://arxiv.org/abs/2008.10588. `patch-forensics` ends after the second block of Xception (Chollet, arXiv
1610.02357), as in Dolos (arXiv 2311.04584), which trains it on masks; `patch-forensics-block1` to `-block5` after
another. It is trained from scratch, as there: convolutions start from Xavier's distribution with a gain of 0.02; no
published weights are used.

What differs: one logit a patch, where the paper has one for each of two classes; the map of logits is resized to the
image bilinearly, where the paper gives each patch the image's label, so that any loss on masks trains it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from deeploc_bench import Model, hookimpl

ADDRESS = "https://arxiv.org/abs/2008.10588"
DEFAULT = 2
DEEPEST = 5


@hookimpl
def deeploc_models() -> list[Model]:
    """Return the localizers that end after each of the first five blocks, and the default one."""
    names = {"patch-forensics": DEFAULT} | {f"patch-forensics-block{block}": block for block in range(1, DEEPEST + 1)}
    return [
        Model(name=name, build=partial(build, block), reference=ADDRESS, pretraining="none", license="MIT")
        for name, block in names.items()
    ]


def build(blocks: int) -> Any:
    """Build the network that ends after a number of blocks, from scratch."""
    import timm
    from torch import Tensor, nn
    from torch.nn.functional import interpolate

    class PatchForensics(nn.Module):
        """Float RGB in [0, 1], (N, 3, H, W) -> logits (N, 1, H, W)."""

        def __init__(self) -> None:
            super().__init__()
            xception = timm.create_model("legacy_xception")
            stem = ("conv1", "bn1", "act1", "conv2", "bn2", "act2")
            names = [*stem, *(f"block{number}" for number in range(1, blocks + 1))]
            self.body = nn.Sequential(*(getattr(xception, name) for name in names))
            self.head = nn.Conv2d([*_widths(self.body)][-1], 1, 1)
            self.apply(_start)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.head(self.body(2 * images - 1))
            return interpolate(logits, size=images.shape[2:], mode="bilinear")

    def _widths(body: nn.Module) -> list[int]:
        return [one.num_features for one in body.modules() if isinstance(one, nn.BatchNorm2d)]

    def _start(layer: nn.Module) -> None:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight, gain=0.02)

    return PatchForensics()
