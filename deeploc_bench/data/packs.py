"""Decodes every sample once, into flat arrays of uint8 images and bit-packed masks that batches are cut from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.findings import Finding, SampleError
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.decoding import read_image, read_levels

if TYPE_CHECKING:
    from deeploc_bench.contract.specs import Image

Entry = dict[str, Any]
Bits = NDArray[np.uint8]
PACK_SCHEMA = 2
Tick = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """The samples of one generator and split, sorted by id.

    `images` is flat uint8, image after image in (H, W, 3) order; `masks` is flat bits, each image starting at a byte.
    `shapes` is int64 (N, 2): height and width. `hashes` identify each sample: id, source, pixels and mask.
    `image_hashes` are of the pixels alone. `soft_masks` tell which masks had levels other than 0 and 255. `findings`
    are of the samples that could not be used, and are not among the N.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    files: tuple[str, ...]
    hashes: tuple[str, ...]
    image_hashes: tuple[str, ...]
    mask_areas: tuple[int, ...]
    soft_masks: tuple[bool, ...]
    shapes: NDArray[np.int64]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    findings: tuple[Finding, ...] = ()

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

    Samples that a callable makes are packed in memory, since nothing tells when they change. A sample that cannot be
    used is left out, and stands among the pack's findings. Raises DataError where the cache cannot be written.
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


def _decoded(
    samples: Sequence[Sample], inverted: bool, tick: Tick, findings: list[Finding]
) -> Iterator[tuple[Entry, Image, Bits]]:
    for sample in samples:
        try:
            yield _decode(sample, inverted)
        except SampleError as error:
            findings.append(error.finding)
        tick()


def _decode(sample: Sample, inverted: bool) -> tuple[Entry, Image, Bits]:
    image, found = read_image(sample), read_levels(sample, inverted=inverted)
    mask, is_soft = found or (np.zeros(image.shape[:2], np.bool_), False)
    if mask.shape != image.shape[:2]:
        raise SampleError(
            "size",
            f"{_named(sample, sample.image)} is {image.shape[1]} x {image.shape[0]}, its mask "
            f"{_named(sample, sample.mask)} is {mask.shape[1]} x {mask.shape[0]}",
        )
    image, bits = np.ascontiguousarray(image), np.packbits(mask)
    state = hashlib.blake2b(f"{sample.id}\n{sample.source}\n{image.shape}\n{found is None}\n".encode(), digest_size=16)
    state.update(image.data)
    state.update(bits.data)
    entry = {
        "id": sample.id,
        "source": sample.source,
        "file": str(sample.image) if isinstance(sample.image, Path) else sample.id,
        "hash": state.hexdigest(),
        "image_hash": hashlib.blake2b(image.data, digest_size=16).hexdigest(),
        "mask_area": int(mask.sum()),
        "soft_mask": is_soft,
        "shape": mask.shape,
    }
    return entry, image, bits


def _named(sample: Sample, file: object) -> str:
    return str(file) if isinstance(file, Path) else f"of sample {sample.id!r}"


def _pack_in_memory(samples: Sequence[Sample], inverted: bool, tick: Tick) -> Pack:
    findings: list[Finding] = []
    decoded = list(_decoded(samples, inverted, tick, findings))
    nothing = np.empty(0, np.uint8)
    images = np.concatenate([nothing, *(image.reshape(-1) for _, image, _ in decoded)])
    masks = np.concatenate([nothing, *(bits for _, _, bits in decoded)])
    return _from_entries([entry for entry, _, _ in decoded], images, masks, findings)


def _from_entries(entries: Sequence[Entry], images: Bits, masks: Bits, findings: Sequence[Finding]) -> Pack:
    return Pack(
        ids=tuple(entry["id"] for entry in entries),
        sources=tuple(entry["source"] for entry in entries),
        files=tuple(entry["file"] for entry in entries),
        hashes=tuple(entry["hash"] for entry in entries),
        image_hashes=tuple(entry["image_hash"] for entry in entries),
        mask_areas=tuple(entry["mask_area"] for entry in entries),
        soft_masks=tuple(entry["soft_mask"] for entry in entries),
        shapes=np.array([entry["shape"] for entry in entries], dtype=np.int64).reshape(-1, 2),
        images=images,
        masks=masks,
        findings=tuple(findings),
    )


def _write(samples: Sequence[Sample], inverted: bool, target: Path, tick: Tick) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".packing-", dir=target.parent))
    except OSError as error:
        raise DataError(f"cannot pack data into {target.parent}: {error.strerror}. Set XDG_CACHE_HOME.") from None
    try:
        entries, findings = [], list[Finding]()
        with (scratch / "images").open("wb") as images, (scratch / "masks").open("wb") as masks:
            for entry, image, bits in _decoded(samples, inverted, tick, findings):
                entries.append(entry)
                images.write(image.data)
                masks.write(bits.data)
        index = {"entries": entries, "findings": [asdict(finding) for finding in findings]}
        (scratch / "index.json").write_text(json.dumps(index))
        if _open(target) is None:  # else another process has packed the same in the meantime
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
    except OSError as error:
        raise DataError(f"cannot pack data into {target}: {error.strerror}. Set XDG_CACHE_HOME.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open(target: Path) -> Pack | None:
    try:
        index = json.loads((target / "index.json").read_text())
        images, masks = (_mapped(target / name) for name in ("images", "masks"))
    except (OSError, ValueError):
        return None
    findings = [Finding(**finding) for finding in index["findings"]]
    found = _from_entries(index["entries"], images, masks, findings)
    complete = images.size == 3 * found.pixels.sum() and masks.size == ((found.pixels + 7) // 8).sum()
    return found if complete else None


def _mapped(file: Path) -> Bits:
    return np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.empty(0, np.uint8)
