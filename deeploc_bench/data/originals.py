"""What generators are made of: authentic images out of a folder, each with its split and the mask of its edit."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from deeploc_bench.contract.errors import DataError, SampleError, UsageError
from deeploc_bench.contract.findings import Finding, data_finding, summary
from deeploc_bench.contract.specs import SPLITS, Image, Mask, Sample, Split
from deeploc_bench.data.decoding import Decoded, MaskRule, decode
from deeploc_bench.data.folders import IMAGE_SUFFIXES, OTHER_SUFFIXES, sample_id
from deeploc_bench.data.masks import Drawing, draw, random_for
from deeploc_bench.data.suites import Fingerprint, Id, Name, Progress
from deeploc_bench.data.survey import SMALLEST_SIDE

ORIGINALS_SCHEMA = 1


class Original(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One authentic image: `image` is the hash of its size and pixels, `mask` that of its mask; `shape` is (H, W)."""

    id: Id
    source: Id
    split: Split
    shape: tuple[int, int]
    image: Fingerprint
    mask: Fingerprint


class Originals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """originals.json: all that the generators of a folder share, sorted by id.

    `source` is the regular expression whose first group, found in an id, names the source. `splits` are the shares of
    the sources, None where folders say which split an image is in; `drawing` is None where the masks are files.
    """

    schema: int = ORIGINALS_SCHEMA
    suite: Name
    seed: int
    source: str
    splits: tuple[float, float, float] | None
    drawing: Drawing | None
    samples: tuple[Original, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where authentic images and, unless they are drawn, masks lie; `rule` says what a level of a mask file means."""

    images: Path
    masks: Path | None
    rule: MaskRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for beside the folders: as in Originals; shares are None where none are asked for."""

    suite: str
    seed: int
    source: str
    shares: tuple[float, float, float] | None
    drawing: Drawing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """Authentic images, and the files that they, and their masks, are read from, by id."""

    originals: Originals
    files: Mapping[str, Sample]
    rule: MaskRule
    unread: tuple[Path, ...]
    """Files of the folders that are no authentic image and no mask of one."""

    def image(self, original: Original) -> Image:
        """Return an image (H, W, 3); raises DataError where it is another than it was."""
        return self._decoded(original).image

    def read(self, original: Original) -> tuple[Image, Mask]:
        """Return an image (H, W, 3) and its mask (H, W); raises DataError where they are others than they were."""
        decoded = self._decoded(original)
        mask = _mask_of(decoded, original.id, self.originals.seed, self.originals.drawing)
        if mask is None or pixels_hash(mask) != original.mask:
            raise DataError(f"the mask of {original.id} has changed while it was used; run the same command again")
        return decoded.image, mask

    def _decoded(self, original: Original) -> Decoded:
        decoded = decode(self.files[original.id], self.rule)
        if pixels_hash(decoded.image) != original.image:
            file = self.files[original.id].image
            raise DataError(f"{file} has changed while it was used; run the same command again")
        return decoded


def pixels_hash(pixels: Image | Mask) -> str:
    """Return the hash (32 hex) of an image or a mask: of its shape and all its values."""
    state = hashlib.blake2b(f"{pixels.shape}\n".encode(), digest_size=16)
    state.update(np.packbits(pixels).data if pixels.dtype == np.bool_ else np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def read_photographs(folders: Folders, wish: Wish, progress: Progress) -> Photographs:
    """Read all images, draw or read their masks, and deal the sources to the splits; raises DataError, UsageError."""
    placed, unread = _placed(folders, wish)
    findings: list[Finding] = []
    found: list[Original] = []
    with progress(f"read {folders.images}", len(placed)) as tick:
        for split, sample in placed:
            try:
                found.append(_original(sample, split, folders.rule, wish))
            except SampleError as error:
                findings.append(data_finding(error.check, str(error)))
            tick()
    if findings:
        raise DataError("\n  ".join(["some images cannot be used:", *summary(findings)]))
    _refuse_equal(found)
    shares = None if placed[0][0] else wish.shares or DEFAULT_SHARES
    samples = _dealt(found, shares, wish.seed) if shares else found
    originals = Originals(
        suite=wish.suite,
        seed=wish.seed,
        source=wish.source,
        splits=shares,
        drawing=wish.drawing,
        samples=tuple(sorted(samples, key=lambda one: one.id)),
    )
    return Photographs(
        originals=originals, files={sample.id: sample for _, sample in placed}, rule=folders.rule, unread=unread
    )


DEFAULT_SHARES = (0.6, 0.1, 0.3)


def parse_shares(text: str) -> tuple[float, float, float]:
    """Return the shares of train, valid and test that `0.6:0.1:0.3` says; raises UsageError."""
    try:
        train, valid, test = map(float, text.split(":"))
    except ValueError:
        train, valid, test = 0.0, 0.0, 0.0
    is_whole = abs(train + valid + test - 1) < 1e-6 and min(train, valid, test) >= 0
    if not is_whole or not (min(train, valid, test) > 0 or test == 1):
        raise UsageError(
            f"--splits {text!r}: expected the shares of train, valid and test, such as 0.6:0.1:0.3: above 0, of sum 1; "
            "or 0:0:1, for generators that are only tested"
        )
    return train, valid, test


def _placed(folders: Folders, wish: Wish) -> tuple[list[tuple[Split | None, Sample]], tuple[Path, ...]]:
    """Return the samples with the splits that folders say, and the files that are no part of them."""
    images, others = _listed(folders.images)
    if not images:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"--images {folders.images} holds no image, in no folder below it. Image types: {known}.")
    splits = {split for split, _ in images.values()}
    if None in splits and len(splits) > 1:
        stray = next(file for split, file in images.values() if split is None)
        first = next(split for split in SPLITS if split in splits)
        raise DataError(
            f"--images {folders.images} has a folder {first}/, and images beside it, such as "
            f"{stray}. Put all images into train/, valid/ and test/, or rename that folder."
        )
    if None not in splits and wish.shares:
        raise UsageError(
            f"--splits: the folders of {folders.images} say which split an image is in; leave --splits out"
        )
    if None not in splits and splits not in ({*SPLITS}, {"test"}):
        has = ", ".join(f"{split}/" for split in SPLITS if split in splits)
        raise DataError(f"--images {folders.images} has {has}; expected train/, valid/ and test/, or test/ alone")
    masks, unread = _listed(folders.masks) if folders.masks else ({}, [])
    _refuse_unpaired(images, masks, folders)
    placed = [
        (split, Sample(id=id, source=_source(wish.source, id), image=file, mask=masks[id][1] if masks else None))
        for id, (split, file) in sorted(images.items())
    ]
    _refuse_leaks((split, sample.source) for split, sample in placed)
    spare = [file for id, (_, file) in masks.items() if id not in images]
    return placed, (*others, *unread, *spare)


def _listed(folder: Path) -> tuple[dict[str, tuple[Split | None, Path]], list[Path]]:
    """Return the images of a folder and of all below it, by id, with the splits; and the images of other types.

    An id is made of the path below the folder, without a first folder that is called like a split.
    """
    found: dict[str, tuple[Split | None, Path]] = {}
    others = []
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    for place, names, files in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for file in (Path(place, name) for name in sorted(files) if not name.startswith(".")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                first, *rest = file.relative_to(folder).with_suffix("").parts
                split = next((one for one in SPLITS if rest and first == one), None)
                id = sample_id("/".join(rest if split else (first, *rest)))
                if id in found:
                    raise DataError(f"{found[id][1]} and {file} have one id, {id!r}; rename or leave out one")
                found[id] = (split, file)
            elif file.suffix.lower() in OTHER_SUFFIXES:
                others.append(file)
    return found, others


def _source(pattern: str, id: str) -> str:
    found = re.search(pattern, id)
    return sample_id((found[1] or id) if found else id)


def _refuse_unpaired(images: Mapping[str, object], masks: Mapping[str, object], folders: Folders) -> None:
    lacking = [id for id in images if id not in masks] if folders.masks else []
    if lacking:
        named = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise DataError(
            f"--masks {folders.masks}: {len(lacking)} of {len(images)} images have no mask: {named}. A mask has the "
            "path and the name of its image, of any image type."
        )


def _refuse_leaks(placed: Iterable[tuple[Split | None, str]]) -> None:
    """Raise DataError where folders put one source into two splits."""
    splits: dict[str, Split | None] = {}
    for split, source in placed:
        first = splits.setdefault(source, split)
        if first != split:
            raise DataError(
                f"source {source!r} stands in {first}/ and in {split}/; images of one source go into one split"
            )


def _original(sample: Sample, split: Split | None, rule: MaskRule, wish: Wish) -> Original:
    """Return what is known of an image, in the split test where none is known yet; raises SampleError."""
    decoded = decode(sample, rule)
    shape = (decoded.image.shape[0], decoded.image.shape[1])
    if min(shape) < SMALLEST_SIDE:
        raise SampleError(f"{sample.image} is {shape[1]} x {shape[0]}", check="small")
    mask = _mask_of(decoded, sample.id, wish.seed, wish.drawing)
    if mask is None:
        raise DataError(
            f"{sample.image}: no mask of such an area is found on its {shape[1]} x {shape[0]} pixels; widen --area"
        )
    return Original(
        id=sample.id,
        source=sample.source,
        split=split or "test",
        shape=shape,
        image=pixels_hash(decoded.image),
        mask=pixels_hash(mask),
    )


def _mask_of(decoded: Decoded, id: str, seed: int, drawing: Drawing | None) -> Mask | None:
    if drawing is None:
        return decoded.mask
    return draw(drawing, decoded.image.shape[:2], random_for(seed, "mask", id))


def _refuse_equal(originals: Sequence[Original]) -> None:
    """Raise DataError where images of different sources are equal: they might be dealt to different splits."""
    first: dict[str, Original] = {}
    pairs = [(one, first.setdefault(one.image, one)) for one in originals]
    equal = [(one.id, other.id) for one, other in pairs if one.source != other.source]
    if equal:
        raise DataError(
            f"{len(equal)} images equal another one's pixels, such as {equal[0][0]} those of {equal[0][1]}; keep one, "
            "or say by --source that both have one source"
        )


def _dealt(originals: Sequence[Original], shares: tuple[float, float, float], seed: int) -> list[Original]:
    """Deal sources to the splits by their shares, at least one to each; raises DataError where there are too few."""
    sources = sorted({one.source for one in originals})
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share]
    if len(sources) < len(wanted):
        raise DataError(f"{len(sources)} sources cannot be dealt to {', '.join(wanted)}: each needs one; add images")
    counts = Counter({split: 1 for split in wanted})
    for _ in range(len(sources) - len(wanted)):
        lacking = {split: len(sources) * shares[SPLITS.index(split)] - counts[split] for split in wanted}
        counts[max(wanted, key=lacking.__getitem__)] += 1
    order = random_for(seed, "splits").permutation(sources).tolist()
    splits = dict(zip(order, [split for split in wanted for _ in range(counts[split])], strict=True))
    return [msgspec.structs.replace(one, split=splits[one.source]) for one in originals]
