"""Suites described by one TOML file: where the images, masks and splits of any other data set lie."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from deeploc_bench import (
    IMAGE_SUFFIXES,
    DataError,
    GeneratorDataset,
    PluginError,
    Sample,
    distinct_samples,
    hookimpl,
    read_toml,
    sample_of,
)

NO_MASK = ("", "none", "negative")  # for the mask of an authentic image in a list
Split = Literal["train", "valid", "test"]
Column = Literal["image", "mask", "split", "generator", "label"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
COLUMNS: tuple[Column, ...] = ("image", "mask", "split", "generator", "label")
AUTHENTIC = "authentic"
PLACEHOLDERS = ("id", "key", "split")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[generator]]` of a description.

    `images` and `masks` are templates of paths below the data root, with `{id}`, `{split}` and `*`; in `masks`, `{key}`
    is the first group of the regular expression `pair`, found in the id. `split` puts all in one split; `folders` says
    what `{split}` stands for; `lists` are files that list the images of a split, or one csv with a column `split`;
    `columns` says what they are called; `method` is the generator it is made by, if another. `authentic` has no masks.
    """

    name: str
    role: Literal["standard", "test-only"] = "standard"
    method: str | None = None
    images: str | None = None
    masks: str | None = None
    pair: str = "(.*)"
    inverted_masks: bool = False
    split: Split | None = None
    folders: Mapping[Split, str] = {}
    lists: Mapping[Split, str] | str = {}
    columns: Mapping[Column, str] = {}
    license: str | None = None
    reference: str | None = None


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole description; `source` is a regular expression whose first group, found in a stem, names its source."""

    suite: str
    generator: tuple[Part, ...]
    source: str = "(.*)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a list: an image, its mask (empty: authentic; None: not said), its split, its generator."""

    image: str
    mask: str | None
    split: str | None = None
    generator: str | None = None


@hookimpl
def deeploc_find_suite(name: str) -> list[GeneratorDataset] | None:
    """Return the generator datasets that a TOML file describes; raises DataError that says what in it is wrong."""
    if not name.endswith(".toml"):
        return None
    path = Path(name)
    description = _read(path)
    for part in description.generator:
        _check(part, f"{path}, generator {part.name!r}")
    try:
        return [
            GeneratorDataset(
                name=part.name,
                suite=description.suite,
                build=partial(_build, part, description.source, path),
                role="test-only" if part.name == AUTHENTIC else part.role,
                needs_data=f"the folder that {path} describes",
                inverted_masks=part.inverted_masks,
                method=part.method,
                reference=part.reference,
                license=part.license,
                default_model="unetplusplus-resnet50",
                default_recipe="poster",
            )
            for part in description.generator
        ]
    except PluginError as error:
        raise DataError(f"{path}: {error}") from None


def _read(path: Path) -> Description:
    description = read_toml(path, Description, "suite", DataError)
    for pattern in (description.source, *(part.pair for part in description.generator)):
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise DataError(f"suite {path}: {pattern!r} is not a regular expression: {error}") from None
        if groups < 1:
            raise DataError(f"suite {path}: {pattern!r} has no group; put (...) round the part that is meant")
    names = [part.name for part in description.generator]
    if len(names) != len(set(names)) or not names:
        raise DataError(f"suite {path}: needs [[generator]]s of different names; it has {', '.join(names) or 'none'}")
    return description


def _check(part: Part, where: str) -> None:
    ways = [bool(part.split) and not part.lists, bool(part.lists), "{split}" in (part.images or "")]
    if sum(ways) != 1:
        raise DataError(f"{where}: say how it is split in one way: {{split}} in images, lists, or split = 'test'")
    if part.split and part.lists and not isinstance(part.lists, str):
        raise DataError(f"{where}: split = {part.split!r} goes with one list, not with a list a split; drop one")
    away = [folder for folder in part.folders.values() if Path(folder).is_absolute() or ".." in Path(folder).parts]
    if away:
        raise DataError(f"{where}: folders: {away[0]!r} leads out of the data root; paths are relative to it")
    for key, template in (("images", part.images), ("masks", part.masks)):
        places = [place for place in ("{id}", "{key}") if place in (template or "")]
        is_placed = len(places) == 1 and (key == "masks" or places == ["{id}"])
        if template is not None and (not is_placed or Path(template).is_absolute() or ".." in Path(template).parts):
            raise DataError(f"{where}: {key} = {template!r} must hold {{id}} and stay below the data root")
        strange = [place for place in re.findall(r"\{[^}]*\}", template or "") if place[1:-1] not in PLACEHOLDERS]
        if strange:
            known = ", ".join(f"{{{place}}}" for place in PLACEHOLDERS)
            raise DataError(f"{where}: {key} = {template!r}: unknown placeholder {strange[0]}. Known: {known}.")
    if part.images is None and not part.lists:
        raise DataError(f"{where}: needs images, a template such as 'images/{{split}}/{{id}}.png', or lists")
    if part.images is not None and part.masks is None and part.name != AUTHENTIC and not part.lists:
        raise DataError(f"{where}: needs masks, a template such as 'masks/{{split}}/{{id}}.png'")


def _build(part: Part, source: str, path: Path, data: Path) -> Mapping[Split, list[Sample]]:
    splits: tuple[Split, ...] = (part.split,) if part.split else SPLITS
    files = {split: _Files(part, data, part.folders.get(split, split)) for split in splits}
    if part.lists:
        lines = list(dict.fromkeys(_lists(part, data)))
        found = {
            split: [_listed(part, source, data, line, files[split]) for line in lines if line.split == split]
            for split in splits
        }
    else:
        found = {
            split: [sample_of(id, image, here.mask(id), _group(source, id)) for id, image in here.images.items()]
            for split, here in files.items()
        }
    if not any(found.values()):
        place = f"lists = {part.lists!r}" if part.lists else f"images = {part.images!r}"
        raise DataError(
            f"{path}: {place} finds no image of {part.name!r} in {data}; mend it, or leave the generator out"
        )
    return {split: distinct_samples(samples) for split, samples in found.items()}


class _Files:
    """The files that fit a part's templates, listed once."""

    def __init__(self, part: Part, data: Path, folder: str) -> None:
        self.part, self.data = part, data
        has_masks = part.masks is not None and part.name != AUTHENTIC
        self.template = (part.masks or "").replace("{split}", folder) if has_masks else None
        masks = (part.masks or "").replace("{split}", folder).replace("{key}", "{id}")
        self.masks = _fitting(data, masks) if masks else {}
        others = frozenset(self.masks.values())
        self.images = _fitting(data, part.images.replace("{split}", folder), others) if part.images else {}

    def mask(self, id: str) -> Path | None:
        """Return the mask of an id; one that is not there is reported by `data check`."""
        if self.template is None:
            return None
        key = _group(self.part.pair, id) if "{key}" in self.template else id
        absent = self.data / self.template.replace("{key}", key).replace("{id}", id)
        return self.masks.get(key, absent)


def _fitting(data: Path, template: str, others: frozenset[Path] = frozenset()) -> dict[str, Path]:
    """Return the image files that fit a template, but for the others, by the text that stands for `{id}`."""
    pattern = _pattern(template)
    found: dict[str, Path] = {}
    anything = "*".join(glob.escape(text) for text in re.split(r"\{id\}|\*", template))
    for file in sorted(data.glob(anything)):
        match = pattern.fullmatch(file.relative_to(data).as_posix())
        is_image = file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        if match is None or not is_image or file in others:
            continue
        if match["id"] in found:
            raise DataError(
                f"{file} and {found[match['id']]} both fit {template!r} with one id; keep one, or narrow it"
            )
        found[match["id"]] = file
    return found


def _pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression of a template; `{id}` stands for the same text throughout."""
    parts = re.split(r"(\{id\}|\*)", template)
    first = parts.index("{id}")
    signs = {"*": "[^/]*", "{id}": "(?P=id)"}
    return re.compile(
        "".join("(?P<id>[^/]+)" if i == first else signs.get(part) or re.escape(part) for i, part in enumerate(parts))
    )


def _group(pattern: str, stem: str) -> str:
    """Return the first group of a pattern found in a stem, or else the whole stem."""
    found = re.search(pattern, stem)
    return (found[1] or stem) if found else stem


def _lists(part: Part, data: Path) -> Iterator[Line]:
    """Yield the lines of a part's lists that are of its kind, authentic or manipulated, each with its split."""
    names = {part.folders.get(split, split): split for split in SPLITS}
    files: Mapping[Any, str] = {None: part.lists} if isinstance(part.lists, str) else part.lists
    for split, name in files.items():
        path = _below(data, name)
        try:
            lines = list(READERS.get(path.suffix, _text_lines)(path, part.columns))
        except OSError as error:
            raise DataError(f"list {path}: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError, csv.Error) as error:
            raise DataError(
                f"list {path} cannot be read: {error}. Expected {FORMS.get(path.suffix, TEXT_FORM)}."
            ) from None
        for line in lines:
            is_authentic = line.mask == "" or (line.mask is None and part.name == AUTHENTIC)
            is_mine = (
                is_authentic if part.name == AUTHENTIC else not is_authentic and line.generator in (None, part.name)
            )
            if is_mine:
                place = split or part.split or names.get(line.split or "")
                if place is None:
                    raise DataError(f"list {path}: {line.image} has split {line.split!r}; allowed: {', '.join(names)}")
                yield replace(line, split=place, generator=None)


def _text_lines(path: Path, columns: Mapping[Any, str]) -> Iterator[Line]:
    """Read `image`, `image mask` or `image mask label` a line, with commas or tabs if names hold blanks."""
    for line in filter(str.strip, path.read_text("utf-8-sig").splitlines()):
        words = [word.strip() for word in re.split(r"[,\t]", line)] if re.search(r"[,\t]", line) else line.split()
        image, mask, label = [*words, None, None][:3]
        yield Line(image=image or "", mask=_mask_or_none(mask, label, image) if len(words) > 1 else None)


def _json_pairs(path: Path, columns: Mapping[Any, str]) -> Iterator[Line]:
    """Read `[[image, mask | "Negative"], ...]`."""
    for image, mask in json.loads(path.read_text("utf-8-sig")):
        yield Line(image=image, mask=_mask_or_none(mask))


def _csv_rows(path: Path, columns: Mapping[Any, str]) -> Iterator[Line]:
    """Read the columns image, mask, split, generator and label; only image is needed."""
    image, mask, split, generator, label = (columns.get(name, name) for name in COLUMNS)
    for row in csv.DictReader(path.read_text("utf-8-sig").splitlines()):
        if not row.get(image) or None in row or None in row.values():
            raise ValueError(f"row {', '.join(map(str, row.values()))} does not fill the columns, {image!r} among them")
        truth = _mask_or_none(row[mask], row.get(label), row[image]) if mask in row else None
        yield Line(image=row[image], mask=truth, split=row.get(split), generator=row.get(generator))


READERS = {".json": _json_pairs, ".csv": _csv_rows}
FORMS = {".json": '[[image, mask or "Negative"], ...]', ".csv": "a header with the column image, and rows"}
TEXT_FORM = "'image', 'image mask' or 'image mask label' on each line"


def _mask_or_none(text: str | None, label: str | None = None, image: str | None = None) -> str:
    """Return the mask that a list names, empty for an authentic image; raises ValueError where its label differs."""
    mask = "" if (text or "").strip().lower() in NO_MASK else text or ""
    if label in ("0", "1") and (label == "1") != bool(mask):
        raise ValueError(f"{image} has label {label} and {'mask ' + mask if mask else 'no mask'}")
    return mask


def _listed(part: Part, source: str, data: Path, line: Line, files: _Files) -> Sample:
    name = Path(line.image).name
    id = Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name
    image = files.images.get(id, data / part.images.replace("{id}", id)) if part.images else _below(data, line.image)
    mask = files.mask(id) if line.mask is None else _below(data, line.mask) if line.mask else None
    return sample_of(id, image, mask, _group(source, id))


def _below(data: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{name!r} leads out of the data root {data}; paths are relative to it")
    return data / name
