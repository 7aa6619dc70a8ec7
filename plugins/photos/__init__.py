"""The embedded suite: crops of 35 photographs, each edited in one region by four local manipulations.

Every crop is shipped in a lossless contact sheet a generator and split, beside the sheets of the masks and of the
untouched test crops. Crops lie in rows of 16, in the sorted order of their ids; `make.py` made them, CREDITS.md names
the photographers. A small benchmark of local edits in photographs, not of faces.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from deeploc_bench import DataError, GeneratorDataset, Sample, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Split = Literal["train", "valid", "test"]

SHEETS = Path(__file__).parent / "sheets"
SIZE = 64
COLUMNS = 16
CROPS_PER_PHOTO = 8
PHOTOS: dict[Split, tuple[str, ...]] = {
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
        yield GeneratorDataset(
            name=name,
            suite="photos",
            build=build,
            reference=reference,
            license=LICENSE,
            default_model="residual-unet",
            default_recipe="quick",
        )
    yield GeneratorDataset(name="authentic", suite="photos", build=read_authentic, role="test-only", license=LICENSE)


def read_generator(generator: str, sheets: Path = SHEETS) -> dict[Split, list[Sample]]:
    """Decode the sheets of one generator, each once; the samples hold views of them."""
    return {split: read_manipulated(generator, split, sheets) for split in PHOTOS}


def read_manipulated(generator: str, split: Split, sheets: Path) -> list[Sample]:
    """The samples of one generator and split."""
    images = read_sheet(sheets / f"{generator}-{split}.png", "RGB", len(PHOTOS[split]))
    masks = read_sheet(sheets / f"masks-{split}.png", "1", len(PHOTOS[split]))
    return [
        Sample(id=id, source=source, image=image.copy, mask=mask.copy)
        for (id, source), image, mask in zip(ids_and_sources(split), images, masks, strict=True)
    ]


def read_authentic(sheets: Path = SHEETS) -> dict[Split, list[Sample]]:
    """Decode the untouched test crops; authentic samples have no mask."""
    images = read_sheet(sheets / "authentic-test.png", "RGB", len(PHOTOS["test"]))
    return {
        "test": [
            Sample(id=id, source=source, image=image.copy, mask=None)
            for (id, source), image in zip(ids_and_sources("test"), images, strict=True)
        ]
    }


def ids_and_sources(split: Split) -> list[tuple[str, str]]:
    """Every (id, source) of a split in the order of its sheets: `coffee-3` is the fourth crop of `coffee`."""
    return [(f"{photo}-{k}", photo) for photo in PHOTOS[split] for k in range(CROPS_PER_PHOTO)]


def read_sheet(path: Path, mode: str, photos: int) -> NDArray[Any]:
    """The crops in a contact sheet: (N, 64, 64, 3) uint8 where the mode is RGB, (N, 64, 64) bool where it is 1.

    Raises DataError where the file cannot be read, or is not the sheet of that many photographs.
    """
    count = photos * CROPS_PER_PHOTO
    rows = -(-count // COLUMNS)
    expected = f"{mode} {COLUMNS * SIZE} x {rows * SIZE}"
    try:
        with Image.open(path) as sheet:
            found, pixels = f"{sheet.mode} {sheet.width} x {sheet.height}", np.asarray(sheet)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot read the contact sheet {path}: {error}. Install deeploc-bench again.") from error
    if found != expected:
        raise DataError(f"the contact sheet {path} is {found}; expected {expected}. Install deeploc-bench again.")
    tiles = pixels.reshape(rows, SIZE, COLUMNS, SIZE, *pixels.shape[2:]).swapaxes(1, 2)  # rows, columns, 64, 64
    return tiles.reshape(rows * COLUMNS, SIZE, SIZE, *pixels.shape[2:])[:count]
