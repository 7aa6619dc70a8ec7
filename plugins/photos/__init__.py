"""The embedded suite: crops of 35 photographs, each edited in one region by four local manipulations.

Every crop is shipped in a lossless contact sheet a generator and split, beside the sheets of the masks and of the
untouched test crops. Crops lie in rows of 16, in the sorted order of their ids; `make.py` made them, CREDITS.md names
the photographers. A small benchmark of local edits in photographs, not of faces.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deeploc_bench import DataError, GeneratorDataset, Sample, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SHEETS = Path(__file__).parent / "sheets"
SIZE = 64
COLUMNS = 16
CROPS_PER_PHOTO = 8
PHOTOS = {
    "train": (
        *("air-balloon", "aitzgorri", "brushes", "bulb", "cat", "chameleon", "cocktail", "european-honey-bee", "fig"),
        *("moonwalk", "owl", "pancakes", "pencils", "shuttle", "stream", "sunflower", "sushi", "two-dogs", "wine"),
    ),
    "valid": ("books", "citrus-fruits", "dog", "gamepad", "sunset"),
    "test": (
        *("cat-face", "cincinnati-bridge", "coffee", "fish", "launchpad", "paintbrushes", "parrot", "picosdeeuropa"),
        *("portrait", "seeding", "soccer"),
    ),
}
GENERATORS = {
    "telea": "https://doi.org/10.1080/10867651.2004.10487596",  # fast-marching inpainting
    "grain": "https://doi.org/10.1109/TIP.2010.2052822",  # random phase noise, on a membrane
    "blend": "https://doi.org/10.1145/882262.882269",  # Poisson image editing
    "resample": None,  # the region down- and upsampled
}
LICENSE = "CC-BY-4.0 (photographs: CC0-1.0, CC-BY-4.0, public domain; see plugins/photos/CREDITS.md)"


@hookimpl
def deeploc_datasets() -> Iterable[GeneratorDataset]:
    """The four generators, and the untouched test crops."""
    for name, reference in GENERATORS.items():
        build = partial(read_generator, name)
        yield GeneratorDataset(name=name, suite="photos", build=build, reference=reference, license=LICENSE)
    yield GeneratorDataset(
        name="authentic", suite="photos", build=read_authentic, role="test-only", license=LICENSE
    )


def read_generator(name: str, sheets: Path = SHEETS) -> dict[str, list[Sample]]:
    """Decode the sheets of one generator; the samples hold views of them."""
    return {split: list(_manipulated(name, split, sheets)) for split in PHOTOS}


def read_authentic(sheets: Path = SHEETS) -> dict[str, list[Sample]]:
    """Decode the untouched test crops, which have no mask."""
    crops = read_sheet(sheets / "authentic-test.png", "RGB", len(names("test")))
    ids = names("test")
    return {
        "test": [
            Sample(id=id, source=source, image=crop.copy, mask=None) for (id, source), crop in zip(ids, crops, strict=True)
        ]
    }


def names(split: str) -> list[tuple[str, str]]:
    """Every (id, source) of a split, in the order of its sheets: `coffee-3` is the fourth crop of `coffee`."""
    return [(f"{photo}-{k}", photo) for photo in PHOTOS[split] for k in range(CROPS_PER_PHOTO)]


def read_sheet(path: Path, mode: str, count: int) -> NDArray[np.uint8]:
    """The first `count` crops of a contact sheet, (count, 64, 64) for mode L or (count, 64, 64, 3) for RGB.

    Raises DataError where the file cannot be read or has another size or mode.
    """
    rows = -(-count // COLUMNS)
    try:
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet)
            found = (sheet.mode, sheet.size)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: cannot read this sheet ({error}); install deeploc-bench again") from error
    if found != (mode, (COLUMNS * SIZE, rows * SIZE)):
        raise DataError(f"{path}: {found}")
    tiles = pixels.reshape(rows, SIZE, COLUMNS, SIZE, -1).swapaxes(1, 2)
    return tiles.reshape(rows * COLUMNS, *pixels.shape[2:])
