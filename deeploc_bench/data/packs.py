"""Decodes every sample once, into flat arrays of uint8 images and bit-packed masks that batches are cut from."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import DataError, StoreError
from deeploc_bench.contract.files import digest
from deeploc_bench.contract.files import sweep as sweep_files
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.seals import read_json, write_json
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.decoding import MaskRule
from deeploc_bench.data.entries import Bytes, Entry, hash_of
from deeploc_bench.data.opening import LARGE, MOST_PIXELS, most_pixels
from deeploc_bench.data.origins import PACK_SCHEMA, Origin, key_of, origins_of
from deeploc_bench.data.packing import Files, Step, Tick, scratch_of, sweep, write_samples


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """index.json: the samples of a pack, sorted by id, and what was found wrong with those that are not among them.

    `origins` and `rule` are what its key is made of: all samples, those that cannot be used among them. Pictures of
    more than `most_pixels` are among the findings.
    """

    schema: int = PACK_SCHEMA
    rule: MaskRule = MaskRule()
    origins: tuple[Origin, ...] = ()
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...] = ()
    most_pixels: int = MOST_PIXELS


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
    samples: Sequence[Sample],
    *,
    inverted: bool,
    mask_above: float | None = None,
    mask_color: str | None = None,
    folder: Path,
    tick: Tick,
    threads: int = 1,
) -> Pack:
    """Pack samples; those read from files are packed once, into a folder inside `folder` keyed by the files' state.

    `inverted`, `mask_above` and `mask_color` are what a generator dataset says of its mask files.
    Samples that a callable makes are packed in memory, since nothing tells when they change. A sample that cannot be
    used is left out, and is among the pack's findings. Whatever the threads, the pack is the same; one that was killed
    goes on where it was. What is read back is hashed again: a damaged pack is made anew.
    Raises DataError where the cache cannot be written.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    rule = MaskRule(inverted=inverted, above=None if mask_above is None else float(mask_above), color=mask_color)
    origins = origins_of(ordered)
    if origins is None:
        images, masks = io.BytesIO(), io.BytesIO()
        files = Files(images=images, masks=masks, done=io.BytesIO())
        index = _index_of(write_samples(files, ordered, rule, threads=0, tick=tick))
        return _pack_of(index, *(np.frombuffer(flat.getbuffer(), np.uint8) for flat in (images, masks)))
    target = folder / key_of(origins, rule)
    found = _open(target)
    for _ in range(2):  # where what a killed packing has left is damaged, once more without it
        if found is None:
            _write(ordered, origins, rule, target, threads=threads, tick=tick)
            found = _open(target)
    if found is None:
        raise DataError(f"packed data in {target} cannot be read back; delete the folder and run again")
    return found


def _index_of(steps: Sequence[Step]) -> Index:
    """Return what is known of all samples, whatever became of them."""
    return Index(
        entries=tuple(step.entry for step in steps if step.entry),
        findings=tuple(step.finding for step in steps if step.finding),
        most_pixels=most_pixels(),
    )


def _pack_of(index: Index, images: Bytes, masks: Bytes) -> Pack:
    return Pack(entries=index.entries, images=images, masks=masks, findings=index.findings)


def _write(
    samples: Sequence[Sample], origins: tuple[Origin, ...], rule: MaskRule, target: Path, *, threads: int, tick: Tick
) -> None:
    try:
        with scratch_of(target) as scratch:
            sweep(target.parent, kept=scratch)
            try:
                if _open(target) is None:  # else another process has made it meanwhile
                    _fill(scratch, samples, origins, rule, target, threads=threads, tick=tick)
                    if _put(scratch, target):
                        return
            except (OSError, StoreError):
                shutil.rmtree(scratch, ignore_errors=True)  # a full disk is not left full
                raise
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, StoreError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot pack data into {target}: {reason}. Set XDG_CACHE_HOME.") from None


def _fill(
    scratch: Path,
    samples: Sequence[Sample],
    origins: tuple[Origin, ...],
    rule: MaskRule,
    target: Path,
    *,
    threads: int,
    tick: Tick,
) -> None:
    with ExitStack() as stack:
        images, masks, done = (
            stack.enter_context((scratch / name).open("a+b")) for name in ("images", "masks", "done")
        )
        files = Files(images=images, masks=masks, done=done)
        steps = write_samples(files, samples, rule, threads=threads, tick=tick)
    index = msgspec.structs.replace(_index_of(steps), rule=rule, origins=origins)
    sweep_files(scratch)
    write_json(scratch / "index.json", index, target.name)
    (scratch / "done").unlink()


def _put(scratch: Path, target: Path) -> bool:
    """Rename a folder that is filled, unless the pack is there; returns whether it was: its old name is free then."""
    try:
        scratch.rename(target)
    except OSError:  # a pack is there: another process's, made meanwhile, or a damaged one
        if _open(target) is not None:
            return False
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
    return True


def _open(target: Path) -> Pack | None:
    """Return the pack in a folder, or None where there is none that is whole, or it lacks what may be read now."""
    try:
        index = read_json(target / "index.json", Index, "index", schema=PACK_SCHEMA, place=target.name)
        if index.most_pixels < most_pixels() and any(finding.check == LARGE for finding in index.findings):
            return None
        images, masks = _mapped(target / "images"), _mapped(target / "masks")
    except (OSError, StoreError):
        return None
    found = _pack_of(index, images, masks)
    is_complete = [int(start[-1]) for start in found.starts] == [images.size, masks.size]
    return found if is_complete and _is_undamaged(found, index.origins) else None


def _is_undamaged(found: Pack, origins: Iterable[Origin]) -> bool:
    """Tell whether pixels and masks are those that were packed; hashing leaves Python's lock to other threads."""
    authentic = {origin.id for origin in origins if origin.mask is None}

    def is_whole(position: int) -> bool:
        entry = found.entries[position]
        return entry.hash == hash_of(entry.id, entry.source, entry.shape, entry.id in authentic, *found.flat(position))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return all(pool.map(is_whole, range(len(found))))


def _mapped(file: Path) -> Bytes:
    """Map a file into memory; it is held for as long as it is mapped, since a map keeps a copy of the descriptor."""
    with file.open("rb") as opened:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(opened, fcntl.LOCK_SH)
        # An empty file, of no sample at all, cannot be mapped. What is written to a map (torch warns of arrays that
        # nothing can be written to) never reaches the file.
        is_empty = not file.stat().st_size
        return np.empty(0, np.uint8) if is_empty else np.asarray(np.memmap(opened, dtype=np.uint8, mode="c"))
