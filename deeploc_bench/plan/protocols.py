"""Protocols: pure functions from the generators of a suite to cells, and the matched budget of leave-one-out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.data.batches import Subset
from deeploc_bench.data.packs import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Train on some generators, test on one."""

    train_generators: tuple[str, ...]
    test_generator: str


def same(standard: Sequence[str], test_only: Sequence[str]) -> list[Cell]:
    """Train on each generator, test on the same one (and on the test-only ones)."""
    return [
        Cell(train_generators=(generator,), test_generator=test)
        for generator in standard
        for test in (generator, *test_only)
    ]


def loo(standard: Sequence[str], test_only: Sequence[str]) -> list[Cell]:
    """Train on all generators but one, test on that one (and on the test-only ones)."""
    if len(standard) < 2:
        raise UsageError("protocol 'loo' needs a suite of two standard generators or more; use --protocol same")
    return [
        Cell(train_generators=tuple(other for other in standard if other != generator), test_generator=test)
        for generator in standard
        for test in (generator, *test_only)
    ]


def cross(standard: Sequence[str], test_only: Sequence[str]) -> list[Cell]:
    """Train on each generator, test on every one: the full matrix."""
    return [
        Cell(train_generators=(generator,), test_generator=test)
        for generator in standard
        for test in (*standard, *test_only)
    ]


PROTOCOLS: Mapping[str, Callable[[Sequence[str], Sequence[str]], list[Cell]]] = {
    "same": same,
    "loo": loo,
    "cross": cross,
}
BUDGETS = ("full", "matched")


def matched(packs: Sequence[Pack]) -> Subset:
    """Draw as many samples from several packs as the smallest has.

    Where the packs share their ids, each id is drawn once and the ids are dealt evenly; else the draw is stratified.
    The draw is fixed (a frozen random stream), so that every model is trained on the same samples.
    """
    random = np.random.RandomState(0)
    count = min(len(packed) for packed in packs)
    if all(packed.ids == packs[0].ids for packed in packs):
        drawn = random.permutation(len(packs[0]))[:count]
        chosen = [drawn[turn :: len(packs)] for turn in range(len(packs))]
    else:
        chosen = [
            random.permutation(len(packed))[: count // len(packs) + (turn < count % len(packs))]
            for turn, packed in enumerate(packs)
        ]
    return Subset(parts=tuple((packed, np.sort(part)) for packed, part in zip(packs, chosen, strict=True)))
