"""Make the contact sheets: `python -m deeploc_bench_plugins.photos.making.make PHOTOS_DIR WORK_DIR SHEETS_DIR`.

Every crop is edited by every generator in the same region; edits are kept in the working folder, and what is there is
not made again. A crop goes into the sheets where each of its edits can be seen, so that all generators share their
crops. The same photographs, weights and versions of libraries give the same sheets.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from deeploc_bench_plugins.photos.making import generators
from deeploc_bench_plugins.photos.making.photographs import CROPS, PHOTOS, SEED, SIZE, Crop, Pixels, crops
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

COLUMNS = 16
LEAST_CHANGE = 2.0  # levels, on average in the mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a generator is used: its function, the side of the window it sees, and whether all that it makes is kept."""

    inpaint: Callable[[Pixels, generators.Masks, generators.Random], Pixels]
    sees: int
    whole: bool = False


WAYS = {
    "gan-fill": Way(inpaint=generators.gan_fill, sees=128),
    "latent": Way(inpaint=generators.latent, sees=96, whole=True),
    "ddpm": Way(inpaint=generators.ddpm, sees=SIZE),
    "patchmatch": Way(inpaint=generators.patchmatch, sees=128),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A crop and its edits, by generator."""

    crop: Crop
    edits: dict[str, Pixels]

    @property
    def is_seen(self) -> bool:
        """Whether every edit changes what it masks by enough."""
        original = self.crop.authentic[self.crop.mask].astype(float)
        return all(np.abs(edit[self.crop.mask] - original).mean() >= LEAST_CHANGE for edit in self.edits.values())


def main(photos: Path, work: Path, sheets: Path) -> None:
    """Write every sheet, once all crops are made."""
    chosen = choose(tqdm(list(crops(photos)), unit="crop"), work)
    sheets.mkdir(exist_ok=True, parents=True)
    for split in PHOTOS:
        tiles = [one for one in chosen if one.crop.split == split]
        for name in WAYS:
            write_sheet(sheets / f"{name}-{split}.png", [one.edits[name] for one in tiles])
        write_sheet(sheets / f"masks-{split}.png", [np.where(one.crop.mask, 255, 0).astype(np.uint8) for one in tiles])
        if split == "test":
            write_sheet(sheets / "authentic-test.png", [one.crop.authentic for one in tiles])


def choose(candidates: Iterable[Crop], work: Path) -> list[Edited]:
    """As many crops of each photograph as its split has, in reading order, out of those whose every edit is seen."""
    found: dict[str, list[Edited]] = defaultdict(list)
    for crop in candidates:
        if len(found[crop.source]) < CROPS[crop.split] and (one := edited(crop, work)).is_seen:
            found[crop.source].append(one)
    short = [f"{name}.png" for split, names in PHOTOS.items() for name in names if len(found[name]) < CROPS[split]]
    if short:
        raise SystemExit(f"too few crops have edits that are all seen in {', '.join(short)}: draw more masks (SPARE)")
    return [one for name in sorted(found) for one in sorted(found[name], key=lambda one: one.crop.place)]


def edited(crop: Crop, work: Path) -> Edited:
    """A crop and its edits, which are read where they were made before."""
    edits = {name: kept(work / name, crop, partial(edit, way, crop)) for name, way in WAYS.items()}
    return Edited(crop=crop, edits=edits)


def kept(folder: Path, crop: Crop, make: Callable[[], Pixels]) -> Pixels:
    """What is in the folder for a crop; made and put there where nothing is."""
    path = folder / f"{crop.source}-{crop.place[0]}-{crop.place[1]}.png"
    if not path.exists():
        folder.mkdir(exist_ok=True, parents=True)
        Image.fromarray(make()).save(path.with_suffix(".part"), format="png")
        path.with_suffix(".part").replace(path)
    return np.asarray(Image.open(path))


def edit(way: Way, crop: Crop) -> Pixels:
    """One edit of a crop, (64, 64, 3): all of it, or what the mask covers beside the photograph's own pixels."""
    rows, columns = crop.window(way.sees)
    hole = np.zeros(crop.photograph.shape[:2], bool)
    y, x = crop.place
    hole[y : y + SIZE, x : x + SIZE] = crop.mask
    random = np.random.default_rng([SEED, *crop.source.encode(), y, x])
    made = way.inpaint(crop.photograph[rows, columns][None].copy(), hole[rows, columns][None].copy(), random)[0]
    tile = crop.cut(made, rows, columns)
    return tile if way.whole else np.where(crop.mask[..., None], tile, crop.authentic)


def write_sheet(path: Path, tiles: list[NDArray[np.uint8]]) -> None:
    """Write tiles row by row into one PNG, black where tiles are missing; masks become a bit a pixel."""
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((rows * SIZE, COLUMNS * SIZE, *tiles[0].shape[2:]), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // COLUMNS * SIZE, i % COLUMNS * SIZE
        sheet[y : y + SIZE, x : x + SIZE] = tile
    image = Image.fromarray(sheet)
    image = image.convert("1", dither=Image.Dither.NONE) if sheet.ndim == 2 else image
    image.save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for folder in ("photos", "work", "sheets"):
        parser.add_argument(folder, type=Path)
    main(**vars(parser.parse_args()))
