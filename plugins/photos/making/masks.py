"""Free-form masks, at any place of a crop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
Random = np.random.Generator

AREA = (0.05, 0.35)  # of the crop
SHARES = (0.08, 0.45)  # of the crop, before a region is cut off at its borders


def draw_mask(random: Random, size: int = 64) -> Mask:
    """One connected region, (size, size).

    It is drawn on a canvas three times as large and cut out at random, so that no place is likelier than another.
    """
    while True:
        share = np.exp(random.uniform(*np.log(SHARES)))
        canvas = (star, strokes, hill)[random.integers(3)](random, 3 * size, np.sqrt(share) * size / 2)
        y, x = random.integers(0, 2 * size, 2)
        cut = canvas[y : y + size, x : x + size]
        if cut.any() and AREA[0] <= (mask := largest_part(cut)).mean() <= AREA[1]:
            return mask


def star(random: Random, size: int, radius: float) -> Mask:
    """The inside of a smooth closed curve: its radius is a short Fourier series of the angle."""
    y, x = centred(size)
    angle = np.arctan2(y, x * random.uniform(0.6, 1.6))
    waves = sum(random.normal(0, 0.45 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi)) for k in range(1, 6))
    return np.hypot(y, x) < 1.15 * radius * np.maximum(1 + waves, 0.25)


def strokes(random: Random, size: int, radius: float) -> Mask:
    """Two to five thick strokes of a brush, each from where the last one ended."""
    image = Image.new("1", (size, size))
    brush, place, angle = ImageDraw.Draw(image), np.full(2, size / 2), random.uniform(0, 2 * np.pi)
    for _ in range(random.integers(2, 6)):
        angle += random.normal(0, 1.1)
        end = place + radius * random.uniform(0.5, 1.4) * np.array([np.cos(angle), np.sin(angle)])
        half = max(4.0, radius * random.uniform(0.5, 1.1)) / 2
        brush.line([*place, *end], fill=1, width=round(2 * half))
        for centre in (place, end):
            brush.ellipse([*(centre - half), *(centre + half)], fill=1)
        place = end
    return np.asarray(image)


def hill(random: Random, size: int, radius: float) -> Mask:
    """The highest parts of smooth noise on a hill."""
    noise = ndimage.gaussian_filter(random.normal(size=(size, size)), random.uniform(4, 8))
    return noise / noise.std() - (np.hypot(*centred(size)) / (1.6 * radius)) ** 2 > random.uniform(-1.2, 0.2)


def centred(size: int) -> Field:
    """Row and column of every pixel, from the middle, (2, size, size)."""
    return np.indices((size, size)).astype(float) - size / 2


def largest_part(mask: Mask) -> Mask:
    """The largest part of a mask that hangs together by edges."""
    labels, _ = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
