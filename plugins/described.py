"""Suites described by one TOML file: where the images, masks and splits of any other data set lie."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from deeploc_bench_plugins.lists import Column, Line, read_list

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

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
AUTHENTIC = "authentic"
PLACEHOLDERS = ("folder", "id", "key", "split")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[generator]]` of a description.

    `images` and `masks` are templates of paths below the data root, with `{id}`, `{folder}`, `{split}` and `*`; in
    `masks`, `{key}` is the first group of the regular expression `pair`, found in the id. `exclude` are patterns of
    files that are left out. `split` puts all in one split; `folders` says what `{split}` stands for; `lists` are files
    that list the images of a split, or one csv with a column `split`; `columns` says what they are called. `source`
    stands for the suite's; `method` is the generator it is made by, if another. `authentic` has no masks.
    """

    name: str
    role: Literal["standard", "test-only"] = "standard"
    method: str | None = None
    images: str | None = None
    masks: str | None = None
    exclude: str | tuple[str, ...] = ()
    pair: str = "(.*)"
    source: str | None = None
    inverted_masks: bool = False
    mask_above: float | None = None
    split: Split | None = None
    folders: Mapping[Split, str] = {}
    lists: Mapping[Split, str] | str = {}
    columns: Mapping[Column, str] = {}
    license: str | None = None
    reference: str | None = None


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole description; `source` is a regular expression whose first group, found in a stem, names its source.

    Where a template has `{folder}`, it is found in `folder/stem`.
    """

    suite: str
    generator: tuple[Part, ...]
    source: str = "(.*)"


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
                build=partial(_build, part, part.source or description.source, path),
                role="test-only" if part.name == AUTHENTIC else part.role,
                needs_data=f"the folder that {path} describes",
                inverted_masks=part.inverted_masks,
                mask_above=part.mask_above,
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
    own = (pattern for part in description.generator for pattern in (part.pair, part.source) if pattern is not None)
    for pattern in (description.source, *own):
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
        if template is not None:
            _check_template(template, key, where)
    if "{folder}" in (part.masks or "") and "{folder}" not in (part.images or "{folder}"):
        raise DataError(f"{where}: masks has {{folder}}, and images has not; put it in both")
    if part.images is None and not part.lists:
        raise DataError(f"{where}: needs images, a template such as 'images/{{split}}/{{id}}.png', or lists")
    if part.images is not None and part.masks is None and part.name != AUTHENTIC and not part.lists:
        raise DataError(f"{where}: needs masks, a template such as 'masks/{{split}}/{{id}}.png'")


def _check_template(template: str, key: str, where: str) -> None:
    places = [place for place in ("{id}", "{key}") if place in template]
    is_placed = len(places) == 1 and (key == "masks" or places == ["{id}"])
    if not is_placed or ".." in Path(template).parts:
        raise DataError(f"{where}: {key} = {template!r} must hold {{id}} and stay below the data root")
    strange = [place for place in re.findall(r"\{[^}]*\}", template) if place[1:-1] not in PLACEHOLDERS]
    if strange:
        known = ", ".join(f"{{{place}}}" for place in PLACEHOLDERS)
        raise DataError(f"{where}: {key} = {template!r}: unknown placeholder {strange[0]}. Known: {known}.")


def _build(part: Part, source: str, path: Path, data: Path) -> Mapping[Split, list[Sample]]:
    splits: tuple[Split, ...] = (part.split,) if part.split else SPLITS
    files = {split: _Files(part, data, part.folders.get(split, split)) for split in splits}
    if part.lists:
        lines = list(dict.fromkeys(_lists(part, data)))
        found = {
            split: [_listed(source, line, files[split]) for line in lines if line.split == split] for split in splits
        }
    else:
        found = {
            split: [_sample(name, image, here.mask(name), source) for name, image in here.images.items()]
            for split, here in files.items()
        }
    kept = {
        split: [sample for sample in samples if not _is_excluded(part, data, sample.image)]
        for split, samples in found.items()
    }
    if not any(kept.values()):
        place = f"lists = {part.lists!r}" if part.lists else f"images = {part.images!r}"
        left_out = f" but what exclude = {part.exclude!r} leaves out" if any(found.values()) else ""
        raise DataError(
            f"{path}: {place} finds no image of {part.name!r} in {data}{left_out}; mend it, or leave the generator out"
        )
    return {split: distinct_samples(samples) for split, samples in kept.items()}


class _Files:
    """The files that fit a part's templates, listed once, by name: the id, or `folder/id` where there is `{folder}`."""

    def __init__(self, part: Part, data: Path, folder: str) -> None:
        self.part, self.data = part, data
        masks = None if part.name == AUTHENTIC else part.masks
        self.image_template, self.mask_template = (
            template and _relative(data, template.replace("{split}", folder)) for template in (part.images, masks)
        )
        self.masks = self._fitting((self.mask_template or "").replace("{key}", "{id}"))
        self.images = self._fitting(self.image_template or "", but=frozenset(self.masks.values()))

    def image(self, name: str) -> Path | None:
        """Return the image of a name, None where there is no template; one that is not there is reported later."""
        return self._file(self.images, self.image_template, name) if self.image_template else None

    def mask(self, name: str) -> Path | None:
        """Return the mask of a name; one that is not there is reported by `data check`."""
        if not self.mask_template:
            return None
        folder, slash, id = name.rpartition("/")
        id = _group(self.part.pair, id) if "{key}" in self.mask_template else id
        return self._file(self.masks, self.mask_template, f"{folder}{slash}{id}")

    def name(self, image: str) -> str:
        """Return the name of an image in a list, with its folder where a template has `{folder}`."""
        path = PurePosixPath(image)
        id = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        has_folder = any("{folder}" in (template or "") for template in (self.image_template, self.mask_template))
        return f"{path.parent.name}/{id}" if has_folder else id

    def _file(self, files: Mapping[str, Path], template: str, name: str) -> Path:
        folder, _, id = name.rpartition("/")
        absent = template.replace("{folder}", folder).replace("{key}", id).replace("{id}", id)
        return files.get(name if "{folder}" in template else id, self.data / absent)

    def _fitting(self, template: str, but: frozenset[Path] = frozenset()) -> dict[str, Path]:
        """Return the image files that fit a template, by name, without those of `but`."""
        found: dict[str, Path] = {}
        if not template:
            return found
        pattern = _pattern(template)
        anything = "*".join(glob.escape(text) for text in re.split(r"\{id\}|\{folder\}|\*", template))
        for file in sorted(self.data.glob(anything)):
            match = pattern.fullmatch(file.relative_to(self.data).as_posix())
            is_image = file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
            if match is None or not is_image or file in but or _is_excluded(self.part, self.data, file):
                continue
            name = "/".join(match.group(group) for group in ("folder", "id") if group in pattern.groupindex)
            if name in found:
                raise DataError(
                    f"{file} and {found[name]} both fit {template!r} with one id; keep one, narrow it, exclude one, or "
                    "write {folder} where their paths differ"
                )
            found[name] = file
        return found


def _pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression of a template; a placeholder stands for the same text throughout."""
    seen = set[str]()
    text = ""
    for part in re.split(r"(\{id\}|\{folder\}|\*)", template):
        name = part[1:-1]
        if part in ("{id}", "{folder}"):
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
        else:
            text += "[^/]*" if part == "*" else re.escape(part)
    return re.compile(text)


def _group(pattern: str, stem: str) -> str:
    """Return the first group of a pattern found in a stem, or else the whole stem."""
    found = re.search(pattern, stem)
    return (found[1] or stem) if found else stem


def _is_excluded(part: Part, data: Path, file: Path) -> bool:
    patterns = (part.exclude,) if isinstance(part.exclude, str) else part.exclude
    return any(file.relative_to(data).match(pattern) for pattern in patterns)


def _lists(part: Part, data: Path) -> Iterator[Line]:
    """Yield the lines of a part's lists that are of its kind, authentic or manipulated, each with its split."""
    names = {part.folders.get(split, split): split for split in SPLITS}
    files: Mapping[Any, str] = {None: part.lists} if isinstance(part.lists, str) else part.lists
    for split, name in files.items():
        path = _below(data, name)
        for line in read_list(path, part.columns):
            is_authentic = line.mask == "" or (line.mask is None and part.name == AUTHENTIC)
            is_mine = (
                is_authentic if part.name == AUTHENTIC else not is_authentic and line.generator in (None, part.name)
            )
            if is_mine:
                place = split or part.split or names.get(line.split or "")
                if place is None:
                    raise DataError(f"list {path}: {line.image} has split {line.split!r}; allowed: {', '.join(names)}")
                yield replace(line, split=place, generator=None)


def _listed(source: str, line: Line, files: _Files) -> Sample:
    name = files.name(line.image)
    image = files.image(name) or _below(files.data, line.image)
    mask = files.mask(name) if line.mask is None else _below(files.data, line.mask) if line.mask else None
    return _sample(name, image, mask, source)


def _sample(name: str, image: Path, mask: Path | None, source: str) -> Sample:
    return sample_of(name, image, mask, _group(source, name))


def _below(data: Path, name: str) -> Path:
    """Return the path of a name below the data root, relative to it or absolute; raises DataError for any other."""
    path = Path(name)
    roots = [root for root in (data.absolute(), data.resolve()) if path.is_relative_to(root)]
    if ".." in path.parts or (path.is_absolute() and not roots):
        raise DataError(f"{name!r} leads out of the data root {data}; paths are relative to it, or lie below it")
    return data / (path.relative_to(roots[0]) if roots else path)


def _relative(data: Path, template: str) -> str:
    return _below(data, template).relative_to(data).as_posix()
