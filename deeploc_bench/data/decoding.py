"""Decodes a sample: its image as uint8 RGB, its mask as bool; what Pillow cannot give exactly is refused."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from deeploc_bench.contract.errors import DataError, SampleError
from deeploc_bench.contract.isolation import kept_alive
from deeploc_bench.contract.specs import COLORS, Contained, Image, Mask, Sample
from deeploc_bench.data.opening import most_pixels, opened, upright

MOST_GRAY = 0.1
"""The share of a mask's pixels between a quarter and three quarters of full scale from which on it is not a mask."""
CLEAR, DARK, LIGHT = (4, 3), 32, 224
"""The strongest color of a pixel to its second, at least, where it is of one color; black and white are of none."""
MOST_LEVELS = 8
"""The most levels of a mask file for which `mask_above` is stated, before they are told."""
ADVICE = "If these are the levels that are meant, state mask_above, the level above which a pixel is manipulated"
PASSING = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
"""Errors that say nothing of a file: a pack that kept them would tell of them when they have gone."""
STRIP = 2**22
"""The pixels that are converted at a time: of a large picture, nothing is held twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """Which pixels of a mask file are manipulated: those of levels above `above` (None: 127.5), or all the others.

    With a `color`, the levels are 255 where a pixel is clearly more of this color than of the others, 0 elsewhere.
    """

    inverted: bool = False
    above: float | None = None
    color: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """An image (H, W, 3), its mask (H, W) or None, and the data's checks that warn of it, such as `levels`."""

    image: Image
    mask: Mask | None
    remarks: tuple[str, ...] = ()


def decode(sample: Sample, rule: MaskRule) -> Decoded:
    """Return a sample's image, uint8 RGB, and its mask, True = manipulated, both turned as their EXIF data say.

    Alpha is dropped, 16 bits become 8. Raises SampleError, whose check says what is wrong.
    """
    image, orientation = _image(sample)
    if sample.mask is None:
        return Decoded(image=image, mask=None)
    mask, is_soft, own_orientation = _mask(sample, sample.mask, rule)
    if mask.shape != image.shape[:2]:
        turned = ", once turned as its EXIF data say" if orientation != own_orientation else ""
        file = f"{sample.mask} " if isinstance(sample.mask, Path | Contained) else ""
        raise SampleError(
            f"{_named(sample)} is {image.shape[1]} x {image.shape[0]}{turned}, its mask "
            f"{file}is {mask.shape[1]} x {mask.shape[0]}",
            check="size",
        )
    told = {"levels": is_soft, "turned": orientation != own_orientation}
    return Decoded(image=image, mask=mask, remarks=tuple(check for check, is_told in told.items() if is_told))


def _image(sample: Sample) -> tuple[Image, int]:
    """Return an image and its EXIF orientation, 1 where it is upright."""
    if isinstance(sample.image, Path | Contained):
        picture = _read(sample.image, "RGB")
        return picture.levels, picture.orientation
    image = _made(sample, sample.image, "image")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SampleError(
            f"sample {sample.id!r}: image is {_described(image)}; expected uint8 of shape (H, W, 3)", check="unreadable"
        )
    return image, 1


def _mask(sample: Sample, truth: Path | Contained | Callable[[], Mask], rule: MaskRule) -> tuple[Mask, bool, int]:
    """Return a mask, whether it has more levels than a mask should, and its EXIF orientation."""
    if isinstance(truth, Path | Contained):
        picture = _of_color(truth, _read(truth, "RGB"), rule.color) if rule.color else _read(truth, "L")
        return *_truth(truth, picture, rule), picture.orientation
    mask = _made(sample, truth, "mask")
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        raise SampleError(
            f"sample {sample.id!r}: mask is {_described(mask)}; expected bool of shape (H, W)", check="unreadable"
        )
    if not mask.any():
        raise SampleError(f"sample {sample.id!r}: no pixel of its mask is manipulated", check="empty")
    return mask, False, 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Picture:
    """A file's levels, uint8 (H, W, 3) of an image, 0 to 255 (H, W) of a mask, and whether its alpha channel varies."""

    levels: NDArray[Any]
    orientation: int
    has_alpha: bool


def _of_color(file: Path | Contained, picture: _Picture, color: str) -> _Picture:
    """Return a coloured mask as levels: 255 where a pixel is clearly more of one color than of the others, else 0."""
    place = COLORS.index(color)
    if _many_colored(picture.levels) > MOST_GRAY:
        raise SampleError(
            f"{file}: more than a tenth of its pixels are of no one color; is it a mask? If so, save it with black or "
            "white in the place of other colors",
            check="gray",
        )
    own, others = picture.levels[..., place], np.delete(picture.levels, place, axis=2).max(axis=2).astype(np.uint16)
    is_own = (own > DARK) & (CLEAR[1] * own.astype(np.uint16) >= CLEAR[0] * others)
    return replace(picture, levels=np.where(is_own, np.uint8(255), np.uint8(0)))


def _many_colored(levels: Image) -> float:
    """Return the share of pixels that are of two colors, or gray, where grays are as many as in a photograph."""
    most, least = levels.max(axis=2).astype(np.uint16), levels.min(axis=2).astype(np.uint16)
    second = levels.sum(axis=2, dtype=np.uint16) - most - least
    is_seen = (most > DARK) & (least < LIGHT)
    is_gray = is_seen & (CLEAR[0] * least > CLEAR[1] * most)
    is_mixed = is_seen & ~is_gray & (CLEAR[0] * second > CLEAR[1] * most)
    is_photo = len(np.unique(most[is_gray] // 16)) > MOST_LEVELS // 2
    return float((is_mixed | is_gray if is_photo else is_mixed).mean())


def _truth(file: Path | Contained, picture: _Picture, rule: MaskRule) -> tuple[Mask, bool]:
    """Return the mask that a file's levels stand for, and whether it has more levels than a mask should."""
    levels = picture.levels
    low, high = float(levels.min()), float(levels.max())
    if low == high and picture.has_alpha:
        raise SampleError(f"{file} varies in its alpha channel alone; save that as gray levels", check="gray")
    if rule.above is None and float(((levels > 63) & (levels < 192)).mean()) > MOST_GRAY:
        raise SampleError(f"{file} has gray levels on more than a tenth of its pixels. {ADVICE}", check="gray")
    mask: Mask = (levels > (127.5 if rule.above is None else rule.above)) != rule.inverted
    if not mask.any():
        told = f"its levels are {low:g} to {high:g}. {ADVICE}" if low < high else f"its levels are all {low:g}"
        told = f"none is more {rule.color} than of another color" if rule.color else told
        raise SampleError(f"{file}: no pixel is manipulated; {told}", check="empty")
    if mask.all() and low < high and rule.above is None:
        raise SampleError(
            f"{file}: every pixel is manipulated; its levels are {low:g} to {high:g}. {ADVICE}", check="gray"
        )
    if rule.above is None:
        return mask, bool(((levels > 0) & (levels < 255)).any())
    return mask, len(np.unique(levels)) > MOST_LEVELS


def _read(file: Path | Contained, mode: str) -> _Picture:
    """Read a file as RGB or as L; whatever Pillow raises of a strange or a broken one is a SampleError."""
    most_pixels()  # where it is told wrongly, no file is at fault
    try:
        with opened(file) as stored:
            # a camera's MPO holds smaller copies behind the photograph
            pictures = getattr(stored, "n_frames", 1)
            if pictures > 1 and stored.format != "MPO":
                raise SampleError(f"{file} holds {pictures} pictures; keep one", check="unreadable")
            picture, orientation = upright(stored)
            is_deep = picture.mode[0] in "IF"
            levels = _whole(picture, lambda part: _deep_levels(file, part, mode) if is_deep else _levels(part, mode))
            has_alpha = mode == "L" and not is_deep and picture.has_transparency_data and _varies_in_alpha(picture)
            return _Picture(levels=levels, orientation=orientation, has_alpha=has_alpha)
    except SampleError:
        raise
    except FileNotFoundError:
        raise SampleError(str(file), check="missing") from None
    except Exception as error:
        reason = " ".join(
            ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).split()
        )
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in PASSING):
            raise DataError(
                f"{file}: {reason}. It is the machine's fault, not the file's: mend it and run again"
            ) from None
        raise SampleError(f"{file}: {reason}", check="unreadable") from None


def _strips(picture: Pillow.Image) -> Iterator[tuple[slice, Pillow.Image]]:
    """Yield a picture in strips of at most `STRIP` pixels, each with its rows; one that is small, as it is."""
    rows = max(1, STRIP // picture.width)
    if rows >= picture.height:
        yield slice(None), picture
        return
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        yield slice(top, bottom), picture.crop((0, top, picture.width, bottom))


def _whole(picture: Pillow.Image, levels_of: Callable[[Pillow.Image], NDArray[Any]]) -> NDArray[Any]:
    """Return the levels of all strips of a picture."""
    strips = _strips(picture)
    rows, strip = next(strips)
    first = levels_of(strip)
    if len(first) == picture.height:
        return first
    whole = np.empty((picture.height, *first.shape[1:]), first.dtype)
    whole[rows] = first
    for rows, strip in strips:
        whole[rows] = levels_of(strip)
    return whole


def _levels(picture: Pillow.Image, mode: str) -> NDArray[Any]:
    return np.array(picture if picture.mode == mode else picture.convert(mode))


def _varies_in_alpha(picture: Pillow.Image) -> bool:
    ends = [strip.convert("RGBA").getchannel("A").getextrema() for _, strip in _strips(picture)]
    return len({end for both in ends for end in both}) > 1


def _deep_levels(file: Path | Contained, picture: Pillow.Image, mode: str) -> NDArray[Any]:
    """Return levels of 16 bits as eight: rounded for an image, as they are for a mask, so that 1 is above 0."""
    levels = np.asarray(picture)
    if picture.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise SampleError(f"{file} has pixels of mode {picture.mode}; expected 8 or 16 bits", check="unreadable")
    if mode == "L":
        return levels.astype(np.float32) / np.float32(257)
    gray = ((levels.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def _made(sample: Sample, make: Callable[[], Any], what: str) -> Any:
    try:
        with kept_alive("it"):
            return make()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SampleError(f"sample {sample.id!r}: its {what} cannot be made: {reason}", check="unreadable") from error


def _named(sample: Sample) -> str:
    return str(sample.image) if isinstance(sample.image, Path | Contained) else f"sample {sample.id!r}"


def _described(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
