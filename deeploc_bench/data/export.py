"""Writes the images of a suite as files called by their ids, for programs that know nothing of suites."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from deeploc_bench.contract.files import write
from deeploc_bench.data.packing import Tick
from deeploc_bench.data.packs import Pack

MASKS = "masks"


def write_images(pack: Pack, folder: Path, tick: Tick) -> None:
    """Write the images of a pack as `<id>.png`, RGB: the very pixels that models are tested on."""
    for position, entry in enumerate(pack.entries):
        write(folder / f"{entry.id}.png", _png(pack.flat(position)[0].reshape(*entry.shape, 3)))
        tick()


def write_masks(pack: Pack, folder: Path, tick: Tick) -> None:
    """Write the masks of a pack as `<id>.png`, 255 where manipulated, else 0."""
    for position, entry in enumerate(pack.entries):
        bits = np.unpackbits(pack.flat(position)[1], count=entry.shape[0] * entry.shape[1])
        write(folder / f"{entry.id}.png", _png(bits.reshape(entry.shape) * np.uint8(255)))
        tick()


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    content = BytesIO()
    Pillow.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
