"""Makes a generator dataset: a function edits authentic images inside their masks, batch by batch, and can be stopped.

What it gives to the function depends on the seed and the ids alone, so that a make that was killed and started again
ends with the same bytes.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from deeploc_bench.contract.errors import DataError, PluginError, StoreError, reason_of
from deeploc_bench.contract.files import sweep, write
from deeploc_bench.contract.isolation import kept_alive
from deeploc_bench.contract.specs import SPLITS, Image, Mask, Sample, Split
from deeploc_bench.data import made
from deeploc_bench.data.contact import Row, contact_sheet
from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.data.masks import random_for
from deeploc_bench.data.originals import Original, Photographs, pixels_hash
from deeploc_bench.data.pairs import spread
from deeploc_bench.data.suites import Progress

ARGUMENTS = ("images", "masks", "random")
"""What an inpainting function takes: uint8 (N, H, W, 3), bool (N, H, W), and a numpy Generator."""
SHOWN = 4
"""How many images of a split the contact sheet shows."""
FLAT = 8
"""Levels by which the pixels of a region differ at most, which a fill may leave as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A generator that is to be made: its name, the function with its options bound, and what is written of it."""

    name: str
    inpaint: Callable[..., Any]
    maker: made.Maker
    license: str | None
    reference: str | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was made: the generator's provenance, and how many of its images this call made."""

    provenance: made.Provenance
    new: int


def make(making: Making, photographs: Photographs, root: Path, progress: Progress) -> Outcome:
    """Make one generator of photographs in a folder, or go on with it, and describe the suite.

    Raises PluginError for what the function does, StoreError, UsageError where the folder holds something else.
    """
    originals = photographs.originals
    identity, folder = made.identity_of(making.maker, originals), made.generator_folder(root, making.name)
    with made.locked(root, waits=True):
        sweep(root)
        _share(photographs, root)
    with made.locked(folder, waits=False):
        if not made.is_begun(folder, identity):
            made.begin(folder, identity)
        new = _make_missing(making, photographs, folder, progress)
        provenance = _looked_over(making, identity, photographs, folder, progress)
        made.finish(folder, provenance)
    with made.locked(root, waits=True):
        _share(photographs, root)
        made.describe(root, originals)
    return Outcome(provenance=provenance, new=new)


def _share(photographs: Photographs, root: Path) -> None:
    """Write what all generators share, unless it is there; raises where what is there is something else."""
    made.share_originals(root, photographs.originals)
    made.refuse_edited(root)
    for original in photographs.originals.samples:
        file = root / "real" / "test" / f"{original.id}.png"
        if original.split == "test" and not file.exists():
            write(file, png(photographs.image(original)))


def png(pixels: Image | Mask) -> bytes:
    """Return pixels as a PNG; a mask as levels 0 and 255."""
    content = BytesIO()
    Pillow.fromarray(pixels * np.uint8(255) if pixels.dtype == np.bool_ else pixels).save(content, "PNG")
    return content.getvalue()


def _make_missing(making: Making, photographs: Photographs, folder: Path, progress: Progress) -> int:
    """Make the images that are not there, and their masks; return how many."""
    new = 0
    with progress(f"make {making.name}", len(photographs.originals.samples)) as tick:
        for batch in _batches(photographs.originals.samples, making.maker.batch_size):
            missing = [one for one in batch if not all(file.exists() for file in _files(folder, one))]
            if missing:
                _make_batch(making, photographs, batch, folder)
            new += len(missing)
            for _ in batch:
                tick()
    return new


def _batches(samples: Sequence[Original], size: int) -> Iterator[list[Original]]:
    """Yield batches of one image size, each split by itself, in the order of the ids."""
    alike: dict[tuple[Split, tuple[int, int]], list[Original]] = defaultdict(list)
    for one in samples:
        alike[one.split, one.shape].append(one)
    for _, group in sorted(alike.items()):
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _files(folder: Path, original: Original) -> tuple[Path, Path]:
    image, mask = (folder / kind / original.split / f"{original.id}.png" for kind in ("images", "masks"))
    return image, mask


def _make_batch(making: Making, photographs: Photographs, batch: Sequence[Original], folder: Path) -> None:
    """Make a whole batch, which alone gives the same images again, and write what is not there."""
    images, masks = (np.stack(arrays) for arrays in zip(*map(photographs.read, batch), strict=True))
    edits = _edited(making, photographs.originals.seed, [one.id for one in batch], images, masks)
    for original, edit, mask in zip(batch, edits, masks, strict=True):
        for file, pixels in zip(_files(folder, original), (edit, mask), strict=True):
            if not file.exists():
                write(file, png(pixels))


def _edited(making: Making, seed: int, ids: Sequence[str], images: Any, masks: Any) -> Any:
    """Return the images (N, H, W, 3) that a function makes, checked, and spliced where that is asked for."""
    where = f"{making.maker.function}, {'image' if len(ids) == 1 else 'images'} {', '.join(map(repr, ids))}"
    given = images.copy(), masks.copy(), random_for(seed, "edit", *ids)
    try:
        with kept_alive("it"):
            returned = making.inpaint(*given)
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(f"{where}: {reason_of(error)} ({Path(frame.filename).name}:{frame.lineno})") from error
    if not isinstance(returned, np.ndarray) or returned.dtype != np.uint8 or returned.shape != images.shape:
        came = f"{returned.dtype} of shape {returned.shape}" if hasattr(returned, "shape") else type(returned).__name__
        raise PluginError(
            f"{where}: returned {came}; expected a numpy array, uint8 of shape {images.shape}, RGB levels 0 to 255"
        )
    for id, image, mask, edit in zip(ids, images, masks, returned, strict=True):
        if np.array_equal(edit[mask], image[mask]) and np.ptp(image[mask], axis=0).max() > FLAT:
            raise PluginError(
                f"{making.maker.function}, image {id!r}: no pixel inside the mask is changed; it must return images "
                "that are edited where the mask is True"
            )
    return returned if making.maker.whole else np.where(masks[..., None], returned, images)


def _looked_over(
    making: Making, identity: str, photographs: Photographs, folder: Path, progress: Progress
) -> made.Provenance:
    """Read all images back, hold them against what was written of them before, and draw the contact sheet."""
    known = made.read_provenance(folder)
    hashes = {edit.id: edit.image for edit in known.edits} if known else {}
    samples = photographs.originals.samples
    shown = {one.id for split in SPLITS for one in spread([s for s in samples if s.split == split], SHOWN)}
    edits, rows = [], []
    with progress(f"look over {making.name}", len(samples)) as tick:
        for original in samples:
            edit, row = _looked_at(original, photographs, folder, making.maker.whole)
            tick()
            if hashes.get(edit.id, edit.image) != edit.image:
                raise _damaged(_files(folder, original)[0])
            edits.append(edit)
            rows += [row] if original.id in shown else []
    write(folder / "sheet.png", contact_sheet(sorted(rows, key=lambda row: row.title)))
    return made.Provenance(
        generator=making.name,
        identity=identity,
        maker=making.maker,
        license=making.license,
        reference=making.reference,
        versions=making.versions,
        edits=tuple(edits),
    )


def _looked_at(original: Original, photographs: Photographs, folder: Path, whole: bool) -> tuple[made.Edit, Row]:
    """Return what is written of an image, and its row of the sheet; raises StoreError where a file is damaged."""
    image = photographs.image(original)
    file, mask_file = _files(folder, original)
    try:
        decoded = decode(Sample(id=original.id, source=original.source, image=file, mask=mask_file), MaskRule())
    except DataError as error:
        raise StoreError(f"{error}. Delete that file, and the same command makes it again.") from None
    mask = decoded.mask
    if mask is None or pixels_hash(mask) != original.mask:
        raise _damaged(mask_file)
    if not whole and not np.array_equal(decoded.image[~mask], image[~mask]):
        raise _damaged(file)
    change = float(np.abs(decoded.image[mask].astype(float) - image[mask]).mean())
    edit = made.Edit(id=original.id, image=pixels_hash(decoded.image), change=round(change, 3))
    return edit, Row(title=f"{original.split} · {original.id}", original=image, mask=mask, edit=decoded.image)


def _damaged(file: Path) -> StoreError:
    return StoreError(f"{file} is not as it was made. Delete it, and the same command makes it again.")
