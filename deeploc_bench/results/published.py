"""Numbers that others published on a suite: `leaderboard/published/<suite>.toml`; shown, never recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from math import nan

import msgspec

from deeploc_bench.contract.errors import StoreError, UsageError, unknown
from deeploc_bench.contract.files import convert, parse_toml
from deeploc_bench.plan.protocols import Pair


class Publication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One publication's IoU, as fractions: by test generator for `same` and `loo`, by train generator for `cross`."""

    name: str
    title: str
    citation: str
    reference: str | None = None
    dialect: str
    same: Mapping[str, float] = {}
    loo: Mapping[str, float] = {}
    cross: Mapping[str, Mapping[str, float]] = {}
    mean_same: float | None = None
    mean_other: float | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything published on one suite."""

    suite: str
    entry: tuple[Publication, ...]


def published() -> dict[str, Published]:
    """Return what was published, by suite; raises StoreError where a file is damaged."""
    folder = files("deeploc_bench_published")
    entries = [(file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".toml")]
    parsed = [(name, parse_toml(content, f"published {name}", StoreError)) for name, content in sorted(entries)]
    found = [convert(values, Published, f"published {name}", StoreError) for name, values in parsed]
    return {one.suite: one for one in found}


def find_publication(name: str) -> tuple[str, Publication]:
    """Return the suite and the publication of that name; raises UsageError."""
    entries = {entry.name: (one.suite, entry) for one in published().values() for entry in one.entry}
    if name not in entries:
        raise UsageError(unknown("publication", name, entries))
    return entries[name]


def published_iou(entry: Publication, protocol: str, pair: Pair) -> float:
    """Return what a publication says of a cell; NaN where it says nothing."""
    if protocol == "cross":
        return entry.cross.get("+".join(pair.train_generators), {}).get(pair.test_generator, nan)
    by_test: Mapping[str, float] = {"same": entry.same, "loo": entry.loo}.get(protocol, {})
    return by_test.get(pair.test_generator, nan)
