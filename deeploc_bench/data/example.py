"""A suite to start from: drawn photos, each cropped twice, each crop edited in one region by two generators."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from deeploc_bench.contract.specs import Split

PHOTOS: dict[Split, range] = {"train": range(6), "valid": range(6, 8), "test": range(8, 12)}
SIDE = 64
"""Height and width of a crop in pixels."""


def example_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of an example, path and content: the same on every call.

    The generators are `smoothed` (the region blurred) and `moved` (the region taken from elsewhere in the crop).
    Outside of the mask, an edited crop equals the one in `authentic/test`.
    """
    random = np.random.default_rng(0)
    for split, photos in PHOTOS.items():
        for number in photos:
            photo = _photo(random)
            for part in (1, 2):
                crop, mask = photo[:, (part - 1) * SIDE : part * SIDE], _mask(random)
                name = f"photo{number:02}-{part}.png"
                for generator, edited in (("smoothed", _smoothed(crop)), ("moved", np.roll(crop, SIDE // 2, axis=1))):
                    yield f"{generator}/{split}/images/{name}", _png(np.where(mask[..., None], edited, crop))
                    yield f"{generator}/{split}/masks/{name}", _png(mask)
                if split == "test":
                    yield f"authentic/test/images/{name}", _png(crop)


def _photo(random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw smooth colours with the noise of a camera, (64, 128, 3)."""
    coarse = Image.fromarray(random.integers(30, 226, (5, 9, 3)).astype(np.uint8))
    colours = np.asarray(coarse.resize((2 * SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    return np.clip(colours + random.normal(0, 6, (SIDE, 2 * SIDE, 1)), 0, 255).astype(np.uint8)


def _mask(random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw an ellipse, (64, 64), of about 5 to 25 % of the crop."""
    height, width = random.integers(9, 18, 2)
    top, left = random.integers(18, SIDE - 18, 2)
    y, x = np.ogrid[:SIDE, :SIDE]
    inside: NDArray[np.bool_] = ((y - top) / height) ** 2 + ((x - left) / width) ** 2 < 1
    return inside


def _smoothed(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(2)))


def _png(pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
