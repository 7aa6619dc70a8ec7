"""PatchMatch: fills from patches of the rest of the image, so that texture stays (Barnes et al., 2009)."""

from __future__ import annotations

import numpy as np
from deeploc_bench_plugins.makers import Images, Masks, needed

patch_match = needed("patchmatch.patch_match", "patchmatch")

REFERENCE = "https://doi.org/10.1145/1531326.1531330"
LICENSE = "MIT"


def patchmatch(images: Images, masks: Masks, random: np.random.Generator, *, patch_size: int = 3) -> Images:
    """Fill from patches that span 2 `patch_size` + 1 pixels."""
    filled = []
    for image, mask in zip(images, masks, strict=True):
        patch_match.set_random_seed(int(random.integers(2**32)))
        filled.append(patch_match.inpaint(image, mask.astype(np.uint8), patch_size=patch_size))
    return np.stack(filled)
