"""Decodes every sample once, into flat arrays of uint8 images and bit-packed masks that batches are cut from."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import DataError, SampleError
from deeploc_bench.contract.files import digest, read_json, to_json
from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.decoding import read_image, read_levels

if TYPE_CHECKING:
    from deeploc_bench.contract.specs import Image

Bits = NDArray[np.uint8]
PACK_SCHEMA = 3
Tick = Callable[[], object]


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of the samples of a pack, index.json: one value a sample in each list, sorted by id.

    `hashes` identify each sample: id, source, pixels and mask; `image_hashes` are of the pixels alone. `mask_areas` are
    in pixels, `shapes` height and width. `soft_masks` tell which masks had levels other than 0 and 255. `findings` are
    of the samples that could not be used, and are in none of the lists.
    """

    schema: int = PACK_SCHEMA
    ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    image_hashes: tuple[str, ...] = ()
    mask_areas: tuple[int, ...] = ()
    soft_masks: tuple[bool, ...] = ()
    shapes: tuple[tuple[int, int], ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """The samples of one generator and split, sorted by id.

    `images` is flat uint8, image after image in (H, W, 3) order; `masks` is flat bits, each image starting at a byte.
    """

    index: Index
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.index.ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the id of each sample."""
        return self.index.ids

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the source of each sample."""
        return self.index.sources

    @cached_property
    def shapes(self) -> NDArray[np.int64]:
        """Return the height and width of each image, (N, 2)."""
        return np.array(self.index.shapes, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def pixels(self) -> NDArray[np.int64]:
        """Return the pixels of each image, (N,)."""
        pixels: NDArray[np.int64] = self.shapes.prod(axis=1)
        return pixels

    @cached_property
    def starts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each image starts in `images`, and each mask in `masks`, both (N + 1,), the ends last."""
        sizes = (3 * self.pixels, (self.pixels + 7) // 8)
        images, masks = (np.concatenate([[0], size.cumsum()]).astype(np.int64) for size in sizes)
        return images, masks

    @cached_property
    def is_uniform(self) -> bool:
        """Tell whether all images have one size."""
        return bool((self.shapes == self.shapes[:1]).all())

    @property
    def fingerprint(self) -> str:
        """Return the hash of the ordered samples."""
        return digest(self.index.hashes)

    def flat(self, position: int) -> tuple[Bits, Bits]:
        """Return the flat pixels (3 H W,) and the packed mask of one sample."""
        images, masks = self.starts
        return (
            self.images[images[position] : images[position + 1]],
            self.masks[masks[position] : masks[position + 1]],
        )

    def take(self, positions: Sequence[int]) -> Pack:
        """Return a pack of some of the samples, copied."""
        lists = [name for name in Index.__struct_fields__ if name not in ("schema", "findings")]
        taken: dict[str, Any] = {
            name: tuple(getattr(self.index, name)[position] for position in positions) for name in lists
        }
        flats = [self.flat(position) for position in positions]
        return Pack(
            index=Index(**taken),
            images=np.concatenate([image for image, _ in flats]),
            masks=np.concatenate([mask for _, mask in flats]),
        )


def cache_folder() -> Path:
    """Return where packed data lies: `$XDG_CACHE_HOME/deeploc-bench`, by default `~/.cache/deeploc-bench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeploc-bench"


def pack(samples: Sequence[Sample], *, inverted: bool, folder: Path, tick: Tick) -> Pack:
    """Pack samples; those read from files are packed once, into a folder inside `folder` keyed by the files' state.

    Samples that a callable makes are packed in memory, since nothing tells when they change. A sample that cannot be
    used is left out, and is among the index's findings. Raises DataError where the cache cannot be written.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    key = _key(ordered, inverted)
    if key is None:
        return _pack_in_memory(ordered, inverted, tick)
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


class _Packing:
    """Decodes samples one by one, and gathers what an index says of them."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.findings: list[Finding] = []

    def decoded(self, samples: Sequence[Sample], inverted: bool, tick: Tick) -> Iterator[tuple[Image, Bits]]:
        """Yield the image and the packed mask of each sample that can be used."""
        for sample in samples:
            try:
                row, image, bits = _decode(sample, inverted)
            except SampleError as error:
                self.findings.append(data_finding(error.check, str(error)))
            else:
                self.rows.append(row)
                yield image, bits
            tick()

    def index(self) -> Index:
        """Return the index of the samples decoded so far."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * 8
        ids, sources, files, hashes, image_hashes, areas, soft, shapes = columns
        return Index(
            ids=ids,
            sources=sources,
            files=files,
            hashes=hashes,
            image_hashes=image_hashes,
            mask_areas=areas,
            soft_masks=soft,
            shapes=shapes,
            findings=tuple(self.findings),
        )


def _decode(sample: Sample, inverted: bool) -> tuple[tuple[Any, ...], Image, Bits]:
    """Return a sample's row of the index, its image (H, W, 3), and its mask's bits."""
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
    image_hash = hashlib.blake2b(image.data, digest_size=16).hexdigest()
    file = str(sample.image) if isinstance(sample.image, Path) else sample.id
    row = (sample.id, sample.source, file, state.hexdigest(), image_hash, int(mask.sum()), is_soft, mask.shape)
    return row, image, bits


def _named(sample: Sample, file: object) -> str:
    return str(file) if isinstance(file, Path) else f"of sample {sample.id!r}"


def _pack_in_memory(samples: Sequence[Sample], inverted: bool, tick: Tick) -> Pack:
    packing = _Packing()
    decoded = list(packing.decoded(samples, inverted, tick))
    nothing = np.empty(0, np.uint8)
    return Pack(
        index=packing.index(),
        images=np.concatenate([nothing, *(image.reshape(-1) for image, _ in decoded)]),
        masks=np.concatenate([nothing, *(bits for _, bits in decoded)]),
    )


def _write(samples: Sequence[Sample], inverted: bool, target: Path, tick: Tick) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".packing-", dir=target.parent))
    except OSError as error:
        raise DataError(f"cannot pack data into {target.parent}: {error.strerror}. Set XDG_CACHE_HOME.") from None
    packing = _Packing()
    try:
        with (scratch / "images").open("wb") as images, (scratch / "masks").open("wb") as masks:
            for image, bits in packing.decoded(samples, inverted, tick):
                images.write(image.data)
                masks.write(bits.data)
        (scratch / "index.json").write_bytes(to_json(packing.index()))
        if _open(target) is None:  # else another process has packed the same in the meantime
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
    except OSError as error:
        raise DataError(f"cannot pack data into {target}: {error.strerror}. Set XDG_CACHE_HOME.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open(target: Path) -> Pack | None:
    """Return the pack in a folder, or None where there is none, or none that is whole."""
    try:
        index = read_json(target / "index.json", Index, "index", DataError, schema=PACK_SCHEMA, most_bytes=None)
        images, masks = (_mapped(target / name) for name in ("images", "masks"))
    except (OSError, DataError):
        return None
    found = Pack(index=index, images=images, masks=masks)
    ends = tuple(int(starts[-1]) for starts in found.starts)
    lengths = {len(getattr(index, name)) for name in Index.__struct_fields__[1:-1]}
    return found if len(lengths) == 1 and ends == (images.size, masks.size) else None


def _mapped(file: Path) -> Bits:
    return np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.empty(0, np.uint8)
