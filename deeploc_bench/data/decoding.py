"""Decodes a sample: its image as uint8 RGB, its mask as bool; what Pillow cannot give exactly is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from deeploc_bench.contract.errors import SampleError
from deeploc_bench.contract.isolation import kept_alive
from deeploc_bench.contract.specs import Image, Mask, Sample

MOST_GRAY = 0.1
"""The share of a mask's pixels between a quarter and three quarters of full scale from which on it is not a mask."""


def read_image(sample: Sample) -> Image:
    """Return a sample's image, uint8 RGB (H, W, 3), turned as its EXIF data say; alpha is dropped, 16 bits become 8.

    Raises SampleError.
    """
    if isinstance(sample.image, Path):
        return np.array(_opened(sample.image).convert("RGB"), dtype=np.uint8)
    image = _made(sample, sample.image, "image")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SampleError(
            f"sample {sample.id!r}: image is {_described(image)}; expected uint8 of shape (H, W, 3)", check="unreadable"
        )
    return image


def read_levels(sample: Sample, *, inverted: bool) -> tuple[Mask, bool] | None:
    """Return a sample's mask, bool (H, W), True = manipulated, and whether it has levels other than 0 and 255.

    None for an authentic sample. Raises SampleError.
    """
    if sample.mask is None:
        return None
    if isinstance(sample.mask, Path):
        gray = np.array(_opened(sample.mask).convert("L"))
        if float(((gray > 63) & (gray < 192)).mean()) > MOST_GRAY:
            raise SampleError(f"{sample.mask} has gray levels on more than a tenth of its pixels", check="gray")
        mask = (gray < 127.5) if inverted else (gray > 127.5)
        if not mask.any():
            levels = f"{gray.min()} to {gray.max()}" if gray.min() < gray.max() else f"all {gray.min()}"
            raise SampleError(f"{sample.mask}: no pixel is manipulated; its levels are {levels}", check="empty")
        return mask, bool(((gray > 0) & (gray < 255)).any())
    made = _made(sample, sample.mask, "mask")
    if not isinstance(made, np.ndarray) or made.dtype != np.bool_ or made.ndim != 2:
        raise SampleError(
            f"sample {sample.id!r}: mask is {_described(made)}; expected bool of shape (H, W)", check="unreadable"
        )
    if not made.any():
        raise SampleError(f"sample {sample.id!r}: no pixel of its mask is manipulated", check="empty")
    return made, False


def _made(sample: Sample, make: Callable[[], Any], what: str) -> Any:
    try:
        with kept_alive("it"):
            return make()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SampleError(f"sample {sample.id!r}: its {what} cannot be made: {reason}", check="unreadable") from error


def _opened(file: Path) -> Pillow.Image:
    """Return a file's picture in 8 bits, turned as its EXIF data say; 65535 of 16 bits becomes 255."""
    try:
        with Pillow.open(file) as stored:
            stored.load()
            picture = ImageOps.exif_transpose(stored)
    except FileNotFoundError:
        raise SampleError(str(file), check="missing") from None
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise SampleError(f"{file}: {error}", check="unreadable") from None
    if picture.mode[0] not in "IF":
        return picture
    levels = np.asarray(picture)
    if picture.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise SampleError(f"{file} has pixels of mode {picture.mode}; expected 8 or 16 bits", check="unreadable")
    return Pillow.fromarray(((levels.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))


def _described(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
