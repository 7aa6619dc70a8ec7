"""Groups generator datasets into a suite, packs them, and checks that they may be trained and tested together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.registry import Owned, Plugin, Registry
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, GeneratorDataset, Role, Sample, Samples, Split
from deeploc_bench.data import description
from deeploc_bench.data.packs import Pack, Tick, cache_folder, digest, pack

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
    findings: tuple[Finding, ...] = ()
    absent: tuple[str, ...] = ()
    """Test-only generator datasets that the data does not hold."""

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
    """Build and pack the generator datasets of a suite, or of the one that a .toml file describes.

    What is wrong with its samples stands among the suite's findings. Raises UsageError for an
    unknown suite or `data` that cannot be.
    """
    datasets = sorted(_datasets(registry, name), key=lambda owned: owned.spec.name)
    _check_data(name, datasets, data)
    findings: list[Finding] = []
    samples = {owned.spec.name: _samples(owned, data, findings) for owned in datasets}
    generators = {}
    title = datasets[0].spec.suite
    with progress(f"read {title}", sum(len(part) for splits in samples.values() for part in splits.values())) as tick:
        for spec in (owned.spec for owned in datasets):
            packs = {
                split: pack(
                    part,
                    inverted=spec.inverted_masks,
                    folder=cache_folder() / title / f"{spec.name}-{split}",
                    tick=tick,
                )
                for split, part in samples[spec.name].items()
            }
            findings += [finding for packed in packs.values() for finding in packed.findings]
            if packs:
                generators[spec.name] = Generator(name=spec.name, role=spec.role, splits=packs)
    absent = tuple(o.spec.name for o in datasets if o.spec.role == "test-only" and o.spec.name not in generators)
    return Suite(name=title, generators=generators, findings=tuple(findings), absent=absent)


def _datasets(registry: Registry, name: str) -> Sequence[Owned[GeneratorDataset]]:
    if not name.endswith(".toml"):
        return registry.suite(name)
    plugin = Plugin(name=name, distribution=None, version=None, module=description)
    return [Owned(spec=spec, plugin=plugin) for spec in description.described(Path(name))]


def _check_data(name: str, datasets: Sequence[Owned[GeneratorDataset]], data: Path | None) -> None:
    needs = [owned.spec.needs_data for owned in datasets if owned.spec.needs_data]
    if data is not None and not data.exists():
        raise UsageError(f"--data {data}: there is no such folder.")
    if needs and data is None:
        raise UsageError(f"suite {name!r} needs --data PATH (or DEEPLOC_DATA): {needs[0]}.")
    if data is not None and not needs:
        raise UsageError(f"suite {name!r} takes no --data: its images come with the plugin. Leave the flag out.")


def _samples(owned: Owned[GeneratorDataset], data: Path | None, findings: list[Finding]) -> Samples:
    """Return the samples of the splits that a dataset's role needs; what is wrong with them joins the findings."""
    spec = owned.spec
    where = f"{spec.name} (plugin {owned.plugin.name})"
    try:
        splits = spec.build(data) if spec.needs_data else spec.build()
        if not isinstance(splits, Mapping) or not set(splits) <= set(SPLITS):
            raise DataError(f"built {splits!r:.80}; expected a mapping of {', '.join(SPLITS)} to samples")
        needed: tuple[Split, ...] = SPLITS if spec.role == "standard" else ("test",)
        kept = {split: list(splits[split]) for split in needed if splits.get(split)}
        for split, part in kept.items():
            _check_samples(part, f"split {split}", authentic=spec.name == AUTHENTIC)
    except DataError as error:
        findings.append(Finding(check="dataset", what=f"{where}: {error}"))
        return {}
    except Exception as error:
        findings.append(Finding(check="dataset", what=f"{where}: {type(error).__name__}: {error}"))
        return {}
    if not kept and spec.role == "test-only":
        return {}
    findings += [Finding(check="split", what=f"{spec.name}/{split}") for split in needed if split not in kept]
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
