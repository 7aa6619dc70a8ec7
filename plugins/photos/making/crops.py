"""Cut photographs into the crops that are edited: `python -m deeploc_bench_plugins.photos.making.crops PHOTOS CROPS`.

Of each photograph some of its sixteen cells of 64 x 64 pixels are taken at random, those with texture first: what is
made in a clear sky can hardly be seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from deeploc_bench_plugins.photos import CROPS, PHOTOS, SIZE
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SEED = 2026
SPARE = 4  # crops beyond those that the suite holds, for edits that cannot be seen
TEXTURE = 4.0  # levels: the mean size of the Laplacian of a cell's gray values
GRID = 4  # cells a side


def main(photos: Path, crops: Path) -> None:
    """Write the crops of every split: CROPS/train/coffee-06.png is the cell in the second row and third column."""
    for split, names in PHOTOS.items():
        (crops / split).mkdir(parents=True, exist_ok=True)
        for name in names:
            photograph = Image.open(photos / f"{name}.png").convert("RGB")
            for number in chosen(name, np.asarray(photograph.convert("L"), float), CROPS[split] + SPARE):
                y, x = (SIZE * index for index in divmod(number, GRID))
                photograph.crop((x, y, x + SIZE, y + SIZE)).save(crops / split / f"{name}-{number:02}.png")


def chosen(name: str, gray: NDArray[np.float64], count: int) -> list[int]:
    """The numbers of as many cells, in reading order, out of gray values (256, 256)."""
    laplacian = np.abs(ndimage.laplace(gray)).reshape(GRID, SIZE, GRID, SIZE)
    flat = (laplacian.mean(axis=(1, 3)).ravel() < TEXTURE).tolist()
    order = np.random.default_rng([SEED, *name.encode()]).permutation(GRID * GRID).tolist()
    return sorted(sorted(order, key=lambda number: flat[number])[:count])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for folder in ("photos", "crops"):
        parser.add_argument(folder, type=Path)
    main(**vars(parser.parse_args()))
