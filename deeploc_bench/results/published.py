"""Numbers that others published on a suite: `leaderboard/published/<suite>.toml`; shown, never recomputed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from math import nan

import msgspec

from deeploc_bench.contract.errors import UsageError, unknown


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    entry: tuple[Entry, ...]


def published() -> dict[str, Published]:
    """Return what was published, by suite."""
    folder = files("deeploc_bench_published")
    texts = [file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".toml")]
    found = [msgspec.convert(tomllib.loads(text), Published) for text in texts]
    return {one.suite: one for one in found}


def find_entry(name: str) -> tuple[str, Entry]:
    """Return the suite and the publication of that name; raises UsageError."""
    entries = {entry.name: (one.suite, entry) for one in published().values() for entry in one.entry}
    if name not in entries:
        raise UsageError(unknown("publication", name, entries))
    return entries[name]


def published_iou(entry: Entry, protocol: str, train_generators: tuple[str, ...], test_generator: str) -> float:
    """Return what a publication says of a cell; NaN where it says nothing."""
    if protocol == "cross":
        return entry.cross.get("+".join(train_generators), {}).get(test_generator, nan)
    by_test: Mapping[str, float] = {"same": entry.same, "loo": entry.loo}.get(protocol, {})
    return by_test.get(test_generator, nan)
