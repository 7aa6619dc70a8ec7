"""Masks that are drawn: one region an image, of a stated kind and area, at any place.

A shape is thrown at an image, from wholly on one side of it to wholly on the other, and what of it falls on the image
is the mask, where that is as large as it should be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.files import digest
from deeploc_bench.contract.specs import Mask

MaskKind: TypeAlias = Literal["free-form", "box", "ellipse"]
Random: TypeAlias = np.random.Generator
Place: TypeAlias = NDArray[np.float64]
TRIES = 3000
"""How often a shape is thrown at an image before it is said that no such mask is found."""
LARGEST_THROWN = 3.0
"""How many times as large as a mask may be a whole shape may be, of which the border leaves a part.

Without such shapes masks would seldom lie at a border. With as many as these, who knows where masks lie gains next to
nothing over marking everything: an IoU of .128 to .127 for free forms of 0.05 to 0.35, .113 to .110 for 0.10 to 0.12.
"""
COARSE = 96
"""On how many rows and columns of a large image a shape is looked at before all its pixels are."""


class Drawing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How masks are drawn: their kind, and the least and the most area, in shares of the image."""

    kind: MaskKind
    area: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A shape around the origin: whether places (y, x) are inside, and how far from the origin it reaches at most."""

    is_inside: Callable[[Place, Place], Any]
    reach: float


def random_for(seed: int, *words: str) -> Random:
    """Return the random generator that belongs to a seed and to words, such as a purpose and an image's id."""
    return np.random.default_rng([seed, int(digest(words), 16)])


def parse_area(text: str) -> tuple[float, float]:
    """Return the range that `LOW:HIGH` says, in shares of an image; raises UsageError."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 < low < high < 1:
        raise UsageError(
            f"--area {text!r}: expected LOW:HIGH in shares of the image, such as 0.05:0.35, 0 < LOW < HIGH < 1"
        )
    return low, high


def draw(drawing: Drawing, shape: tuple[int, int], random: Random) -> Mask | None:
    """Return a mask (H, W) of one piece whose area is in the drawing's range; None where many throws give none."""
    low, high = drawing.area
    if np.ceil(low * shape[0] * shape[1]) > high * shape[0] * shape[1]:
        return None
    step = max(1, max(shape) // COARSE)
    for _ in range(TRIES):
        thrown = _thrown(drawing, shape, random)
        if 0.9 * low <= _covered(thrown, shape, step).mean() <= 1.1 * high:
            mask = _largest_piece(_covered(thrown, shape, 1))
            if low <= mask.mean() <= high:
                return mask
    return None


def _thrown(drawing: Drawing, shape: tuple[int, int], random: Random) -> _Shape:
    """Return a shape in pixels of an image, whose origin is that of the image: the middle of its top left pixel."""
    low, high = drawing.area
    unit = KINDS[drawing.kind](random)
    whole = np.exp(random.uniform(np.log(low), np.log(LARGEST_THROWN * high))) * shape[0] * shape[1]
    scale = float(np.sqrt(whole / _area(unit)))
    down, right = random.uniform(-unit.reach * scale, np.array(shape) + unit.reach * scale) - 0.5
    return _Shape(
        is_inside=lambda y, x: unit.is_inside((y - down) / scale, (x - right) / scale), reach=unit.reach * scale
    )


def _area(shape: _Shape) -> float:
    places = np.linspace(-shape.reach, shape.reach, 32)
    return float(shape.is_inside(places[:, None], places[None]).mean()) * (2 * shape.reach) ** 2


def _covered(thrown: _Shape, shape: tuple[int, int], step: int) -> Mask:
    y, x = (np.arange(0, side, step, dtype=np.float64) for side in shape)
    inside: Mask = thrown.is_inside(y[:, None], x[None])
    return inside


def _largest_piece(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    largest: Mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest


def _free_form(random: Random) -> _Shape:
    return (_star, _strokes)[random.integers(2)](random)


def _star(random: Random) -> _Shape:
    """Return a smooth closed curve: its radius is a short Fourier series of the angle."""
    stretch, waves = random.uniform(0.6, 1.6), np.arange(1, 6)
    heights, phases = random.normal(0, 0.45 / waves), random.uniform(0, 2 * np.pi, 5)

    def is_inside(y: Place, x: Place) -> Any:
        angles = np.arctan2(y, x * stretch)
        radius = sum(h * np.cos(k * angles + p) for h, k, p in zip(heights, waves, phases, strict=True))
        return np.hypot(y, x * stretch) < np.maximum(1 + radius, 0.25)

    return _Shape(is_inside=is_inside, reach=float(1 + np.abs(heights).sum()) * max(1.0, 1 / stretch))


def _strokes(random: Random) -> _Shape:
    """Return a few thick strokes, each beginning where the one before ends."""
    count, width = random.integers(2, 6), random.uniform(0.25, 0.55)
    turns = random.uniform(0, 2 * np.pi) + random.normal(0, 1.1, count).cumsum()
    steps = random.uniform(0.5, 1.4, count)[:, None] * np.stack([np.sin(turns), np.cos(turns)], axis=1)
    ends = np.concatenate([np.zeros((1, 2)), steps.cumsum(axis=0)])
    ends -= (ends.min(axis=0) + ends.max(axis=0)) / 2

    def is_inside(y: Place, x: Place) -> Any:
        inside: Any = False
        for (top, left), (down, right) in zip(ends, steps, strict=False):
            along = np.clip(((y - top) * down + (x - left) * right) / (down**2 + right**2), 0, 1)
            inside = inside | (np.hypot(y - top - along * down, x - left - along * right) < width)
        return inside

    return _Shape(is_inside=is_inside, reach=float(np.hypot(*ends.T).max()) + width)


def _box(random: Random) -> _Shape:
    half = np.exp(random.uniform(-0.4, 0.4))  # of its height; that of its width is the inverse
    reach = float(max(half, 1 / half))
    return _Shape(is_inside=lambda y, x: (np.abs(y) < half) & (np.abs(x) < 1 / half), reach=reach)


def _ellipse(random: Random) -> _Shape:
    half, turn = np.exp(random.uniform(-0.4, 0.4)), random.uniform(0, np.pi)
    sine, cosine = np.sin(turn), np.cos(turn)

    def is_inside(y: Place, x: Place) -> Any:
        return ((x * cosine + y * sine) / half) ** 2 + ((y * cosine - x * sine) * half) ** 2 < 1

    return _Shape(is_inside=is_inside, reach=float(max(half, 1 / half)))


KINDS: Mapping[MaskKind, Callable[[Random], _Shape]] = {"free-form": _free_form, "box": _box, "ellipse": _ellipse}
