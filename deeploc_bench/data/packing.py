"""Decodes every sample once, into flat arrays of uint8 images and bit-packed masks that batches are cut from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.specs import Sample

if TYPE_CHECKING:
    from deeploc_bench.contract.specs import Image, Mask

PACK_SCHEMA = 1
Tick = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """The samples of one generator and split, sorted by id.

    `images` is flat uint8, image after image in (H, W, 3) order; `masks` is flat bits, each image starting at a byte.
    `shapes` is int64 (N, 2): height and width. `hashes` identify each sample: id, source, pixels and mask.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    files: tuple[str, ...]
    hashes: tuple[str, ...]
    mask_areas: tuple[int, ...]
    shapes: NDArray[np.int64]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Return the pixels of each image, (N,)."""
        pixels: NDArray[np.int64] = self.shapes.prod(axis=1)
        return pixels

    @property
    def fingerprint(self) -> str:
        """Return the hash of the ordered samples."""
        return digest(self.hashes)

    @property
    def is_uniform(self) -> bool:
        """Tell whether all images have one size."""
        return bool((self.shapes == self.shapes[:1]).all())


def digest(texts: Sequence[str]) -> str:
    """Return 32 hex digits that identify an ordered sequence of texts."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def cache_folder() -> Path:
    """Return where packed data lies: `$XDG_CACHE_HOME/deeploc-bench`, by default `~/.cache/deeploc-bench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeploc-bench"


def pack(samples: Sequence[Sample], *, inverted: bool, folder: Path, tick: Tick) -> Pack:
    """Pack samples; those read from files are packed once, into a folder inside `folder` keyed by the files' state.

    Samples that a callable makes are packed in memory, since nothing tells when they change.
    Raises DataError for an image or mask that cannot be read, or whose sizes differ.
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
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"


def _decoded(samples: Sequence[Sample], inverted: bool, tick: Tick) -> Iterator[tuple[Sample, Image, Mask | None]]:
    for sample in samples:
        image, mask = read_image(sample), read_mask(sample, inverted=inverted)
        if mask is not None and mask.shape != image.shape[:2]:
            raise DataError(
                f"{_named(sample, sample.image)} is {image.shape[1]} x {image.shape[0]} but its mask "
                f"{_named(sample, sample.mask)} is {mask.shape[1]} x {mask.shape[0]}; sizes must be equal"
            )
        yield sample, image, mask
        tick()


def read_image(sample: Sample) -> Image:
    """Return a sample's image, uint8 RGB (H, W, 3); raises DataError."""
    if isinstance(sample.image, Path):
        return np.array(_opened(sample.image).convert("RGB"), dtype=np.uint8)
    image = sample.image()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"sample {sample.id!r}: image is {_described(image)}; expected uint8 of shape (H, W, 3)")
    return image


def read_mask(sample: Sample, *, inverted: bool) -> Mask | None:
    """Return a sample's mask, bool (H, W), True = manipulated, or None where it is authentic; raises DataError."""
    if sample.mask is None:
        return None
    if isinstance(sample.mask, Path):
        levels = np.array(_opened(sample.mask).convert("L"), dtype=np.uint8)
        return (levels < 127.5) if inverted else (levels > 127.5)
    mask = sample.mask()
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        raise DataError(f"sample {sample.id!r}: mask is {_described(mask)}; expected bool of shape (H, W)")
    return mask


def _opened(file: Path) -> Pillow.Image:
    try:
        with Pillow.open(file) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file} cannot be read as an image: {error}") from None


def _described(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _named(sample: Sample, file: object) -> str:
    return str(file) if isinstance(file, Path) else f"of sample {sample.id!r}"


def _entry(sample: Sample, image: Image, mask: Mask | None, bits: NDArray[np.uint8]) -> dict[str, Any]:
    state = hashlib.blake2b(f"{sample.id}\n{sample.source}\n{image.shape}\n{mask is None}\n".encode(), digest_size=16)
    state.update(np.ascontiguousarray(image).data)
    state.update(bits.data)
    return {
        "id": sample.id,
        "source": sample.source,
        "file": str(sample.image) if isinstance(sample.image, Path) else sample.id,
        "hash": state.hexdigest(),
        "mask_area": 0 if mask is None else int(mask.sum()),
        "shape": image.shape[:2],
    }


def _bits(image: Image, mask: Mask | None) -> NDArray[np.uint8]:
    return np.packbits(np.zeros(image.shape[:2], bool) if mask is None else mask)


def _pack_in_memory(samples: Sequence[Sample], inverted: bool, tick: Tick) -> Pack:
    entries, images, masks = [], [], []
    for sample, image, mask in _decoded(samples, inverted, tick):
        bits = _bits(image, mask)
        entries.append(_entry(sample, image, mask, bits))
        images.append(image.reshape(-1))
        masks.append(bits)
    return _from_entries(entries, np.concatenate(images), np.concatenate(masks))


def _from_entries(entries: Sequence[dict[str, Any]], images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> Pack:
    return Pack(
        ids=tuple(entry["id"] for entry in entries),
        sources=tuple(entry["source"] for entry in entries),
        files=tuple(entry["file"] for entry in entries),
        hashes=tuple(entry["hash"] for entry in entries),
        mask_areas=tuple(entry["mask_area"] for entry in entries),
        shapes=np.array([entry["shape"] for entry in entries], dtype=np.int64).reshape(-1, 2),
        images=images,
        masks=masks,
    )


def _write(samples: Sequence[Sample], inverted: bool, target: Path, tick: Tick) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".packing-", dir=target.parent))
    except OSError as error:
        raise DataError(f"cannot pack data into {target.parent}: {error.strerror}. Set XDG_CACHE_HOME.") from None
    try:
        entries = []
        with (scratch / "images").open("wb") as images, (scratch / "masks").open("wb") as masks:
            for sample, image, mask in _decoded(samples, inverted, tick):
                bits = _bits(image, mask)
                entries.append(_entry(sample, image, mask, bits))
                images.write(np.ascontiguousarray(image).data)
                masks.write(bits.data)
        (scratch / "index.json").write_text(json.dumps(entries))
        if _open(target) is None:  # else another process has packed the same in the meantime
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
    except OSError as error:
        raise DataError(f"cannot pack data into {target}: {error.strerror}. Set XDG_CACHE_HOME.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open(target: Path) -> Pack | None:
    try:
        entries = json.loads((target / "index.json").read_text())
        images = np.memmap(target / "images", dtype=np.uint8, mode="r")
        masks = np.memmap(target / "masks", dtype=np.uint8, mode="r")
    except (OSError, ValueError):
        return None
    found = _from_entries(entries, images, masks)
    complete = images.size == 3 * found.pixels.sum() and masks.size == ((found.pixels + 7) // 8).sum()
    return found if complete else None
