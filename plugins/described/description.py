"""What a description of a suite may say, and that it holds together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from deeploc_bench_plugins.described.lists import Column
from deeploc_bench_plugins.described.patterns import check_length, check_pattern

from deeploc_bench import DataError, read_toml

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
AUTHENTIC = "authentic"
MOST_GENERATORS = 64
"""As many as a submission has at most."""
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

    @property
    def excluded(self) -> tuple[str, ...]:
        """Return the patterns of files that are left out."""
        return (self.exclude,) if isinstance(self.exclude, str) else self.exclude


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole description; `source` is a regular expression whose first group, found in a stem, names its source.

    Where a template has `{folder}`, it is found in `folder/stem`. `include` are other suites, by name or by their file.
    """

    suite: str
    generator: tuple[Part, ...] = ()
    include: tuple[str, ...] = ()
    source: str = "(.*)"


def read_description(path: Path) -> Description:
    """Return a description that holds together; raises DataError that says what in it is wrong."""
    description = read_toml(path, Description, "suite", DataError)
    if len(description.generator) > MOST_GENERATORS:
        raise DataError(f"suite {path}: it has {len(description.generator)} [[generator]]s; at most {MOST_GENERATORS}")
    own = (pattern for part in description.generator for pattern in (part.pair, part.source) if pattern is not None)
    for pattern in (description.source, *own):
        check_pattern(pattern, f"suite {path}")
    names = [part.name for part in description.generator]
    if len(names) != len(set(names)) or not (names or description.include):
        raise DataError(f"suite {path}: needs [[generator]]s of different names; it has {', '.join(names) or 'none'}")
    for part in description.generator:
        where = f"{path}, generator {part.name!r}"
        for text in (part.images or "", part.masks or "", *part.folders.values(), *part.excluded):
            check_length(text, where)
        _check(part, where)
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
    if "" in (part.exclude, *part.exclude):
        raise DataError(f"{where}: exclude = {part.exclude!r} has an empty pattern; write one such as '*_thumb.png'")
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
