"""Cuts batches out of packs: uint8 images (N, H, W, 3) and bool masks (N, H, W)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from deeploc_bench.data.packs import Pack, digest

EVALUATION_BATCH = 32
"""The most images in one batch of every evaluation, fixed so that logits do not depend on how they were asked for."""
EVALUATION_PIXELS = EVALUATION_BATCH * 256 * 256
"""The most pixels in one batch, so that memory is bounded by the largest image."""

Batch: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset:
    """Samples out of several packs, in order; each part is a pack and int64 positions in it."""

    parts: tuple[tuple[Pack, NDArray[np.int64]], ...]

    def __len__(self) -> int:
        return sum(len(positions) for _, positions in self.parts)

    @property
    def fingerprint(self) -> str:
        """Return the hash of the ordered samples."""
        return digest([packed.hashes[position] for packed, positions in self.parts for position in positions])


def whole(*packs: Pack) -> Subset:
    """Return all samples of the packs, one pack after the other."""
    return Subset(parts=tuple((packed, np.arange(len(packed))) for packed in packs))


def read(packed: Pack, positions: NDArray[np.int64]) -> Batch:
    """Return the images and masks at the positions, which must have one size."""
    height, width = (int(side) for side in packed.shapes[positions[0]])
    if packed.is_uniform:
        images = packed.images.reshape(len(packed), height, width, 3)[positions]
        bits = packed.masks.reshape(len(packed), -1)[positions]
    else:
        images = np.stack([_flat(packed, int(p))[0].reshape(height, width, 3) for p in positions])
        bits = np.stack([_flat(packed, int(p))[1] for p in positions])
    masks = np.unpackbits(bits, axis=1, count=height * width).view(np.bool_)
    return np.asarray(images), masks.reshape(-1, height, width)


def evaluation_parts(packed: Pack) -> Iterator[slice]:
    """Yield the places of every fixed batch, in order of id; a batch also ends where the image size changes."""
    start = 0
    for (height, width), group in groupby(packed.shapes.tolist()):
        end = start + len(list(group))
        size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))
        for first in range(start, end, size):
            yield slice(first, min(first + size, end))
        start = end


def training_batch(subset: Subset, chosen: NDArray[np.int64], *, size: int, fit: str, seed: Sequence[int]) -> Batch:
    """Return the chosen samples at size x size, cropped at places drawn from `seed`, or resized.

    An image smaller than a crop is mirrored at its right and bottom borders.
    """
    images = np.empty((len(chosen), size, size, 3), np.uint8)
    masks = np.empty((len(chosen), size, size), np.bool_)
    random = np.random.default_rng(seed)
    start = 0
    for packed, positions in subset.parts:
        here = np.flatnonzero((chosen >= start) & (chosen < start + len(positions)))
        mine = positions[chosen[here] - start]
        start += len(positions)
        if not len(here):
            continue
        if packed.is_uniform and (packed.shapes[0] == size).all():
            images[here], masks[here] = read(packed, mine)
            continue
        for slot, position in zip(here, mine, strict=True):
            image, mask = (part[0] for part in read(packed, np.array([position])))
            images[slot], masks[slot] = (
                _resized(image, mask, size) if fit == "resize" else _crop(image, mask, size, random)
            )
    return images, masks


def _flat(packed: Pack, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pixels = packed.pixels
    at, bits = int(pixels[:position].sum()), int(((pixels[:position] + 7) // 8).sum())
    count = int(pixels[position])
    return packed.images[3 * at : 3 * (at + count)], packed.masks[bits : bits + (count + 7) // 8]


def _crop(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], size: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    missing = [(0, max(0, size - side)) for side in mask.shape]
    image = np.pad(image, [*missing, (0, 0)], mode="symmetric")
    mask = np.pad(mask, missing, mode="symmetric")
    top, left = (int(random.integers(side - size + 1)) for side in mask.shape)
    return image[top : top + size, left : left + size], mask[top : top + size, left : left + size]


def _resized(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    picture = Pillow.fromarray(image).resize((size, size), Pillow.Resampling.BILINEAR)
    truth = Pillow.fromarray(mask).resize((size, size), Pillow.Resampling.NEAREST)
    return np.asarray(picture), np.asarray(truth, dtype=np.bool_)


def as_packs(subset: Subset) -> list[Pack]:
    """Return the subset's samples as packs, sorted by id within each."""
    return [
        packed if len(positions) == len(packed) else _taken(packed, np.sort(positions))
        for packed, positions in subset.parts
    ]


def _taken(packed: Pack, positions: NDArray[np.int64]) -> Pack:
    flats = [_flat(packed, int(position)) for position in positions]

    def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[position] for position in positions)

    return Pack(
        ids=pick(packed.ids),
        sources=pick(packed.sources),
        files=pick(packed.files),
        hashes=pick(packed.hashes),
        image_hashes=pick(packed.image_hashes),
        mask_areas=pick(packed.mask_areas),
        soft_masks=pick(packed.soft_masks),
        shapes=packed.shapes[positions],
        images=np.concatenate([image for image, _ in flats]),
        masks=np.concatenate([mask for _, mask in flats]),
    )
