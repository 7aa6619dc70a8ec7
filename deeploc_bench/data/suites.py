"""Groups generator datasets into a suite, packs them, and checks that they may be trained and tested together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.contract.plugins import Owned, Registry
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, GeneratorDataset, Role, Sample, Samples, Split
from deeploc_bench.data.packing import Pack, Tick, cache_folder, digest, pack

Progress = Callable[[str, int], AbstractContextManager[Tick]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """One generator of a suite, packed."""

    name: str
    role: Role
    splits: Mapping[Split, Pack]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Generators that share sources and splits, so that leaving one out makes sense."""

    name: str
    generators: Mapping[str, Generator]

    @property
    def standard(self) -> tuple[str, ...]:
        """Return the generators that are trained on and left out, in order."""
        return tuple(name for name, generator in self.generators.items() if generator.role == "standard")

    @property
    def test_only(self) -> tuple[str, ...]:
        """Return the generators that every training is tested on beside its cells, authentic images left out."""
        return tuple(
            name for name, generator in self.generators.items() if generator.role == "test-only" and name != AUTHENTIC
        )

    @property
    def fingerprint(self) -> str:
        """Return the hash of all samples of all splits."""
        return digest(
            [
                f"{name} {generator.role} {split} {generator.splits[split].fingerprint}"
                for name, generator in self.generators.items()
                for split in SPLITS
                if split in generator.splits
            ]
        )


def load_suite(registry: Registry, name: str, *, data: Path | None, progress: Progress) -> Suite:
    """Build and pack the generator datasets of a suite.

    Raises UsageError for an unknown suite or `data` that cannot be, DataError for samples that cannot be used.
    """
    datasets = sorted(registry.suite(name), key=lambda owned: owned.spec.name)
    _check_data(name, datasets, data)
    samples = {owned.spec.name: _samples(owned, data) for owned in datasets}
    generators = {}
    with progress(f"read {name}", sum(len(part) for splits in samples.values() for part in splits.values())) as tick:
        for owned in datasets:
            spec = owned.spec
            folder = cache_folder() / name
            packs = {
                split: pack(part, inverted=spec.inverted_masks, folder=folder / f"{spec.name}-{split}", tick=tick)
                for split, part in samples[spec.name].items()
            }
            generators[spec.name] = Generator(name=spec.name, role=spec.role, splits=packs)
    return Suite(name=name, generators=generators)


def leaks(suite: Suite) -> list[str]:
    """Return one message for each source that stands in a test split and in a train or valid split, with the files."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for generator in suite.generators.values():
        for split, packed in generator.splits.items():
            side = "test" if split == "test" else "training"
            for source, file in zip(packed.sources, packed.files, strict=True):
                places[source].setdefault(side, f"{generator.name}/{split}: {file}")
    return [
        f"source {source!r} stands in {sides['test']} and in {sides['training']}"
        for source, sides in sorted(places.items())
        if len(sides) == 2
    ]


def refuse_leaks(suite: Suite) -> None:
    """Raise DataError where a source stands in a test split and in a train or valid split."""
    found = leaks(suite)
    if found:
        shown = "\n  ".join(found[:5])
        raise DataError(
            f"suite {suite.name!r}: {len(found)} sources are both trained on and tested on; "
            f"move each to one side:\n  {shown}"
        )


def empty_masks(suite: Suite) -> list[str]:
    """Return one message for each manipulated image whose mask is empty."""
    return [
        f"{generator.name}/{split}: {file} has an empty mask"
        for generator in suite.generators.values()
        if generator.name != AUTHENTIC
        for split, packed in generator.splits.items()
        for file, area in zip(packed.files, packed.mask_areas, strict=True)
        if area == 0
    ]


def _check_data(name: str, datasets: list[Owned[GeneratorDataset]], data: Path | None) -> None:
    needs = [owned.spec.needs_data for owned in datasets if owned.spec.needs_data]
    if data is not None and not data.exists():
        raise UsageError(f"--data {data}: there is no such folder.")
    if needs and data is None:
        raise UsageError(f"suite {name!r} needs --data PATH (or DEEPLOC_DATA): {needs[0]}.")
    if data is not None and not needs:
        raise UsageError(f"suite {name!r} takes no --data: its images come with the plugin. Leave the flag out.")


def _samples(owned: Owned[GeneratorDataset], data: Path | None) -> Samples:
    spec = owned.spec
    where = f"generator dataset {spec.name!r} of suite {spec.suite!r} (plugin {owned.plugin.name!r})"
    try:
        splits = spec.build(data) if spec.needs_data else spec.build()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{where} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(splits, Mapping) or not set(splits) <= set(SPLITS):
        raise DataError(f"{where} built {splits!r:.80}; expected a mapping of {', '.join(SPLITS)} to samples")
    needed: tuple[Split, ...] = SPLITS if spec.role == "standard" else ("test",)
    missing = [split for split in needed if not splits.get(split)]
    if missing:
        raise DataError(f"{where} has no samples in split {', '.join(missing)}; a {spec.role} one needs them")
    kept = {split: list(splits[split]) for split in needed}
    for split, part in kept.items():
        _check_samples(part, f"{where}, split {split}", authentic=spec.name == AUTHENTIC)
    return kept


def _check_samples(samples: list[Sample], where: str, *, authentic: bool) -> None:
    seen = set()
    for sample in samples:
        if not isinstance(sample, Sample):
            raise DataError(f"{where}: {sample!r:.80} is no Sample")
        if sample.id in seen:
            raise DataError(f"{where}: sample id {sample.id!r} stands there twice; ids must be unique")
        if (sample.mask is None) != authentic:
            expected = "no mask" if authentic else "a mask (authentic images belong to the dataset 'authentic')"
            raise DataError(f"{where}: sample {sample.id!r} needs {expected}")
        seen.add(sample.id)


def manifest(suite: Suite) -> dict[str, Any]:
    """Return the fingerprints of a suite, and the id, source, mask area and pixels of each test image."""
    return {
        "schema": 1,
        "suite": suite.name,
        "fingerprint": suite.fingerprint,
        "generators": {name: _manifest_of(generator) for name, generator in suite.generators.items()},
    }


def _manifest_of(generator: Generator) -> dict[str, Any]:
    test = generator.splits["test"]
    columns = (test.ids, test.sources, test.mask_areas, test.pixels.tolist())
    return {
        "role": generator.role,
        "splits": {
            split: {"samples": len(packed), "fingerprint": packed.fingerprint}
            for split, packed in generator.splits.items()
        },
        "test": [
            {"id": id, "source": source, "mask_area": area, "pixels": pixels}
            for id, source, area, pixels in zip(*columns, strict=True)
        ],
    }
