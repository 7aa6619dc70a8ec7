"""Opens the pictures of strangers: what is no regular file, no type that is read, or too large, is never decoded."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from deeploc_bench.contract.errors import SampleError, UsageError
from deeploc_bench.contract.files import open_regular
from deeploc_bench.contract.specs import Contained

VARIABLE = "DEEPLOC_MAX_PIXELS"
MOST_PIXELS = 100_000_000
"""The most pixels of a picture or an array that is read, where the variable does not say otherwise."""
BYTES_A_PIXEL = 16
"""The most bytes of a file for each of its pixels; four channels of floats take as many."""
LARGE = "large"
"""The data's check that finds what is larger; it is another's tomorrow, where the variable says so."""
TYPES = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000")
"""What Pillow calls the types that are read, whatever a file is called; others, it may give to other programs."""
EXIF_ORIENTATION = 0x0112


def most_pixels() -> int:
    """Return how many pixels a picture may have; raises UsageError where the variable is no such number."""
    text = os.environ.get(VARIABLE) or str(MOST_PIXELS)
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text):
        raise UsageError(f"{VARIABLE} is {text!r:.80}; expected a whole number of pixels, such as {MOST_PIXELS}")
    return int(text)


def check_size(pixels: int, named: str = "it") -> None:
    """Raise SampleError, check `large`, where these are more pixels than are read."""
    if pixels > most_pixels():
        reason = f"{named} has {pixels} pixels; at most {most_pixels()} are read"
        raise SampleError(f"{reason}. Where that is meant, set {VARIABLE}={pixels}, or more", check=LARGE)


@contextmanager
def limits_of_pillow() -> Iterator[None]:
    """Let Pillow refuse what has more than the pixels that are read, in its headers already, and warn of nothing."""
    before = Pillow.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Pillow.MAX_IMAGE_PIXELS = (most_pixels() + 1) // 2  # where it warns; it refuses twice as many
        try:
            yield
        finally:
            Pillow.MAX_IMAGE_PIXELS = before


@contextmanager
def opened(file: Path | Contained) -> Iterator[ImageFile.ImageFile]:
    """Open a picture of one of `TYPES`, or one within a file; its header has been read, its pixels have not.

    Raises OSError where it is no regular file or no picture, SampleError where it is too large; Pillow raises whatever
    it likes of a broken one. Within, what Pillow warns of is left out: it is refused, or read all the same.
    """
    most = most_pixels()
    with _content(file) as content, limits_of_pillow():
        if (size := content.seek(0, os.SEEK_END)) > most * BYTES_A_PIXEL:
            reason = f"{file} has {size} bytes, more than {most} pixels take"
            raise SampleError(f"{reason}. Where that is meant, set {VARIABLE}", check=LARGE)
        content.seek(0)
        try:
            with Pillow.open(content, formats=TYPES) as stored:
                check_size(stored.width * stored.height, str(file))
                yield stored
        except Pillow.DecompressionBombError as error:
            check_size(int((re.findall(r"\d+", str(error)) or [most + 1])[0]), str(file))
            raise
        except UnidentifiedImageError:
            raise OSError("cannot identify it as a picture") from None


def _content(file: Path | Contained) -> BinaryIO:
    return io.BytesIO(file.read()) if isinstance(file, Contained) else open_regular(file)


def upright(stored: ImageFile.ImageFile) -> tuple[Pillow.Image, int]:
    """Return a picture, decoded and turned as its EXIF data say, and what they say (1: it is upright)."""
    orientation = stored.getexif().get(EXIF_ORIENTATION, 1)
    stored.load()
    return (stored if orientation == 1 else ImageOps.exif_transpose(stored)), orientation
