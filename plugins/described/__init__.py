"""Suites described by one TOML file: where the images, masks and splits of any other data set lie."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deeploc_bench_plugins.described.description import AUTHENTIC, Description, Part, Split, read_description
from deeploc_bench_plugins.described.files import below
from deeploc_bench_plugins.described.named import in_files
from deeploc_bench_plugins.described.patterns import first_groups
from deeploc_bench_plugins.described.shares import dealt

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

SUITES = Path(__file__).with_name("suites")
"""The descriptions of the field's data sets, each a suite by its file's name."""


@hookimpl
def deeploc_datasets() -> list[GeneratorDataset]:
    """Return the generator datasets of the suites that are described here."""
    described = (part for file in sorted(SUITES.glob("*.toml")) for part in _described(file))
    return [part for part in described if isinstance(part, GeneratorDataset)]


@hookimpl
def deeploc_find_suite(name: str) -> list[GeneratorDataset | Inclusion] | None:
    """Return the generator datasets that a TOML file describes, and the suites that it includes.

    Raises DataError that says what in it is wrong.
    """
    return _described(Path(name)) if name.endswith(".toml") else None


def _described(path: Path) -> list[GeneratorDataset | Inclusion]:
    description = read_description(path)
    others = [str(path.parent / one) if one.endswith(".toml") else one for one in description.include]
    try:
        own = [_dataset(part, description, path) for part in description.generator]
        return [*own, *(Inclusion(suite=description.suite, name=other) for other in others)]
    except PluginError as error:
        raise DataError(f"{path}: {error}") from None


def _dataset(part: Part, description: Description, path: Path) -> GeneratorDataset:
    return GeneratorDataset(
        name=part.name,
        suite=description.suite,
        build=partial(_build, part, description, path),
        role="test-only" if part.name == AUTHENTIC else part.role,
        needs_data=description.data or f"the folder that {path} describes",
        inverted_masks=part.inverted_masks,
        mask_above=part.mask_above,
        mask_color=part.mask_color,
        regenerated=part.regenerated,
        method=part.method,
        reference=part.reference or description.reference,
        license=part.license or description.license,
        default_model="unetplusplus-resnet50",
        default_recipe="poster",
    )


def _build(part: Part, description: Description, path: Path, data: Path) -> Mapping[Split, list[Sample]]:
    lists = [part.lists] if isinstance(part.lists, str) else part.lists.values()
    if absent := [name for name in lists if not below(data, name).exists()]:
        if part.optional:
            return {}
        raise DataError(f"{path}: its list {absent[0]!r} is not in {data}; {_cure(description, path)}")
    if part.parquet:
        from deeploc_bench_plugins.described.tables import in_tables

        named = in_tables(part, data)
    else:
        others = [other.masks for other in description.generator if other is not part]
        named = in_files(part, data, owns_masks=part.masks not in others)
    names = [one.name for found in named.values() for one in found]
    if not names and not part.optional:
        raise DataError(_nothing(part, description, path, data))
    sources = first_groups(part.source or description.source, names)
    samples = {
        split: [sample_of(one.name, one.image, one.mask, one.source or sources[one.name]) for one in found]
        for split, found in named.items()
    }
    return {split: distinct_samples(found) for split, found in dealt(samples, description.shares).items()}


def _nothing(part: Part, description: Description, path: Path, data: Path) -> str:
    place = next(f"{key} = {getattr(part, key)!r}" for key in ("lists", "parquet", "images") if getattr(part, key))
    left_out = f", without what exclude = {part.exclude!r} leaves out" if part.exclude else ""
    left_out += "".join(f", of {key} = {getattr(part, key)!r}" for key in ("rows", "labels") if getattr(part, key))
    return f"{path}: {place} finds no image of {part.name!r} in {data}{left_out}; {_cure(description, path)}"


def _cure(description: Description, path: Path) -> str:
    if path.parent != SUITES:
        return "mend it, or leave the generator out"
    return f"give {description.data}. Where they lie otherwise, change a copy of this file, and name that"
