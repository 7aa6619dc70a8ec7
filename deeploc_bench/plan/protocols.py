"""Protocols: pure functions from the generators of a suite to cells, and the matched budget of leave-one-out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.data.batches import Subset
from deeploc_bench.data.packs import Pack

BUDGETS = ("full", "matched")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Train on some generators, test on one."""

    train_generators: tuple[str, ...]
    test_generator: str


def same(standard: Sequence[str], test_only: Sequence[str]) -> list[Pair]:
    """Train on each generator, test on the same one (and on the test-only ones)."""
    return [pair for one in standard for pair in _pairs([one], [one, *test_only])]


def loo(standard: Sequence[str], test_only: Sequence[str]) -> list[Pair]:
    """Train on all generators but one, test on that one (and on the test-only ones).

    Raises UsageError where there is no other generator to train on.
    """
    if len(standard) < 2:
        raise UsageError("protocol 'loo' needs a suite of two standard generators or more; use --protocol same")
    return [
        pair for one in standard for pair in _pairs([other for other in standard if other != one], [one, *test_only])
    ]


def cross(standard: Sequence[str], test_only: Sequence[str]) -> list[Pair]:
    """Train on each generator, test on every one: the full matrix."""
    return [pair for one in standard for pair in _pairs([one], [*standard, *test_only])]


def _pairs(train: Sequence[str], tests: Sequence[str]) -> list[Pair]:
    return [Pair(train_generators=tuple(train), test_generator=test) for test in tests]


PROTOCOLS: Mapping[str, Callable[[Sequence[str], Sequence[str]], list[Pair]]] = {
    "same": same,
    "loo": loo,
    "cross": cross,
}


def trained_on(train_generators: Sequence[str], protocol: str, standard: Sequence[str]) -> str:
    """Return the words of a table for the generators trained on, such as `w/o lama`."""
    left_out = [name for name in standard if name not in train_generators]
    if protocol == "loo" and train_generators and len(left_out) == 1:
        return f"w/o {left_out[0]}"
    return "+".join(train_generators) or "not declared"


def matched(packs: Sequence[Pack]) -> Subset:
    """Draw as many samples from several packs as the smallest has.

    Where the packs share their ids, each id is drawn once and the ids are dealt evenly; else the draw is stratified.
    The draw is fixed (a frozen random stream), so that every model is trained on the same samples.
    """
    random = np.random.RandomState(0)
    count = min(len(pack) for pack in packs)
    if all(pack.ids == packs[0].ids for pack in packs):
        drawn = random.permutation(len(packs[0]))[:count]
        chosen = [drawn[turn :: len(packs)] for turn in range(len(packs))]
    else:
        chosen = [
            random.permutation(len(pack))[: count // len(packs) + (turn < count % len(packs))]
            for turn, pack in enumerate(packs)
        ]
    return Subset(packs=tuple((pack, np.sort(positions)) for pack, positions in zip(packs, chosen, strict=True)))
