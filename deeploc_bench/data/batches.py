"""Cuts batches out of packs: uint8 images (N, H, W, 3) and bool masks (N, H, W)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.specs import Image, Mask
from deeploc_bench.data.packs import Pack

EVALUATION_BATCH = 32
"""The most images in one batch of every evaluation, fixed so that logits do not depend on how they were asked for."""
EVALUATION_PIXELS = EVALUATION_BATCH * 256 * 256
"""The most pixels in one batch, so that memory is bounded by the largest image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset:
    """Samples out of several packs, in order: each pack with the int64 positions that are taken of it."""

    packs: tuple[tuple[Pack, NDArray[np.int64]], ...]

    def __len__(self) -> int:
        return sum(len(positions) for _, positions in self.packs)

    @property
    def fingerprint(self) -> str:
        """Return the hash of the ordered samples."""
        return digest(pack.entries[position].hash for pack, positions in self.packs for position in positions)


def all_samples(*packs: Pack) -> Subset:
    """Return all samples of the packs, one pack after the other."""
    return Subset(packs=tuple((pack, np.arange(len(pack))) for pack in packs))


def as_packs(subset: Subset) -> list[Pack]:
    """Return the subset's samples as packs, sorted by id within each."""
    return [
        pack if len(positions) == len(pack) else pack.take(sorted(positions.tolist()))
        for pack, positions in subset.packs
        if len(positions)
    ]


def read_batch(pack: Pack, positions: slice | NDArray[np.int64]) -> tuple[Image, Mask]:
    """Return the images (N, H, W, 3) and masks (N, H, W) at the positions, which must have one size.

    The images of a slice may be the pack's own memory: they are not to be written to.
    """
    chosen = np.arange(len(pack))[positions]
    height, width = (int(side) for side in pack.shapes[chosen[0]])
    if pack.is_uniform:
        images = pack.images.reshape(len(pack), height, width, 3)[positions]
        bits = pack.masks.reshape(len(pack), -1)[positions]
    else:
        flats = [pack.flat(position) for position in chosen.tolist()]
        images = np.stack([image.reshape(height, width, 3) for image, _ in flats])
        bits = np.stack([mask for _, mask in flats])
    masks = np.unpackbits(bits, axis=1, count=height * width).view(np.bool_)  # (N, ceil(HW / 8)) -> (N, HW)
    return np.asarray(images), masks.reshape(-1, height, width)


def evaluation_batches(pack: Pack) -> Iterator[slice]:
    """Yield the positions of every fixed batch, in order of id; a batch also ends where the image size changes."""
    start = 0
    for (height, width), group in groupby(pack.shapes.tolist()):
        end = start + len(list(group))
        size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))
        for first in range(start, end, size):
            yield slice(first, min(first + size, end))
        start = end


def training_batch(
    subset: Subset, chosen: NDArray[np.int64], *, size: int, fit: str, seed: Sequence[int]
) -> tuple[Image, Mask]:
    """Return the chosen samples at size x size, cropped at places drawn from `seed`, or resized.

    Images are (N, size, size, 3), masks (N, size, size), in the order of `chosen`, which counts through the subset. An
    image smaller than a crop is mirrored at its right and bottom borders.
    """
    images = np.empty((len(chosen), size, size, 3), np.uint8)
    masks = np.empty((len(chosen), size, size), np.bool_)
    random = np.random.default_rng(seed)
    start = 0
    for pack, positions in subset.packs:
        slots = np.flatnonzero((chosen >= start) & (chosen < start + len(positions)))  # places in the batch
        taken = positions[chosen[slots] - start]  # positions in the pack
        start += len(positions)
        for slot, position in zip(slots.tolist(), taken.tolist(), strict=True):
            image, mask = _sample(pack, position)
            fitted = _resized(image, mask, size) if fit == "resize" else _crop(image, mask, size, random)
            images[slot], masks[slot] = fitted
    return images, masks


def _sample(pack: Pack, position: int) -> tuple[Image, Mask]:
    """Return the image (H, W, 3) at a position, which is read only where it is looked at, and its mask (H, W)."""
    height, width = pack.entries[position].shape
    image, bits = pack.flat(position)
    mask = np.unpackbits(bits, count=height * width).view(np.bool_)
    return image.reshape(height, width, 3), mask.reshape(height, width)


def _crop(image: Image, mask: Mask, size: int, random: np.random.Generator) -> tuple[Image, Mask]:
    missing = [(0, max(0, size - side)) for side in mask.shape]
    if any(more for _, more in missing):
        image = np.pad(image, [*missing, (0, 0)], mode="symmetric")
        mask = np.pad(mask, missing, mode="symmetric")
    top, left = (int(random.integers(side - size + 1)) for side in mask.shape)
    return image[top : top + size, left : left + size], mask[top : top + size, left : left + size]


def _resized(image: Image, mask: Mask, size: int) -> tuple[Image, Mask]:
    picture = Pillow.fromarray(image).resize((size, size), Pillow.Resampling.BILINEAR)
    truth = Pillow.fromarray(mask).resize((size, size), Pillow.Resampling.NEAREST)
    return np.asarray(picture), np.asarray(truth, dtype=np.bool_)
