"""Draw the contact sheets of the suite: `python -m deeploc_bench_plugins.photos.making.sheets CROPS MADE SHEETS`.

MADE is the folder of `deeploc-bench data make`, with every generator of the suite. Of each photograph the first crops
are taken of which every edit can be seen.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import numpy as np
from deeploc_bench_plugins.photos import COLUMNS, CROPS, GENERATORS, PHOTOS, SIZE
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def main(crops: Path, made: Path, sheets: Path) -> None:
    """Write every sheet."""
    description = tomllib.loads((made / "suite.toml").read_text())
    faint = {name for generator in description["generator"] for name in generator.get("exclude", [])}
    sheets.mkdir(parents=True, exist_ok=True)
    for split, photos in PHOTOS.items():
        names = [name for photo in photos for name in kept(crops / split, photo, CROPS[split], faint)]
        folders = {generator: made / "fake" / generator / "images" / split for generator in GENERATORS}
        folders["masks"] = made / "fake" / next(iter(GENERATORS)) / "masks" / split
        folders |= {"authentic": made / "real" / split} if split == "test" else {}
        for sheet, folder in folders.items():
            write(sheets / f"{sheet}-{split}.png", [np.asarray(Image.open(folder / name)) for name in names])


def kept(folder: Path, photo: str, count: int, faint: set[str]) -> list[str]:
    """The file names of the first crops of a photograph whose edits can all be seen."""
    names = sorted(path.name for path in folder.glob(f"{photo}-[0-9][0-9].png") if path.name not in faint)
    if len(names) < count:
        raise SystemExit(f"{folder}: {len(names)} crops of {photo} can be used; {count} are needed (SPARE in crops.py)")
    return names[:count]


def write(path: Path, tiles: list[Pixels]) -> None:
    """Write tiles row by row into one PNG, black where tiles are missing; masks become a bit a pixel."""
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((rows * SIZE, COLUMNS * SIZE, *tiles[0].shape[2:]), np.uint8)
    for number, tile in enumerate(tiles):
        y, x = (SIZE * index for index in divmod(number, COLUMNS))
        sheet[y : y + SIZE, x : x + SIZE] = tile
    image = Image.fromarray(sheet)
    image = image.convert("1", dither=Image.Dither.NONE) if sheet.ndim == 2 else image
    image.save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for folder in ("crops", "made", "sheets"):
        parser.add_argument(folder, type=Path)
    main(**vars(parser.parse_args()))
