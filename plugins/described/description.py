"""What a description of a suite may say, and that it holds together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isclose
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
    that list the images of a split, or one csv with a column `split`; `parquet` are templates of tables that hold the
    images; `rows` is found in the ids of those that are taken, and `labels` are theirs. `columns` says what theirs are
    called. `source` stands
    for the suite's; `method` is the generator it is made by, if another. `authentic` has no masks. The data may lack
    what is `optional`.
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
    mask_color: Literal["red", "green", "blue"] | None = None
    regenerated: bool = False
    optional: bool = False
    split: Split | None = None
    folders: Mapping[Split, str] = {}
    lists: Mapping[Split, str] | str = {}
    parquet: Mapping[Split, str] | str = {}
    rows: str | None = None
    labels: tuple[int, ...] = ()
    columns: Mapping[Column, str] = {}
    license: str | None = None
    reference: str | None = None

    @property
    def excluded(self) -> tuple[str, ...]:
        """Return the patterns of files that are left out."""
        return (self.exclude,) if isinstance(self.exclude, str) else self.exclude

    @property
    def needs_label(self) -> bool:
        """Tell whether each row of a table must have a label."""
        return bool(self.labels) or "label" in self.columns

    @property
    def tables(self) -> dict[Split, str]:
        """Return the template of the tables of each split."""
        if not isinstance(self.parquet, str):
            return dict(self.parquet)
        splits = (self.split,) if self.split else SPLITS
        return {split: self.parquet.replace("{split}", self.folders.get(split, split)) for split in splits}


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole description; `source` is a regular expression whose first group, found in a stem, names its source.

    Where a template has `{folder}`, it is found in `folder/stem`. `include` are other suites, by name or by their file.
    `shares` deals what stands in the split train to splits, by source. `data` says what folder it is about; `license`
    and `reference` are of all generators.
    """

    suite: str
    generator: tuple[Part, ...] = ()
    include: tuple[str, ...] = ()
    source: str = "(.*)"
    shares: Mapping[Split, float] = {}
    data: str | None = None
    license: str | None = None
    reference: str | None = None


def read_description(path: Path) -> Description:
    """Return a description that holds together; raises DataError that says what in it is wrong."""
    description = read_toml(path, Description, "suite", DataError)
    if len(description.generator) > MOST_GENERATORS:
        raise DataError(f"suite {path}: it has {len(description.generator)} [[generator]]s; at most {MOST_GENERATORS}")
    for pattern in (description.source, *_patterns(description)):
        check_pattern(pattern, f"suite {path}")
    names = [part.name for part in description.generator]
    if len(names) != len(set(names)) or not (names or description.include):
        raise DataError(f"suite {path}: needs [[generator]]s of different names; it has {', '.join(names) or 'none'}")
    _check_shares(description, path)
    for part in description.generator:
        where = f"{path}, generator {part.name!r}"
        for text in (
            part.images or "",
            part.masks or "",
            *part.folders.values(),
            *part.excluded,
            *part.tables.values(),
        ):
            check_length(text, where)
        _check_split(part, where)
        _check(part, where)
        _check_tables(part, where)
    return description


def _patterns(description: Description) -> Iterator[str]:
    for part in description.generator:
        yield part.pair
        yield from (pattern for pattern in (part.source, part.rows and f"({part.rows})") if pattern is not None)


def _check_shares(description: Description, path: Path) -> None:
    shares = description.shares
    if shares and (min(shares.values()) <= 0 or not isclose(sum(shares.values()), 1, abs_tol=1e-6)):
        told = ", ".join(f"{split} = {share:g}" for split, share in shares.items())
        raise DataError(f"suite {path}: shares are {{ {told} }}; each must be above 0, and their sum 1")


def _check_split(part: Part, where: str) -> None:
    has_split = any("{split}" in text for text in (part.images or "", str(part.parquet)))
    is_listed = bool(part.lists) or isinstance(part.parquet, Mapping) and bool(part.parquet)
    if sum([bool(part.split) and not is_listed, is_listed, has_split]) != 1:
        raise DataError(f"{where}: say how it is split in one way: {{split}} in images, lists, or split = 'test'")
    if part.split and is_listed and not isinstance(part.lists or part.parquet, str):
        raise DataError(f"{where}: split = {part.split!r} goes with one list, not with a list a split; drop one")
    away = [name for name in (*part.folders.values(), *part.tables.values()) if _leads_out(name)]
    if away:
        key = "folders" if away[0] in part.folders.values() else "parquet"
        raise DataError(f"{where}: {key}: {away[0]!r} leads out of the data root; paths are relative to it")


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _check(part: Part, where: str) -> None:
    for key, template in (("images", part.images), ("masks", part.masks)):
        if template is not None:
            _check_template(template, key, where)
    if "{folder}" in (part.masks or "") and "{folder}" not in (part.images or "{folder}"):
        raise DataError(f"{where}: masks has {{folder}}, and images has not; put it in both")
    if "" in (part.exclude, *part.exclude):
        raise DataError(f"{where}: exclude = {part.exclude!r} has an empty pattern; write one such as '*_thumb.png'")
    if part.optional and part.role != "test-only" and part.name != AUTHENTIC:
        raise DataError(f"{where}: optional = true goes with role = 'test-only'; what is trained on cannot be lacking")
    if part.images is None and not part.lists and not part.parquet:
        raise DataError(f"{where}: needs images, a template such as 'images/{{split}}/{{id}}.png', lists or parquet")
    if part.images is not None and part.masks is None and part.name != AUTHENTIC and not part.lists:
        raise DataError(f"{where}: needs masks, a template such as 'masks/{{split}}/{{id}}.png'")


def _check_tables(part: Part, where: str) -> None:
    if part.parquet and (part.lists or part.images or part.masks):
        raise DataError(f"{where}: parquet holds images and masks; drop images, masks and lists, or parquet")
    if not part.parquet and (part.rows is not None or part.labels or "id" in part.columns):
        raise DataError(f"{where}: rows, labels, and an id in columns are about parquet, which is not there; drop them")
    if part.labels and (part.name == AUTHENTIC or 0 in part.labels):
        raise DataError(f"{where}: labels are of edited images; 0 is authentic, and {AUTHENTIC!r} needs none")
    if part.columns and not (part.lists or part.parquet):
        raise DataError(f"{where}: columns is about lists or parquet, which are not there; drop it")
    if part.parquet and "split" in part.columns:
        raise DataError(f"{where}: columns has a split, which is about lists; give each split tables of its own")


def _check_template(template: str, key: str, where: str) -> None:
    places = [place for place in ("{id}", "{key}") if place in template]
    is_placed = len(places) == 1 and (key == "masks" or places == ["{id}"])
    if not is_placed or ".." in Path(template).parts:
        raise DataError(f"{where}: {key} = {template!r} must hold {{id}} and stay below the data root")
    strange = [place for place in re.findall(r"\{[^}]*\}", template) if place[1:-1] not in PLACEHOLDERS]
    if strange:
        known = ", ".join(f"{{{place}}}" for place in PLACEHOLDERS)
        raise DataError(f"{where}: {key} = {template!r}: unknown placeholder {strange[0]}. Known: {known}.")
