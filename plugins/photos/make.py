"""Make the contact sheets of the suite `photos`: `python make.py PHOTOS_DIR`, with a folder of 256 x 256 photographs.

The sheets that are shipped were made with OpenCV 5.0.0 and numpy 2; other versions may give other pixels. The same
photographs and versions give the same sheets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from deeploc_bench_plugins.photos import COLUMNS, CROPS_PER_PHOTO, GENERATORS, PHOTOS, SHEETS, SIZE
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Field = NDArray[np.float64]
Mask = NDArray[np.bool_]
Random = np.random.Generator

SEED = 2024
AREA = (0.08, 0.30)  # of the crop
LEAST_CHANGE = 2.0  # mean absolute difference inside the mask, of 255
MASKS_PER_CROP = 40
DONORS = 200
TOUCHING = 0.6  # the share of masks touching the border that is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A crop of a photograph, its mask, and its edits by generator."""

    authentic: Pixels
    mask: Mask
    edits: dict[str, Pixels]


def main(photos: Path) -> None:
    """Write every sheet, once all are made."""
    sheets = {name: tiles for split in PHOTOS for name, tiles in make_sheets(split, photos).items()}
    for name, tiles in sheets.items():
        write_sheet(SHEETS / f"{name}.png", tiles)


def make_sheets(split: str, photos: Path) -> dict[str, list[Pixels]]:
    """The tiles of every sheet of a split, by name of the sheet."""
    pictures = {name: np.asarray(Image.open(photos / f"{name}.png").convert("RGB")) for name in PHOTOS[split]}
    crops = [crop for name in pictures for crop in crops_of(name, pictures)]
    sheets = {f"{generator}-{split}": [crop.edits[generator] for crop in crops] for generator in GENERATORS}
    sheets[f"masks-{split}"] = [np.where(crop.mask, 255, 0).astype(np.uint8) for crop in crops]
    if split == "test":
        sheets["authentic-test"] = [crop.authentic for crop in crops]
    return sheets


def write_sheet(path: Path, tiles: list[Pixels]) -> None:
    """Write tiles row by row into one PNG, black where tiles are missing."""
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((rows * SIZE, COLUMNS * SIZE, *tiles[0].shape[2:]), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // COLUMNS * SIZE, i % COLUMNS * SIZE
        sheet[y : y + SIZE, x : x + SIZE] = tile
    image = Image.fromarray(sheet)
    image = image.convert("1") if sheet.ndim == 2 else image
    image.save(path, optimize=True)


def crops_of(name: str, pictures: dict[str, Pixels]) -> list[Crop]:
    """Eight of the sixteen cells of one photograph, in reading order, edited with donors from the others."""
    random = np.random.default_rng([SEED, *name.encode()])
    donors = [picture for other, picture in pictures.items() if other != name]
    found: dict[tuple[int, int], Crop] = {}
    for row, column in random.permutation(list(np.ndindex(4, 4))).tolist():
        cell = pictures[name][row * SIZE :, column * SIZE :][:SIZE, :SIZE]
        crop = edited(cell, donors, random)
        if crop is not None:
            found[row, column] = crop
        if len(found) == CROPS_PER_PHOTO:
            return [found[place] for place in sorted(found)]
    raise SystemExit(f"{name}.png: every edit can be seen in {len(found)} crops only; {CROPS_PER_PHOTO} are needed")


def edited(crop: Pixels, donors: list[Pixels], random: Random) -> Crop | None:
    """A crop edited by every generator in one region; None where some edit could hardly be seen."""
    for _ in range(MASKS_PER_CROP):
        mask = draw_mask(random)
        edits = {}
        for generator, edit in EDITS.items():
            fill = np.clip(np.rint(edit(crop, mask, donors, random)), 0, 255).astype(np.uint8)
            edits[generator] = np.where(mask[..., None], fill, crop)
            if np.abs(edits[generator][mask].astype(float) - crop[mask]).mean() < LEAST_CHANGE:
                break
        else:
            return Crop(authentic=crop, mask=mask, edits=edits)
    return None


def draw_mask(random: Random) -> Mask:
    """One connected region: the highest part of a random field, as large as a random share of the crop."""
    while True:
        field = (star, ellipses, noise)[random.integers(3)](random)
        mask = largest_part(field >= np.quantile(field, 1 - random.uniform(*AREA)))
        inner = not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
        if AREA[0] <= mask.mean() <= AREA[1] and (inner or random.random() < TOUCHING):
            return mask


def star(random: Random) -> Field:
    """A smooth closed curve around a point: the radius is a short Fourier series of the angle."""
    y, x = grid() - random.uniform(0.05, 0.95, (2, 1, 1)) * SIZE
    x = x * random.uniform(0.6, 1.6)
    angle = np.arctan2(y, x)
    radius = 1 + sum(
        random.normal(0, 0.45 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4, 5)
    )
    return np.maximum(radius, 0.3) / (np.hypot(x, y) + 1)


def ellipses(random: Random) -> Field:
    """A union of two to four turned ellipses around a point."""
    centre = random.uniform(0.05, 0.95, (2, 1, 1)) * SIZE
    field = np.full((SIZE, SIZE), -np.inf)
    for _ in range(random.integers(2, 5)):
        y, x = grid() - centre - random.normal(0, SIZE / 9, (2, 1, 1))
        turn = random.uniform(0, np.pi)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        length, width = random.uniform(0.7, 1.4), random.uniform(0.3, 0.9)
        field = np.maximum(field, -np.hypot(along / length, across / width))
    return field


def noise(random: Random) -> Field:
    """Smooth noise under a hill."""
    y, x = grid() - random.uniform(0.05, 0.95, (2, 1, 1)) * SIZE
    smooth = blurred(random.normal(size=(SIZE, SIZE)), random.uniform(4, 7))
    return smooth / smooth.std() - (np.hypot(x, y) / random.uniform(9, 14)) ** 2


def grid() -> Field:
    """Row and column of every pixel, (2, 64, 64)."""
    return np.indices((SIZE, SIZE)).astype(float)


def largest_part(mask: Mask) -> Mask:
    """The largest part of a mask that hangs together by edges."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def telea(crop: Pixels, mask: Mask, donors: list[Pixels], random: Random) -> Field:
    """Fast-marching inpainting (Telea, 2004)."""
    return cv2.inpaint(crop, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(float)


def grain(crop: Pixels, mask: Mask, donors: list[Pixels], random: Random) -> Field:
    """A membrane through the surroundings, with noise of their finest grain: the median size of their residual."""
    residual = crop - blurred(crop.astype(float), 0.7)
    strength = 1.4826 * np.median(np.abs(residual[~mask]), axis=0)
    noise = random.normal(size=crop.shape)
    noise -= blurred(noise, 0.7)
    return membrane(crop.astype(float), mask) + noise / noise.std() * strength


def blurred(values: Field, sigma: float) -> Field:
    """Values under a Gaussian blur."""
    return cv2.GaussianBlur(values, (0, 0), sigma)


def blend(crop: Pixels, mask: Mask, donors: list[Pixels], random: Random) -> Field:
    """The gradients of the donor that suits the place best, out of several (Perez et al., 2003)."""
    border, around = dilated(mask, 3) & ~mask, dilated(mask, 21) & ~mask
    contrast = crop[around].std() + 8

    def misfit(donor: Pixels) -> float:
        seam = crop[border].astype(float) - donor[border]
        return float(np.abs(seam).mean() + 40 * abs(np.log((donor[mask].std() + 8) / contrast)))

    donor = min((random_crop(donors, random) for _ in range(DONORS)), key=misfit)
    return donor + membrane(crop.astype(float) - donor, mask)


def dilated(mask: Mask, width: int) -> Mask:
    """A mask grown by a square of an odd width."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((width, width))).astype(bool)


def random_crop(pictures: list[Pixels], random: Random) -> Pixels:
    """A crop of one of the pictures, mirrored half of the time."""
    picture = pictures[random.integers(len(pictures))]
    y, x = random.integers(0, picture.shape[0] - SIZE + 1), random.integers(0, picture.shape[1] - SIZE + 1)
    return picture[y : y + SIZE, x : x + SIZE][:, :: random.choice((1, -1))]


def resample(crop: Pixels, mask: Mask, donors: list[Pixels], random: Random) -> Field:
    """The crop two to three times smaller and back."""
    small = round(SIZE / random.uniform(2, 3))
    smaller = cv2.resize(crop.astype(float), (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(smaller, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def membrane(values: Field, mask: Mask) -> Field:
    """The values outside the mask, and inside it the solution of Laplace's equation between them."""
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    matrix, right = np.zeros((mask.sum(), mask.sum())), np.zeros((mask.sum(), values.shape[2]))
    for row, (y, x) in enumerate(np.argwhere(mask)):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= v < SIZE and 0 <= u < SIZE):
                continue
            matrix[row, row] += 1
            if mask[v, u]:
                matrix[row, number[v, u]] = -1
            else:
                right[row] += values[v, u]
    solved = values.copy()
    solved[mask] = np.linalg.solve(matrix, right)
    return solved


EDITS: dict[str, Callable[[Pixels, Mask, list[Pixels], Random], Field]] = {
    "resample": resample,
    "telea": telea,
    "grain": grain,
    "blend": blend,
}

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python make.py PHOTOS_DIR")
    main(Path(sys.argv[1]))
