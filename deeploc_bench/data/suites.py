"""Groups generator datasets into a suite and packs them; what is wrong with their samples is gathered, not raised.

The manifest of a suite is what a leaderboard knows of its data, without the data.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from deeploc_bench.contract.files import digest
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.isolation import guarded
from deeploc_bench.contract.owned import Owned, additions
from deeploc_bench.contract.specs import (
    AUTHENTIC,
    ID_PATTERN,
    ID_RULE,
    NAME_PATTERN,
    NAME_RULE,
    SPLITS,
    GeneratorDataset,
    Role,
    Sample,
    Split,
)
from deeploc_bench.data.built import samples_of
from deeploc_bench.data.folders import left_out
from deeploc_bench.data.included import packed, parts_of, roots_of
from deeploc_bench.data.packing import Tick
from deeploc_bench.data.packs import Pack

MANIFEST_SCHEMA = 1
Name = Annotated[str, Meta(pattern=NAME_PATTERN, description=NAME_RULE)]
Id = Annotated[str, Meta(pattern=ID_PATTERN, description=ID_RULE)]
Number = Annotated[int, Meta(ge=0, le=10**10, description="a whole number, 0 to 10,000,000,000")]
Fingerprint = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z", description="32 hex digits")]
Progress = Callable[[str, int], AbstractContextManager[Tick]]


@contextmanager
def silent(title: str, total: int) -> Iterator[Tick]:
    """Make progress without a bar."""
    yield lambda: None


def _lines(name: str, role: Role, fingerprints: Mapping[Split, str]) -> list[str]:
    return [f"{name} {role} {split} {fingerprints[split]}" for split in SPLITS if split in fingerprints]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """One generator of a suite, packed."""

    name: str
    role: Role
    splits: Mapping[Split, Pack]
    method: str | None = None
    """The generator it is made by, where that is another name's."""
    regenerated: bool = False
    reference: str | None = None
    added_by: str | None = None
    """The plugin that adds it to another's suite; None where it is the suite's own."""
    included: str | None = None
    """The suite that it was included from; None where it is the suite's own."""

    @property
    def lines(self) -> list[str]:
        """Return one line per split that identifies its samples; fingerprints are hashes of these."""
        return _lines(self.name, self.role, {split: packed.fingerprint for split, packed in self.splits.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Generators that share sources and splits, so that leaving one out makes sense."""

    name: str
    generators: Mapping[str, Generator]
    findings: tuple[Finding, ...] = ()
    absent: tuple[str, ...] = ()
    """Test-only generator datasets that the data does not hold."""
    data: Path | None = None
    """The folder that its images were read from; None where they come with a plugin."""

    @property
    def standard(self) -> tuple[str, ...]:
        """Return the generators that are trained on and left out, in order."""
        return tuple(name for name, generator in self.generators.items() if generator.role == "standard")

    @property
    def test_only(self) -> tuple[str, ...]:
        """Return the generators that every training is tested on beside its cells, authentic images left out."""
        return tuple(name for name in self.generators if name not in (*self.standard, AUTHENTIC))

    @property
    def added(self) -> dict[str, str]:
        """Return the plugin of each generator that a plugin adds to another's suite."""
        return {name: generator.added_by for name, generator in self.generators.items() if generator.added_by}

    @property
    def own(self) -> tuple[str, ...]:
        """Return the generators that the suite is made of, those left out that others add to it."""
        return tuple(name for name in self.generators if name not in self.added)

    @property
    def methods(self) -> dict[str, str]:
        """Return the method of each generator that declares one."""
        return {name: generator.method for name, generator in self.generators.items() if generator.method}

    @property
    def regenerated(self) -> tuple[str, ...]:
        """Return the generators that made whole images anew, sorted."""
        return tuple(sorted(name for name, generator in self.generators.items() if generator.regenerated))

    @property
    def references(self) -> dict[str, str]:
        """Return the address of each generator that gives one, by `generator SUITE/NAME`."""
        every = self.generators.items()
        return {f"generator {self.name}/{name}": one.reference for name, one in every if one.reference}

    @property
    def included(self) -> dict[str, str]:
        """Return the suite of each edited generator that was included from another."""
        found = {name: generator.included for name, generator in self.generators.items() if name != AUTHENTIC}
        return {name: suite for name, suite in found.items() if suite}

    @property
    def fingerprint(self) -> str:
        """Return the hash of all samples of all splits of its own generators; what others add does not change it."""
        return digest(line for name in self.own for line in self.generators[name].lines)

    @property
    def standard_fingerprint(self) -> str:
        """Return the hash of all samples of all splits of the standard generators: what an experiment is about."""
        return digest(line for name in self.standard for line in self.generators[name].lines)

    @property
    def test_fingerprints(self) -> dict[str, str]:
        """Return the hash of each generator's test split."""
        return {name: generator.splits["test"].fingerprint for name, generator in self.generators.items()}


class ManifestImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test image; `mask_area` and `pixels` are in pixels."""

    id: Id
    source: Id
    mask_area: Number
    pixels: Number


class ManifestSplit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many samples a split has, and their hash; null where whoever wrote it down did not have the data."""

    samples: Number
    fingerprint: Fingerprint | None


class ManifestGenerator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One generator dataset, its test images sorted by id.

    Where whoever wrote it down did not have the data, `test` is null, and in its place stands what is known of all test
    images: the `pixels` of each, and the `endings`, one of which follows the source in an id (an empty list: an id is
    its source).
    """

    role: Role
    splits: Mapping[Split, ManifestSplit] = {}
    test: tuple[ManifestImage, ...] | None
    endings: tuple[str, ...] | None = None
    pixels: Number | None = None
    regenerated: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole suite: `leaderboard/suites/<suite>.json`; its fingerprint is null where nobody with the data wrote it."""

    schema: int = MANIFEST_SCHEMA
    suite: Name
    fingerprint: Fingerprint | None
    generators: Mapping[Name, ManifestGenerator]

    def fingerprint_of(self, tested: Iterable[str]) -> str | None:
        """Return the fingerprint of the suite without those test-only generators that were not tested.

        A suite is the same to all others where its data lacks one. It is None where the manifest cannot tell.
        """
        parts = {name: part for name, part in self.generators.items() if part.role == "standard" or name in {*tested}}
        lines = []
        for name, part in parts.items():
            prints = {split: one.fingerprint for split, one in part.splits.items() if one.fingerprint}
            if "test" not in prints or len(prints) < len(part.splits):
                return None
            lines += _lines(name, part.role, prints)
        return digest(lines) if lines else None


def load_suite(
    datasets: Sequence[Owned[GeneratorDataset]], *, data: str | None, progress: Progress, threads: int = 1
) -> Suite:
    """Build and pack the generator datasets of a suite, which a registry gave; `data` is what `--data` says.

    What is wrong with its samples stands among the suite's findings. Raises UsageError where `data` is not a folder, is
    lacking, or is not taken.
    """
    name = datasets[0].spec.suite
    roots = roots_of(datasets, data)
    findings: list[Finding] = []
    spare: list[Sample] = []
    samples = [
        [(part, samples_of(part.owned, roots[part.owned.spec.suite], findings, spare)) for part in parts_of(owned)]
        for owned in datasets
    ]
    every = [one for parts in samples for _, found in parts for one in found.values()]
    generators, added = {}, additions(datasets)
    with progress(f"read {name}", sum(map(len, every))) as tick:
        for owned, parts in zip(datasets, samples, strict=True):
            spec, packs = owned.spec, {}
            for split in (split for split in SPLITS if any(split in found for _, found in parts)):
                where = f"{spec.name}/{split}"
                with guarded(where):
                    packs[split] = packed(parts, split, tick, threads)
                findings += (msgspec.structs.replace(finding, where=where) for finding in packs[split].findings)
            if packs:
                generators[spec.name] = _generator(owned, packs, owned.plugin.name if owned in added else None)
    findings += left_out(sample for one in (*every, spare) for sample in one)
    absent = tuple(o.spec.name for o in datasets if o.spec.role == "test-only" and o.spec.name not in generators)
    folders = {str(root) for root in roots.values() if root}
    root = Path(folders.pop()) if len(folders) == 1 else None
    return Suite(name=name, generators=generators, findings=tuple(findings), absent=absent, data=root)


def _generator(owned: Owned[GeneratorDataset], packs: Mapping[Split, Pack], added_by: str | None) -> Generator:
    spec = owned.spec
    return Generator(
        name=spec.name,
        role=spec.role,
        splits=packs,
        method=spec.method,
        regenerated=spec.regenerated,
        reference=spec.reference,
        added_by=added_by,
        included=owned.included[0].spec.suite if owned.included else None,
    )


def manifest(suite: Suite) -> Manifest:
    """Return the fingerprints of a suite, and the id, source, mask area and pixels of each test image of its own."""
    generators = {name: _manifest_of(suite.generators[name]) for name in suite.own}
    return Manifest(suite=suite.name, fingerprint=suite.fingerprint, generators=generators)


def _manifest_of(generator: Generator) -> ManifestGenerator:
    images = [
        ManifestImage(id=one.id, source=one.source, mask_area=one.mask_area, pixels=one.shape[0] * one.shape[1])
        for one in generator.splits["test"].entries
    ]
    splits = {
        split: ManifestSplit(samples=len(one), fingerprint=one.fingerprint) for split, one in generator.splits.items()
    }
    return ManifestGenerator(role=generator.role, splits=splits, test=tuple(images), regenerated=generator.regenerated)
