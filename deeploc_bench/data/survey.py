"""Looks over a packed suite: do its generators belong together, and do its samples look like what they claim to be?"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

from deeploc_bench.contract.findings import Finding, data_finding, refuse
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, GeneratorDataset, Split
from deeploc_bench.data.edits import edit_findings
from deeploc_bench.data.entries import Entry
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Progress, Suite, load_suite

LARGEST_SHARE = 0.5
"""Edits of a part cover less of an image, on average over a split."""
SMALLEST_SIDE = 32
"""Pixels of the smallest side that every model takes."""


def load_sound(
    datasets: Sequence[Owned[GeneratorDataset]], *, data: str | None, progress: Progress, threads: int = 1
) -> tuple[Suite, list[Finding]]:
    """Return a suite that may be trained and tested on, and what to warn of, without notes.

    Raises DataError where there are errors among its findings, UsageError as `load_suite` does.
    """
    suite = load_suite(datasets, data=data, progress=progress, threads=threads)
    findings = survey(suite)
    refuse(f"suite {suite.name!r}", findings)
    return suite, [finding for finding in findings if not finding.is_note]


def survey(suite: Suite) -> list[Finding]:
    """Return all that is found in a suite: what was found while packing, and what only the whole shows."""
    images = _equal_images(suite)
    return [
        *suite.findings,
        *_on_both_sides(suite, "leak", {"train": "training", "valid": "training", "test": "test"}),
        *_leaking_images(images),
        *_polarity(suite),
        *_full(suite),
        *_remarks(suite),
        *_small(suite),
        *_ids(suite),
        *_on_both_sides(suite, "valid", {"train": "train", "valid": "valid"}),
        *_duplicates(images),
        *edit_findings(suite),
    ]


class _Place(NamedTuple):
    """Where an image stands in a suite."""

    generator: str
    split: Split
    entry: Entry

    def __str__(self) -> str:
        return f"{self.generator}/{self.split}: {self.entry.file}"


_Sides: TypeAlias = tuple[list[_Place], list[_Place]]
"""Where one image stands in the splits that are trained on (validation among them), and where in those tested on."""


def _equal_images(suite: Suite) -> Mapping[str, _Sides]:
    """Return where the images stand, by the hash of their pixels."""
    images: dict[str, _Sides] = defaultdict(lambda: ([], []))
    for name, split, pack in _splits(suite):
        for entry in pack.entries:
            images[entry.image_hash][split == "test"].append(_Place(name, split, entry))
    return images


def _leaking_images(images: Mapping[str, _Sides]) -> Iterator[Finding]:
    """Find the images on both sides, one finding each; a pair of one source is its source's leak already."""
    for trained, tested in images.values():
        pairs = (pair for pair in product(trained, tested) if pair[0].entry.source != pair[1].entry.source)
        pair = next(pairs, None)
        if pair:
            yield data_finding("leak", f"one image stands in {pair[0]} and in {pair[1]}")


def _duplicates(images: Mapping[str, _Sides]) -> Iterator[Finding]:
    """Find the images that stand twice on one side."""
    for first, *others in (side for sides in images.values() for side in sides if side):
        for other in others:
            if str(other) != str(first):
                yield data_finding("duplicate", f"{other} is {first}")


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


def _full(suite: Suite) -> Iterator[Finding]:
    """Find the masks that leave nothing out: what marks everything is right on these."""
    for name, split, pack in _splits(suite):
        for entry in pack.entries:
            if name != AUTHENTIC and entry.mask_area == entry.shape[0] * entry.shape[1]:
                yield data_finding("full", f"{name}/{split}: {entry.file}")


def _remarks(suite: Suite) -> Iterator[Finding]:
    for name, split, pack in _splits(suite):
        for entry in pack.entries:
            yield from (data_finding(check, f"{name}/{split}: {entry.file}") for check in entry.remarks)


def _small(suite: Suite) -> Iterator[Finding]:
    """Find the images that are smaller than a model has to take."""
    for name, split, pack in _splits(suite):
        for entry in pack.entries:
            if min(entry.shape) < SMALLEST_SIDE:
                height, width = entry.shape
                yield data_finding("small", f"{name}/{split}: {entry.file} is {width} x {height}")


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
