"""Samples out of folders: images and masks pair by name, never by the order of a listing."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.files import digest
from deeploc_bench.contract.findings import Finding, data_finding
from deeploc_bench.contract.specs import Sample

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
OTHER_SUFFIXES = frozenset(
    f".{kind}"
    for kinds in (
        ("gif", "heic", "heif", "avif", "jxl", "jp2", "j2k", "jfif", "jpe", "ppm", "pgm", "pbm", "pnm", "exr", "hdr"),
        ("dng", "raw", "cr2", "nef", "arw", "psd", "svg", "npy", "npz", "mat"),
    )
    for kind in kinds
)
"""Image types, and arrays that people keep images in, that are not read."""
LONGEST_ID = 200


def paired_samples(
    images: Path, masks: Path | None, *, source: Callable[[str], str] = str, mask_suffix: str = ""
) -> list[Sample]:
    """Return the samples of a folder of images and a folder of masks (None: authentic images), sorted by id.

    The mask of `a.jpg` is `a<mask_suffix>.png`, of any image type. `source` makes the source out of a stem. A stem that
    only one of the folders has makes a sample whose other file does not exist, which `data check` reports. Images and
    masks may lie in one folder, told apart by the suffix. Raises DataError where two files of a folder have one stem,
    or two samples one id.
    """
    found = by_stem(images)
    if masks is None:
        return distinct_samples(sample_of(stem, file, None, source(stem)) for stem, file in found.items())
    ends = {stem: file for stem, file in by_stem(masks).items() if stem.endswith(mask_suffix)}
    truths = {stem.removesuffix(mask_suffix): file for stem, file in ends.items()}
    others = set(truths.values()) if mask_suffix else set()
    found = {stem: file for stem, file in found.items() if file not in others}
    samples = []
    for stem in found | truths:
        image = found.get(stem, images / f"{stem}.png")
        mask = truths.get(stem, masks / f"{stem}{mask_suffix}.png")
        samples.append(sample_of(stem, image, mask, source(stem)))
    return distinct_samples(samples)


def left_out(samples: Iterable[Sample]) -> Iterator[Finding]:
    """Tell of the images that lie in the folders of a suite's samples, and are none of them."""
    files = {file for sample in samples for file in (sample.image, sample.mask) if isinstance(file, Path)}
    for folder in sorted({file.parent for file in files}):
        found = defaultdict[str, list[str]](list)
        for name in sorted(os.listdir(folder)) if os.access(folder, os.R_OK) and folder.is_dir() else []:
            suffix = Path(name).suffix.lower()
            if suffix in OTHER_SUFFIXES:
                found[suffix].append(name)
            elif suffix in IMAGE_SUFFIXES and not name.startswith(".") and folder / name not in files:
                found[""].append(name)
        for suffix, names in sorted(found.items()):
            told = f"{folder}: {len(names)} {suffix or 'image'} files, {names[0]} first"
            yield data_finding("types" if suffix else "unused", told)


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by stem, sorted; none where there is no such folder. Raises DataError.

    What is called like one and is none, such as a folder, is among them, so that it is told of where it is read.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
            continue
        if file.stem in found:
            raise DataError(f"{file} and {found[file.stem]} have one stem; keep one")
        found[file.stem] = file
    return found


def distinct_samples(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples sorted by id; raises DataError where two have one id, with the files of both."""
    found: dict[str, Sample] = {}
    for sample in samples:
        first = found.setdefault(sample.id, sample)
        if first is not sample:
            both = " and ".join(str(one.mask if first.image == sample.image else one.image) for one in (first, sample))
            if (first.image, first.mask) == (sample.image, sample.mask):
                both = f"two samples of {sample.image}, of sources {first.source!r} and {sample.source!r},"
            raise DataError(f"{both} have one id, {sample.id!r}; rename or leave out one")
    return [found[id] for id in sorted(found)]


def sample_of(stem: str, image: Path, mask: Path | None, source: str) -> Sample:
    """Return a sample whose id and source are made of file stems."""
    return Sample(id=sample_id(stem), source=sample_id(source), image=image, mask=mask)


def sample_id(stem: str) -> str:
    """Return a stem as an id.

    Of what an id may not hold, ASCII becomes `_`, and a letter or sign of any other script `u` and its number, so that
    two stems stay two ids; a first character that may not be the first gets an `x` before it. The end of what is too
    long becomes its hash.
    """
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"u{ord(found[0]):x}", unicodedata.normalize("NFC", stem))
    text = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    text = text if re.match(r"[A-Za-z0-9]", text) else f"x{text}"
    return text if len(text) <= LONGEST_ID else f"{text[: LONGEST_ID - 33]}-{digest([stem])}"
