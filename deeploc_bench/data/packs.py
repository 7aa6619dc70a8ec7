"""Decodes every sample once, into flat arrays of uint8 images and bit-packed masks that batches are cut from."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
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
from deeploc_bench.data.decoding import MaskRule, decode

Bytes = NDArray[np.uint8]
PACK_SCHEMA = 4
PACKING = ".packing-"
"""How the name of a folder starts in which a pack is being made."""
Tick = Callable[[], object]


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


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a packed sample was made of: its id, its source, its files (no mask where it is authentic)."""

    id: str
    source: str
    image: str
    mask: str | None


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """index.json: the samples of a pack, sorted by id, and what was found wrong with those that are not among them.

    `origins` and `rule` are what its key is made of: all samples, those that cannot be used among them.
    """

    schema: int = PACK_SCHEMA
    rule: MaskRule = MaskRule()
    origins: tuple[Origin, ...] = ()
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


def pack(
    samples: Sequence[Sample], *, inverted: bool, mask_above: float | None = None, folder: Path, tick: Tick
) -> Pack:
    """Pack samples; those read from files are packed once, into a folder inside `folder` keyed by the files' state.

    `inverted` and `mask_above` are what a generator dataset says of its mask files.
    Samples that a callable makes are packed in memory, since nothing tells when they change. A sample that cannot be
    used is left out, and is among the pack's findings. Raises DataError where the cache cannot be written.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    rule = MaskRule(inverted=inverted, above=None if mask_above is None else float(mask_above))
    origins = _origins(ordered)
    if origins is None:
        images, masks = io.BytesIO(), io.BytesIO()
        index = _pack_into(images, masks, ordered, rule, tick)
        return _pack_of(index, *(np.frombuffer(flat.getbuffer(), np.uint8) for flat in (images, masks)))
    target = folder / key_of(origins, rule)
    found = _open(target)
    if found is None:
        _write(ordered, origins, rule, target, tick)
        found = _open(target)
    if found is None:
        raise DataError(f"packed data in {target} cannot be read back; delete the folder and run again")
    return found


def key_of(origins: Iterable[Origin], rule: MaskRule) -> str:
    """Return the name of the pack of these samples, which follows from the state of their files now."""
    texts = [f"{PACK_SCHEMA} {rule.inverted} {rule.above}"]
    for origin in origins:
        texts += [origin.id, origin.source]
        texts += [_file_state(Path(file)) for file in (origin.image, origin.mask) if file is not None]
    return digest(texts)


def _origins(samples: Sequence[Sample]) -> tuple[Origin, ...] | None:
    """Return what samples are made of, or None where one of them is not made of files."""
    origins = []
    for sample in samples:
        if not isinstance(sample.image, Path) or not isinstance(sample.mask, Path | None):
            return None
        mask = None if sample.mask is None else str(sample.mask.absolute())
        origins.append(Origin(id=sample.id, source=sample.source, image=str(sample.image.absolute()), mask=mask))
    return tuple(origins)


def _file_state(file: Path) -> str:
    try:
        state = file.stat()
    except OSError:
        return f"{file} cannot be read"
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"


def _pack_into(images: BinaryIO, masks: BinaryIO, samples: Sequence[Sample], rule: MaskRule, tick: Tick) -> Index:
    """Write the pixels and the mask bits of all samples that can be used, and return what is known of them all."""
    entries, findings = list[Entry](), list[Finding]()
    for sample in samples:
        try:
            entry, image, bits = _decode(sample, rule)
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


def _decode(sample: Sample, rule: MaskRule) -> tuple[Entry, Image, Bytes]:
    """Return what is known of a sample, its image (H, W, 3), and the bits of its mask."""
    decoded = decode(sample, rule)
    image = np.ascontiguousarray(decoded.image)
    is_authentic = decoded.mask is None
    mask = np.zeros(image.shape[:2], np.bool_) if decoded.mask is None else decoded.mask
    bits = np.packbits(mask)
    state = hashlib.blake2b(f"{sample.id}\n{sample.source}\n{image.shape}\n{is_authentic}\n".encode(), digest_size=16)
    state.update(image.data)
    state.update(bits.data)
    entry = Entry(
        id=sample.id,
        source=sample.source,
        file=str(sample.image) if isinstance(sample.image, Path) else sample.id,
        hash=state.hexdigest(),
        image_hash=hashlib.blake2b(image.data, digest_size=16).hexdigest(),
        mask_area=int(mask.sum()),
        shape=(mask.shape[0], mask.shape[1]),
        remarks=decoded.remarks,
    )
    return entry, image, bits


def _write(samples: Sequence[Sample], origins: tuple[Origin, ...], rule: MaskRule, target: Path, tick: Tick) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PACKING, dir=target.parent, ignore_cleanup_errors=True) as name:
            scratch = Path(name)
            with (scratch / "images").open("wb") as images, (scratch / "masks").open("wb") as masks:
                _hold(images, fcntl.LOCK_EX)
                index = _pack_into(images, masks, samples, rule, tick)
            index = msgspec.structs.replace(index, rule=rule, origins=origins)
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
        images, masks = _mapped(target / "images"), _mapped(target / "masks")
    except (OSError, DataError):
        return None
    found = _pack_of(index, images, masks)
    return found if [int(start[-1]) for start in found.starts] == [images.size, masks.size] else None


def _mapped(file: Path) -> Bytes:
    """Map a file into memory; it is held for as long as it is mapped, since a map keeps a copy of the descriptor."""
    with file.open("rb") as opened:
        _hold(opened, fcntl.LOCK_SH)
        # an empty file, of no sample at all, cannot be mapped
        return np.memmap(opened, dtype=np.uint8, mode="r") if file.stat().st_size else np.empty(0, np.uint8)


def _hold(opened: BinaryIO, kind: int) -> None:
    with suppress(OSError):  # a file system without locks
        fcntl.flock(opened, kind)
