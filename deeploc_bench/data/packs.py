"""Decodes every sample once, into flat arrays of uint8 images and bit-packed masks that batches are cut from."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import DataError, SampleError
from deeploc_bench.contract.files import digest, parse_json, to_json
from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.specs import Image, Sample
from deeploc_bench.data.decoding import read_image, read_levels

Bytes = NDArray[np.uint8]
PACK_SCHEMA = 3
Tick = Callable[[], object]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one packed sample: `hash` is of id, source, pixels and mask; `image_hash` of the pixels alone.

    `mask_area` is in pixels, `shape` height and width; `soft_mask` tells whether its mask had levels between 0 and 255.
    """

    id: str
    source: str
    file: str
    hash: str
    image_hash: str
    mask_area: int
    soft_mask: bool
    shape: tuple[int, int]


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """index.json: the samples of a pack, sorted by id, and what was found wrong with those that are not among them."""

    schema: int = PACK_SCHEMA
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """The samples of one generator and split, sorted by id.

    `images` is flat uint8, image after image in (H, W, 3) order; `masks` is flat bits, each image starting at a byte.
    """

    entries: tuple[Entry, ...]
    images: Bytes
    masks: Bytes
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Return the id of each sample."""
        return tuple(entry.id for entry in self.entries)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Return the source of each sample."""
        return tuple(entry.source for entry in self.entries)

    @cached_property
    def shapes(self) -> NDArray[np.int64]:
        """Return the height and width of each image, (N, 2)."""
        return np.array([entry.shape for entry in self.entries], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def pixels(self) -> NDArray[np.int64]:
        """Return the pixels of each image, (N,)."""
        pixels: NDArray[np.int64] = self.shapes.prod(axis=1)
        return pixels

    @cached_property
    def starts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each image starts in `images`, and each mask in `masks`, both (N + 1,), the ends last."""
        images, masks = (np.r_[0, size.cumsum()] for size in (3 * self.pixels, (self.pixels + 7) // 8))
        return images, masks

    @cached_property
    def is_uniform(self) -> bool:
        """Tell whether all images have one size."""
        return bool((self.shapes == self.shapes[:1]).all())

    @property
    def fingerprint(self) -> str:
        """Return the hash of the ordered samples."""
        return digest(entry.hash for entry in self.entries)

    def flat(self, position: int) -> tuple[Bytes, Bytes]:
        """Return the flat pixels (3 H W,) and the packed mask of one sample."""
        images, masks = (slice(*start[position : position + 2]) for start in self.starts)
        return self.images[images], self.masks[masks]

    def take(self, positions: Sequence[int]) -> Pack:
        """Return a pack of some of the samples, copied."""
        images, masks = (np.concatenate(flats) for flats in zip(*map(self.flat, positions), strict=True))
        return Pack(entries=tuple(self.entries[position] for position in positions), images=images, masks=masks)


def cache_folder() -> Path:
    """Return where packed data lies: `$XDG_CACHE_HOME/deeploc-bench`, by default `~/.cache/deeploc-bench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeploc-bench"


def pack(samples: Sequence[Sample], *, inverted: bool, folder: Path, tick: Tick) -> Pack:
    """Pack samples; those read from files are packed once, into a folder inside `folder` keyed by the files' state.

    Samples that a callable makes are packed in memory, since nothing tells when they change. A sample that cannot be
    used is left out, and is among the pack's findings. Raises DataError where the cache cannot be written.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    key = _key(ordered, inverted)
    if key is None:
        images, masks = io.BytesIO(), io.BytesIO()
        index = _pack_into(images, masks, ordered, inverted, tick)
        return _pack_of(index, *(np.frombuffer(flat.getbuffer(), np.uint8) for flat in (images, masks)))
    target = folder / key
    found = _open(target)
    if found is None:
        _write(ordered, inverted, target, tick)
        found = _open(target)
    if found is None:
        raise DataError(f"packed data in {target} cannot be read back; delete the folder and run again")
    return found


def _key(samples: Sequence[Sample], inverted: bool) -> str | None:
    texts = [f"{PACK_SCHEMA} {inverted}"]
    for sample in samples:
        texts += [sample.id, sample.source]
        for file in (sample.image, sample.mask):
            if file is None:
                continue
            if not isinstance(file, Path):
                return None
            texts.append(_file_state(file))
    return digest(texts)


def _file_state(file: Path) -> str:
    try:
        state = file.stat()
    except OSError:
        return f"{file} cannot be read"
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"


def _pack_into(images: BinaryIO, masks: BinaryIO, samples: Sequence[Sample], inverted: bool, tick: Tick) -> Index:
    """Write the pixels and the mask bits of all samples that can be used, and return what is known of them all."""
    entries, findings = list[Entry](), list[Finding]()
    for sample in samples:
        try:
            entry, image, bits = _decode(sample, inverted)
        except SampleError as error:
            findings.append(data_finding(error.check, str(error)))
        else:
            entries.append(entry)
            images.write(image.data)
            masks.write(bits.data)
        tick()
    return Index(entries=tuple(entries), findings=tuple(findings))


def _pack_of(index: Index, images: Bytes, masks: Bytes) -> Pack:
    return Pack(entries=index.entries, images=images, masks=masks, findings=index.findings)


def _decode(sample: Sample, inverted: bool) -> tuple[Entry, Image, Bytes]:
    """Return what is known of a sample, its image (H, W, 3), and the bits of its mask."""
    image, found = read_image(sample), read_levels(sample, inverted=inverted)
    mask, is_soft = found or (np.zeros(image.shape[:2], np.bool_), False)
    if mask.shape != image.shape[:2]:
        raise SampleError(
            f"{_named(sample, sample.image)} is {image.shape[1]} x {image.shape[0]}, its mask "
            f"{_named(sample, sample.mask)} is {mask.shape[1]} x {mask.shape[0]}",
            check="size",
        )
    image, bits = np.ascontiguousarray(image), np.packbits(mask)
    state = hashlib.blake2b(f"{sample.id}\n{sample.source}\n{image.shape}\n{found is None}\n".encode(), digest_size=16)
    state.update(image.data)
    state.update(bits.data)
    entry = Entry(
        id=sample.id,
        source=sample.source,
        file=str(sample.image) if isinstance(sample.image, Path) else sample.id,
        hash=state.hexdigest(),
        image_hash=hashlib.blake2b(image.data, digest_size=16).hexdigest(),
        mask_area=int(mask.sum()),
        soft_mask=is_soft,
        shape=(mask.shape[0], mask.shape[1]),
    )
    return entry, image, bits


def _named(sample: Sample, file: object) -> str:
    return str(file) if isinstance(file, Path) else f"of sample {sample.id!r}"


def _write(samples: Sequence[Sample], inverted: bool, target: Path, tick: Tick) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".packing-", dir=target.parent, ignore_cleanup_errors=True) as name:
            scratch = Path(name)
            with (scratch / "images").open("wb") as images, (scratch / "masks").open("wb") as masks:
                index = _pack_into(images, masks, samples, inverted, tick)
            (scratch / "index.json").write_bytes(to_json(index))
            try:
                scratch.rename(target)
            except OSError:  # a pack is there: another process's, made meanwhile, or a damaged one
                if _open(target) is None:
                    shutil.rmtree(target, ignore_errors=True)
                    scratch.rename(target)
    except OSError as error:
        raise DataError(f"cannot pack data into {target}: {error.strerror}. Set XDG_CACHE_HOME.") from None


def _open(target: Path) -> Pack | None:
    """Return the pack in a folder, or None where there is none, or none that is whole."""
    try:
        index = parse_json((target / "index.json").read_bytes(), Index, "index", DataError, schema=PACK_SCHEMA)
        # an empty file, of no sample at all, cannot be mapped
        images, masks = (
            np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.empty(0, np.uint8)
            for file in (target / "images", target / "masks")
        )
    except (OSError, DataError):
        return None
    found = _pack_of(index, images, masks)
    return found if [int(start[-1]) for start in found.starts] == [images.size, masks.size] else None
