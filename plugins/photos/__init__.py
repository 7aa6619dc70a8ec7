"""The embedded suite: crops of 91 photographs, each edited in one region by four generators, three of them networks.

Every crop is shipped in a lossless contact sheet a generator and split, beside the sheets of the masks and of the
untouched test crops. Crops lie in rows of 16, in the sorted order of their ids; `making/` made them, CREDITS.md names
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
CROPS: dict[Split, int] = {"train": 6, "valid": 4, "test": 4}  # of each photograph
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("air-balloon", "aitzgorri", "ajanta-cave", "arles-amphitheater", "bison", "brushes", "bulb", "cat"),
        *("chameleon", "chateaude-chambord", "citede-carcassonne", "cocktail", "cow", "crab", "dragon", "eiffel-tower"),
        *("european-honey-bee", "fig", "garden-chameleon", "giraffe", "giraffes", "golden-temple"),
        *("great-stupa", "great-wallof-china", "horses", "kangaroo", "konark-sun-temple", "mont-st-michel", "moonwalk"),
        *("moose", "mysore-palace", "night-owl", "owl", "palaisdes-papes", "pancakes", "pencils", "pig", "pika"),
        *("playing-cat", "polar-bear", "qutub-minar", "rocamadour", "shuttle", "stream", "sunflower", "sushi"),
        *("two-dogs", "wine"),
    ),
    "valid": (
        *("books", "charminar", "citrus-fruits", "dog", "duck", "gamepad", "gibbon", "koala", "machu-picchu"),
        *("narwhal", "rang-ghar", "sunset", "tree-chameleon"),
    ),
    "test": (
        *("cat-face", "chateaude-chenonceau", "chicken", "cincinnati-bridge", "coffee", "colosseum", "fish"),
        *("gatewayof-india", "hawa-mahal", "hedgehog", "jaguar", "kingfisher", "kitten", "launchpad", "lemur"),
        *("paintbrushes", "panda", "parrot", "petra", "picosdeeuropa", "pontdu-gard", "portrait", "raccoon"),
        *("red-panda", "reims-cathedral", "scarlet-macaw", "seeding", "sheep", "shepherd", "soccer"),
    ),
}
GENERATORS = {
    "cyclegan": "https://arxiv.org/abs/1703.10593",  # the region in another style, blended in
    "ddpm": "https://arxiv.org/abs/2201.09865",  # diffusion of pixels, as RePaint's
    "latent": "https://arxiv.org/abs/2112.10752",  # latent diffusion; the whole crop is decoded
    "patchmatch": "https://doi.org/10.1145/1531326.1531330",  # patches from elsewhere in the crop
}
LICENSE = "CC-BY-4.0 (photographs: public domain, CC0-1.0, CC-BY 2.0 to 4.0; see plugins/photos/CREDITS.md)"


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
            regenerated=name == "latent",
            default_model="residual-unet",
            default_recipe="quick",
        )
    yield GeneratorDataset(name="authentic", suite="photos", build=read_authentic, role="test-only", license=LICENSE)


def read_generator(generator: str, sheets: Path = SHEETS) -> dict[Split, list[Sample]]:
    """Decode the sheets of one generator, each once; the samples hold views of them."""
    return {split: read_manipulated(generator, split, sheets) for split in PHOTOS}


def read_manipulated(generator: str, split: Split, sheets: Path) -> list[Sample]:
    """The samples of one generator and split."""
    ids = ids_and_sources(split)
    images = read_sheet(sheets / f"{generator}-{split}.png", "RGB", len(ids))
    masks = read_sheet(sheets / f"masks-{split}.png", "1", len(ids))
    return [
        Sample(id=id, source=source, image=image.copy, mask=mask.copy)
        for (id, source), image, mask in zip(ids, images, masks, strict=True)
    ]


def read_authentic(sheets: Path = SHEETS) -> dict[Split, list[Sample]]:
    """Decode the untouched test crops; authentic samples have no mask."""
    ids = ids_and_sources("test")
    images = read_sheet(sheets / "authentic-test.png", "RGB", len(ids))
    samples = [
        Sample(id=id, source=source, image=image.copy, mask=None)
        for (id, source), image in zip(ids, images, strict=True)
    ]
    return {"test": samples}


def ids_and_sources(split: Split) -> list[tuple[str, str]]:
    """Every (id, source) of a split in the order of its sheets: `coffee-3` is the fourth crop of `coffee`."""
    return [(f"{photo}-{k}", photo) for photo in PHOTOS[split] for k in range(CROPS[split])]


def read_sheet(path: Path, mode: str, count: int) -> NDArray[Any]:
    """The crops in a contact sheet: (N, 64, 64, 3) uint8 where the mode is RGB, (N, 64, 64) bool where it is 1.

    Raises DataError where the file cannot be read, or is not the sheet of that many crops.
    """
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
