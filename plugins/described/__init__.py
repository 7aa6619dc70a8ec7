"""Suites described by one TOML file: where the images, masks and splits of any other data set lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from deeploc_bench_plugins.described.description import AUTHENTIC, SPLITS, Part, Split, read_description
from deeploc_bench_plugins.described.files import Files, below, is_excluded
from deeploc_bench_plugins.described.lists import Line, read_list
from deeploc_bench_plugins.described.patterns import first_groups

from deeploc_bench import (
    DataError,
    GeneratorDataset,
    Inclusion,
    PluginError,
    Sample,
    distinct_samples,
    hookimpl,
    sample_of,
)


@hookimpl
def deeploc_find_suite(name: str) -> list[GeneratorDataset | Inclusion] | None:
    """Return the generator datasets that a TOML file describes, and the suites that it includes.

    Raises DataError that says what in it is wrong.
    """
    if not name.endswith(".toml"):
        return None
    path = Path(name)
    description = read_description(path)
    others = [str(path.parent / one) if one.endswith(".toml") else one for one in description.include]
    try:
        own = [
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
        return [*own, *(Inclusion(suite=description.suite, name=other) for other in others)]
    except PluginError as error:
        raise DataError(f"{path}: {error}") from None


def _build(part: Part, source: str, path: Path, data: Path) -> Mapping[Split, list[Sample]]:
    splits: tuple[Split, ...] = (part.split,) if part.split else SPLITS
    files = {split: Files(part, data, part.folders.get(split, split)) for split in splits}
    named: dict[Split, list[tuple[str, Line | None]]]
    if part.lists:
        lines = list(dict.fromkeys(_lists(part, data)))
        named = {s: [(files[s].name(line.image), line) for line in lines if line.split == s] for s in splits}
    else:
        named = {split: [(name, None) for name in here.images] for split, here in files.items()}
    names = [name for found in named.values() for name, _ in found]
    sources, keys = first_groups(source, names), first_groups(part.pair, [name.rpartition("/")[2] for name in names])
    kept: dict[Split, list[Sample]] = {}
    for split, found in named.items():
        samples = [sample_of(name, *_pair(name, line, files[split], keys), sources[name]) for name, line in found]
        kept[split] = [sample for sample in samples if not is_excluded(part, data, sample.image)]
    if not any(kept.values()):
        place = f"lists = {part.lists!r}" if part.lists else f"images = {part.images!r}"
        left_out = f", without what exclude = {part.exclude!r} leaves out" if part.exclude else ""
        raise DataError(
            f"{path}: {place} finds no image of {part.name!r} in {data}{left_out}; mend it, or leave the generator out"
        )
    return {split: distinct_samples(samples) for split, samples in kept.items()}


def _lists(part: Part, data: Path) -> Iterator[Line]:
    """Yield the lines of a part's lists that are of its kind, authentic or manipulated, each with its split."""
    names = {part.folders.get(split, split): split for split in SPLITS}
    files: Mapping[Any, str] = {None: part.lists} if isinstance(part.lists, str) else part.lists
    for split, name in files.items():
        path = below(data, name)
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


def _pair(name: str, line: Line | None, files: Files, keys: Mapping[str, str]) -> tuple[Path, Path | None]:
    """Return the image of a name and its mask, as a line of a list says or as templates do."""
    if line is None:
        return files.images[name], files.mask(name, keys)
    image = files.image(name) or below(files.data, line.image)
    mask = files.mask(name, keys) if line.mask is None else below(files.data, line.mask) if line.mask else None
    return image, mask
