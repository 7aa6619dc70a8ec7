"""OpenCV's two classical inpaintings: Telea's fast marching, and Bertalmio's by Navier-Stokes (`ns`)."""

from __future__ import annotations

import numpy as np
from deeploc_bench_plugins.makers import Images, Masks, needed

cv2 = needed("cv2", "opencv")

REFERENCE = "https://docs.opencv.org/4.x/d7/d8b/group__photo__inpaint.html"
LICENSE = "Apache-2.0"


def telea(images: Images, masks: Masks, random: np.random.Generator, *, radius: float = 3.0) -> Images:
    """Fill by fast marching (Telea, 2004), from as far as `radius` pixels."""
    return _filled(images, masks, radius, cv2.INPAINT_TELEA)


def ns(images: Images, masks: Masks, random: np.random.Generator, *, radius: float = 3.0) -> Images:
    """Fill by the equations of fluids (Bertalmio, Bertozzi, Sapiro, 2001), from as far as `radius` pixels."""
    return _filled(images, masks, radius, cv2.INPAINT_NS)


def _filled(images: Images, masks: Masks, radius: float, method: int) -> Images:
    pairs = zip(images, masks, strict=True)
    return np.stack([cv2.inpaint(image, mask.astype(np.uint8), radius, method) for image, mask in pairs])
