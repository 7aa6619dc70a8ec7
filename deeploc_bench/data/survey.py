"""Looks over a packed suite: do its generators belong together, and do its samples look like what they claim to be?"""

from __future__ import annotations

from collections.abc import Iterator

from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, Split
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Suite

Places = Iterator[tuple[str, Split, Pack]]
HALF = 0.5
"""Edits of a part cover less of an image, on average over a split."""


def survey(suite: Suite) -> list[Finding]:
    """Return everything that is wrong with a suite: what was found while packing, and what only the whole shows."""
    checks = (_leaks, _polarity, _soft_masks, _ids, _trained_and_validated, _duplicates)
    return [*suite.findings, *(finding for check in checks for finding in check(suite))]


def _places(suite: Suite) -> Places:
    for generator in suite.generators.values():
        for split in SPLITS:
            if split in generator.splits:
                yield generator.name, split, generator.splits[split]


def _leaks(suite: Suite) -> Iterator[Finding]:
    return _on_both_sides(suite, "leak", {"train": "training", "valid": "training", "test": "test"})


def _trained_and_validated(suite: Suite) -> Iterator[Finding]:
    return _on_both_sides(suite, "valid", {"train": "train", "valid": "valid"})


def _on_both_sides(suite: Suite, check: str, sides: dict[Split, str]) -> Iterator[Finding]:
    files: dict[str, dict[str, str]] = {}
    for name, split, packed in _places(suite):
        if split in sides:
            for source, file in zip(packed.sources, packed.files, strict=True):
                files.setdefault(source, {}).setdefault(sides[split], f"{name}/{split}: {file}")
    for source, found in sorted(files.items()):
        if len(found) == 2:
            yield Finding(check=check, what=f"source {source!r} stands in {' and in '.join(found.values())}")


def _polarity(suite: Suite) -> Iterator[Finding]:
    for name, split, packed in _places(suite):
        share = sum(packed.mask_areas) / max(1, int(packed.pixels.sum()))
        if name != AUTHENTIC and share > HALF:
            yield Finding(check="polarity", what=f"{name}/{split}: masks cover {share:.0%} of all pixels")


def _soft_masks(suite: Suite) -> Iterator[Finding]:
    for name, split, packed in _places(suite):
        for file, is_soft in zip(packed.files, packed.soft_masks, strict=True):
            if is_soft:
                yield Finding(check="levels", what=f"{name}/{split}: mask of {file}")


def _ids(suite: Suite) -> Iterator[Finding]:
    """Generators that share ids at all should share them all."""
    for split in SPLITS:
        ids = {name: set(packed.ids) for name, part, packed in _places(suite) if part == split}
        shared = {name: ids[name] for name in suite.standard if name in ids}
        everywhere: set[str] = set.intersection(*shared.values()) if shared else set()
        anywhere: set[str] = set().union(*shared.values()) if everywhere else set()
        for id in sorted(anywhere - everywhere):
            lacking = ", ".join(f"{name}/{split}" for name, part in shared.items() if id not in part)
            yield Finding(check="stems", what=f"{id} is lacking in {lacking}")


def _duplicates(suite: Suite) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, split, packed in _places(suite):
        for file, image_hash in zip(packed.files, packed.image_hashes, strict=True):
            where = f"{name}/{split}: {file}"
            if first.setdefault(image_hash, where) != where:
                yield Finding(check="duplicate", what=f"{where} is {first[image_hash]}")
