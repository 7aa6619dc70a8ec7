"""Looks over a packed suite: do its generators belong together, and do its samples look like what they claim to be?"""

from collections.abc import Iterator, Sequence

from deeploc_bench.contract.findings import Finding, data_finding, refuse
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, GeneratorDataset, Split
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Progress, Suite, load_suite

LARGEST_SHARE = 0.5
"""Edits of a part cover less of an image, on average over a split."""


def load_sound(
    datasets: Sequence[Owned[GeneratorDataset]], *, data: str | None, progress: Progress
) -> tuple[Suite, list[Finding]]:
    """Return a suite that may be trained and tested on, and what to warn of.

    Raises DataError where there are errors among its findings, UsageError as `load_suite` does.
    """
    suite = load_suite(datasets, data=data, progress=progress)
    findings = survey(suite)
    refuse(f"suite {suite.name!r}", findings)
    return suite, findings


def survey(suite: Suite) -> list[Finding]:
    """Return everything that is wrong with a suite: what was found while packing, and what only the whole shows."""
    return [
        *suite.findings,
        *_on_both_sides(suite, "leak", {"train": "training", "valid": "training", "test": "test"}),
        *_polarity(suite),
        *_soft_masks(suite),
        *_ids(suite),
        *_on_both_sides(suite, "valid", {"train": "train", "valid": "valid"}),
        *_duplicates(suite),
    ]


def _splits(suite: Suite) -> Iterator[tuple[str, Split, Pack]]:
    for generator in suite.generators.values():
        for split in SPLITS:
            if split in generator.splits:
                yield generator.name, split, generator.splits[split]


def _on_both_sides(suite: Suite, check: str, sides: dict[Split, str]) -> Iterator[Finding]:
    """Find the sources that stand on two sides of a suite; `sides` says which splits make a side."""
    files: dict[str, dict[str, str]] = {}
    for name, split, pack in _splits(suite):
        if split in sides:
            for entry in pack.entries:
                files.setdefault(entry.source, {}).setdefault(sides[split], f"{name}/{split}: {entry.file}")
    for source, found in sorted(files.items()):
        if len(found) == 2:
            yield data_finding(check, f"source {source!r} stands in {' and in '.join(found.values())}")


def _polarity(suite: Suite) -> Iterator[Finding]:
    for name, split, pack in _splits(suite):
        share = sum(entry.mask_area for entry in pack.entries) / max(1, int(pack.pixels.sum()))
        if name != AUTHENTIC and share > LARGEST_SHARE:
            yield data_finding("polarity", f"{name}/{split}: masks cover {share:.0%} of all pixels")


def _soft_masks(suite: Suite) -> Iterator[Finding]:
    for name, split, pack in _splits(suite):
        for entry in pack.entries:
            if entry.soft_mask:
                yield data_finding("levels", f"{name}/{split}: mask of {entry.file}")


def _ids(suite: Suite) -> Iterator[Finding]:
    """Generators that share ids at all should share them all."""
    for split in SPLITS:
        ids = {name: set(pack.ids) for name, other, pack in _splits(suite) if other == split}
        shared = {name: ids[name] for name in suite.standard if name in ids}
        everywhere: set[str] = set.intersection(*shared.values()) if shared else set()
        anywhere: set[str] = set().union(*shared.values()) if everywhere else set()
        for id in sorted(anywhere - everywhere):
            lacking = ", ".join(f"{name}/{split}" for name, own in shared.items() if id not in own)
            yield data_finding("stems", f"{id} is lacking in {lacking}")


def _duplicates(suite: Suite) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, split, pack in _splits(suite):
        for entry in pack.entries:
            where = f"{name}/{split}: {entry.file}"
            if first.setdefault(entry.image_hash, where) != where:
                yield data_finding("duplicate", f"{where} is {first[entry.image_hash]}")
