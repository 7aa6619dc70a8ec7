"""Heatmaps and masks in the files of other programs: each is read as what it says, or refused with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.data.opening import opened, upright
from deeploc_bench.training.arrays import read_arrays_file
from deeploc_bench.training.pictures import TIES

Floats = NDArray[np.float32]
Levels = NDArray[Any]
"""What a file holds, (H, W): bool, or uint8 or uint16 of full scale, or float32 in [0, 1]."""
PICTURES = (".png", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")
SUFFIXES = (*PICTURES, *ARRAYS)
FULL_SCALE = {np.dtype(np.bool_): 1, np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
HAIR = 1e-3
"""What a sum of float16 may be off by; further outside of [0, 1] nothing is a rounded heatmap."""
HALF = np.float32(0.5)
BELOW, ABOVE = np.nextafter(HALF, np.float32(0)), np.nextafter(HALF, np.float32(1))


def read_levels(file: Path) -> Levels:
    """Return what a file of one of `SUFFIXES` holds; raises ValueError, or whatever its library finds wrong."""
    if file.is_file() and not file.stat().st_size:
        raise ValueError("the file is empty")
    return levels_of(_picture(file) if file.suffix.lower() in PICTURES else read_arrays_file(file))


def levels_of(array: NDArray[Any]) -> Levels:
    """Return what an array holds: one channel, its scale known by its type; raises ValueError that says why not."""
    array = _one_channel(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f":
        return _unit(array)
    if array.dtype in FULL_SCALE:
        return array
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 1:
        return array.astype(np.bool_)
    came = f"{array.dtype} from {array.min()} to {array.max()}" if array.dtype.kind in "iu" else str(array.dtype)
    raise ValueError(f"{came}; expected bool, uint8, uint16, floats in [0, 1], or integers of 0 and 1")


def is_unscaled(levels: Levels) -> bool:
    """Tell whether levels are 0 and 1 where full scale is more: a mask, or the darkest of heatmaps."""
    return levels.dtype.kind == "u" and levels.max() == 1


def heatmap_of(levels: Levels) -> Floats:
    """Return levels as a heatmap, float32 (H, W) in [0, 1]."""
    if levels.dtype.kind == "f":
        return levels
    return (levels.astype(np.float64) / FULL_SCALE[levels.dtype]).astype(np.float32)


def _one_channel(array: NDArray[Any]) -> NDArray[Any]:
    shape = array.shape
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array.squeeze(0 if array.shape[0] == 1 else -1)
    if array.ndim == 2 and array.size:
        return array
    if array.ndim == 3 and 2 in (array.shape[0], array.shape[-1]):
        raise ValueError(
            f"shape {shape}; expected (H, W). A softmax of two classes? Keep the probability of 'manipulated', (H, W)"
        )
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        raise ValueError(f"shape {shape}; expected (H, W). A picture in colour? Keep the heatmap that it was made of")
    raise ValueError(f"shape {shape}; expected (H, W)")


def _unit(values: NDArray[Any]) -> Floats:
    """Return floats as float32 in [0, 1], so that what is above 0.5 stays there, and below, and at it."""
    strange = int((~np.isfinite(values)).sum())
    if strange:
        raise ValueError(f"{strange} of {values.size} values are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    if low < -HAIR or high > 1 + HAIR:
        raise ValueError(f"values from {low:g} to {high:g}; expected heatmaps in [0, 1]. {_guess(low, high)}")
    heatmap = values.astype(np.float32)
    np.clip(heatmap, 0, 1, out=heatmap)
    np.maximum(heatmap, ABOVE, out=heatmap, where=values > 0.5)
    return np.minimum(heatmap, BELOW, out=heatmap, where=values < 0.5)


def _guess(low: float, high: float) -> str:
    if low >= -0.25 and high <= 1.25:
        return "Overshot by bicubic resizing? Resize bilinearly, or clip"
    if low < 0:
        return "Logits? Apply the sigmoid"
    if high <= 100:
        return "Percentages? Divide by 100. Logits? Apply the sigmoid"
    return "8-bit levels? Divide by 255, or save as uint8" if high <= 255 else "Divide by what stands for 1"


def _picture(file: Path) -> NDArray[Any]:
    with opened(file) as stored:
        if stored.format not in ("PNG", "TIFF"):
            raise ValueError(f"it is {stored.format} inside; expected PNG or TIFF, which keep every level")
        frames = getattr(stored, "n_frames", 1)
        if frames != 1:
            raise ValueError(f"it holds {frames} pictures; expected one")
        picture, _ = upright(stored)
        ties = stored.info.get(TIES)  # once it is loaded: a text of a PNG may follow its pixels
    if picture.mode.startswith("P"):
        raise ValueError("a palette picture, whose numbers stand for colours; save it in gray levels (mode L)")
    if picture.mode in ("RGB", "RGBA", "LA"):
        return _gray(np.array(picture))
    if picture.mode not in ("1", "L", "F") and not picture.mode.startswith("I"):
        raise ValueError(f"mode {picture.mode}; expected one channel of 1, 8 or 16 bits, or floats")
    pixels = np.array(picture)
    if picture.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65535:
        pixels = pixels.astype(np.uint16)
    return pixels if ties is None else _with_ties(pixels, ties)


def _gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the levels of a gray picture that was saved as RGB, or with an alpha channel that hides nothing."""
    channels = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., :1]
    is_opaque = pixels.shape[-1] == 3 or bool((pixels[..., -1] == 255).all())
    if not is_opaque or (channels != channels[..., :1]).any():
        raise ValueError(
            "a picture in colour, or see-through; save the heatmap in gray levels. Beside an overlay that 'predict' "
            "wrote, it lies in heatmaps/"
        )
    return channels[..., 0]


def _with_ties(pixels: NDArray[Any], ties: str) -> Floats:
    """Return a heatmap that `predict` wrote: its pixels of exactly 0.5 stand in the file's text."""
    heatmap = heatmap_of(pixels.astype(np.uint16))
    heatmap.flat[[int(pixel) for pixel in ties.split()]] = 0.5
    return heatmap
