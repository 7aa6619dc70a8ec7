"""The photographs, their splits, and the crops and masks that all generators share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from deeploc_bench_plugins.photos.making.masks import Mask, draw_mask
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Pixels = NDArray[np.uint8]
Split = Literal["train", "valid", "test"]

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

SIZE = 64
CROPS: dict[Split, int] = {"train": 3, "valid": 3, "test": 4}  # of each photograph
SPARE = 2  # crops more than that, since some edits cannot be seen
SEED = 2026
MASKS_PER_CELL = 6
TEXTURES = (6.0, 4.0, 2.5, 1.5, 0.0)  # levels: the mean absolute Laplacian under a mask, the best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A cell of a photograph, (256, 256, 3), the place of its upper left corner in it, and its mask, (64, 64)."""

    split: Split
    source: str
    place: tuple[int, int]
    photograph: Pixels
    mask: Mask

    @property
    def authentic(self) -> Pixels:
        """The crop itself, (64, 64, 3)."""
        y, x = self.place
        return self.photograph[y : y + SIZE, x : x + SIZE]

    def window(self, side: int) -> tuple[slice, slice]:
        """A square of the photograph that holds the crop, with what surrounds it, as far as there is something."""
        starts = (min(max(at - (side - SIZE) // 2, 0), len(self.photograph) - side) for at in self.place)
        rows, columns = (slice(start, start + side) for start in starts)
        return rows, columns

    def cut(self, window: Pixels, rows: slice, columns: slice) -> Pixels:
        """The crop out of a window."""
        y, x = self.place[0] - rows.start, self.place[1] - columns.start
        return window[y : y + SIZE, x : x + SIZE]


def crops(folder: Path) -> Iterator[Crop]:
    """Crops of all photographs, more of each than are needed, the better ones first."""
    for split, names in PHOTOS.items():
        for name in names:
            photograph = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))
            for place, mask in regions(photograph, np.random.default_rng([SEED, *name.encode()]), CROPS[split] + SPARE):
                yield Crop(split=split, source=name, place=place, photograph=photograph, mask=mask)


def regions(photograph: Pixels, random: np.random.Generator, count: int) -> list[tuple[tuple[int, int], Mask]]:
    """Cells of a photograph, each with a mask over texture, as far as there is some."""
    detail = np.abs(ndimage.laplace(photograph.mean(2)))
    corners = [(SIZE * row, SIZE * column) for row, column in random.permutation(list(np.ndindex(4, 4))).tolist()]
    found: dict[tuple[int, int], Mask] = {}
    for least in TEXTURES:
        for y, x in corners:
            if len(found) < count and (y, x) not in found:
                masks = (draw_mask(random) for _ in range(MASKS_PER_CELL))
                textured = (mask for mask in masks if detail[y : y + SIZE, x : x + SIZE][mask].mean() >= least)
                if (mask := next(textured, None)) is not None:
                    found[y, x] = mask
    return list(found.items())
