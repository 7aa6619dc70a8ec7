"""Deals images that come without splits to splits, each source to one of them, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from deeploc_bench_plugins.described.description import SPLITS, Split

from deeploc_bench import Sample


def dealt(found: Mapping[Split, Iterable[Sample]], shares: Mapping[Split, float]) -> dict[Split, list[Sample]]:
    """Return the samples by split, those of train by what their source falls in; no shares leave them as they are."""
    splits = {split: list(samples) for split, samples in found.items()}
    if not shares:
        return splits
    for sample in splits.pop("train", []):
        splits.setdefault(_split_of(sample.source, shares), []).append(sample)
    return splits


def _split_of(source: str, shares: Mapping[Split, float]) -> Split:
    place = int.from_bytes(hashlib.sha256(source.encode()).digest()[:6]) / 2**48
    named = [split for split in SPLITS if split in shares]
    end = 0.0
    for split in named:
        end += shares[split]
        if place < end:
            return split
    return named[-1]
