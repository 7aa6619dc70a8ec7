"""What is known of one sample: its id, source, size and mask area, and the hashes by which it is known again."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.specs import Contained, Image, Sample
from deeploc_bench.data.decoding import MaskRule, decode

Bytes = NDArray[np.uint8]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one packed sample: `hash` is of id, source, pixels and mask; `image_hash` of the pixels alone.

    `mask_area` is in pixels, `shape` height and width; `remarks` are the data's checks that warn of it.
    """

    id: str
    source: str
    file: str
    hash: str
    image_hash: str
    mask_area: int
    shape: tuple[int, int]
    remarks: tuple[str, ...] = ()


def decode_entry(sample: Sample, rule: MaskRule) -> tuple[Entry, Image, Bytes]:
    """Return what is known of a sample, its image (H, W, 3), and the bits of its mask; raises SampleError."""
    decoded = decode(sample, rule)
    image = np.ascontiguousarray(decoded.image)
    is_authentic = decoded.mask is None
    mask = np.zeros(image.shape[:2], np.bool_) if decoded.mask is None else decoded.mask
    bits = np.packbits(mask)
    entry = Entry(
        id=sample.id,
        source=sample.source,
        file=str(sample.image) if isinstance(sample.image, Path | Contained) else sample.id,
        hash=hash_of(sample.id, sample.source, mask.shape, is_authentic, image, bits),
        image_hash=hashlib.blake2b(image.data, digest_size=16).hexdigest(),
        mask_area=int(mask.sum()),
        shape=(mask.shape[0], mask.shape[1]),
        remarks=decoded.remarks,
    )
    return entry, image, bits


def hash_of(id: str, source: str, shape: tuple[int, ...], is_authentic: bool, image: Bytes, bits: Bytes) -> str:
    """Return the hash of a sample: `shape` is height and width, `image` its pixels, `bits` those of its mask."""
    state = hashlib.blake2b(f"{id}\n{source}\n{(*shape, 3)}\n{is_authentic}\n".encode(), digest_size=16)
    state.update(image.data)
    state.update(bits.data)
    return state.hexdigest()
