"""Patch Forensics, an Xception that ends early, as `patch-forensics`, and `patch-forensics-block1` to `-block5`.

Chai, Bau, Lim and Isola, What makes fake images detectable? Understanding properties that generalize, ECCV 2020, arXiv
2008.10588, https://arxiv.org/abs/2008.10588. It judges overlapping patches, each for itself. `patch-forensics` ends
after the second block of Xception (Chollet, arXiv 1610.02357), as in Dolos (arXiv 2311.04584), which trains it on
masks; the others end after the block that they are called by. It is trained from scratch, as there: convolutions start
from Xavier's distribution with a gain of 0.02. No published weights are used.

What differs: one logit a patch, where the paper has one for each of two classes; the map of logits is resized to the
image bilinearly, where the paper gives each patch the image's label, so that any loss on masks trains it.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from deeploc_bench import Model, hookimpl

ADDRESS = "https://arxiv.org/abs/2008.10588"
DEFAULT = 2
"""The block that Dolos ends after."""
WIDTHS = (128, 256, 728, 728, 728)


@hookimpl
def deeploc_models() -> list[Model]:
    """Return the localizer that ends after the second block."""
    return [_model("patch-forensics", DEFAULT)]


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the localizer `patch-forensics-blockN` that ends after one of the first five blocks, or None."""
    found = re.fullmatch(rf"patch-forensics-block([1-{len(WIDTHS)}])", name)
    return _model(name, int(found[1])) if found else None


def _model(name: str, blocks: int) -> Model:
    return Model(name=name, build=partial(build, blocks), reference=ADDRESS, pretraining="none", license="MIT")


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
            self.head = nn.Conv2d(WIDTHS[blocks - 1], 1, 1)
            self.apply(_start)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.head(self.body(2 * images - 1))
            return interpolate(logits, size=images.shape[2:], mode="bilinear")

    def _start(layer: nn.Module) -> None:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight, gain=0.02)

    return PatchForensics()
