"""The manifest of a suite: what a leaderboard knows of its data, without the data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from deeploc_bench.contract.specs import Role, Split
from deeploc_bench.data.suites import Generator, Suite

MANIFEST_SCHEMA = 1


class ManifestImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test image; `mask_area` and `pixels` are in pixels."""

    id: str
    source: str
    mask_area: int
    pixels: int


class ManifestSplit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many samples a split has, and their hash."""

    samples: int
    fingerprint: str


class ManifestGenerator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One generator dataset, its test images sorted by id."""

    role: Role
    splits: Mapping[Split, ManifestSplit] = {}
    test: tuple[ManifestImage, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole suite: `leaderboard/suites/<suite>.json`."""

    schema: int = MANIFEST_SCHEMA
    suite: str
    fingerprint: str
    generators: Mapping[str, ManifestGenerator]


def manifest(suite: Suite) -> Manifest:
    """Return the fingerprints of a suite, and the id, source, mask area and pixels of each test image."""
    generators = {name: _manifest_of(generator) for name, generator in suite.generators.items()}
    return Manifest(suite=suite.name, fingerprint=suite.fingerprint, generators=generators)


def _manifest_of(generator: Generator) -> ManifestGenerator:
    test = generator.splits["test"]
    return ManifestGenerator(
        role=generator.role,
        splits={
            split: ManifestSplit(samples=len(pack), fingerprint=pack.fingerprint)
            for split, pack in generator.splits.items()
        },
        test=tuple(
            ManifestImage(id=one.id, source=one.source, mask_area=one.mask_area, pixels=one.shape[0] * one.shape[1])
            for one in test.entries
        ),
    )
