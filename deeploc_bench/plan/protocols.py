"""Protocols: pure functions from the generators of a suite to cells, and the matched budget of leave-one-out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Protocol, TypeAlias

import numpy as np

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.data.batches import Subset
from deeploc_bench.data.packs import Pack

BUDGETS = ("full", "matched")
TRANSFER = "transfer"
"""What the cells of a training are called that is tested on another suite: they belong to no protocol of its own."""
SCORE = "score"
"""What the cells of predictions are called, and of what is tested on a suite that nothing can be trained on."""
Included: TypeAlias = Mapping[str, str]
"""The suite that a generator was included from, by its name."""
NOTHING: Included = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Train on some generators, test on one."""

    train_generators: tuple[str, ...]
    test_generator: str


def same(standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING) -> list[Pair]:
    """Train on each generator, test on the same one (and on the test-only ones)."""
    return [pair for one in standard for pair in _pairs([one], [one, *test_only])]


def loo(standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING) -> list[Pair]:
    """Train on all generators but one, test on that one (and on the test-only ones).

    Raises UsageError where there is no other generator to train on.
    """
    if len(standard) < 2:
        raise UsageError("protocol 'loo' needs a suite of two standard generators or more; use --protocol same")
    return [pair for one in standard for pair in _pairs(all_but(one, standard), [one, *test_only])]


def all_but(left_out: str, standard: Sequence[str]) -> tuple[str, ...]:
    """Return all standard generators but one: what is trained on where it is held out."""
    return tuple(name for name in standard if name != left_out)


def lodo(standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING) -> list[Pair]:
    """Train on all included suites but one, test on each generator of that one (and on the test-only ones).

    Raises UsageError where the suite does not include others. A generator of its own is a suite by itself.
    """
    suites = list(dict.fromkeys(included.get(name, name) for name in standard))
    if not included or len(suites) < 2:
        raise UsageError(
            "protocol 'lodo' needs a suite of several others with generators to train on, such as --suite A --suite B"
        )
    pairs = []
    for suite in suites:
        own = [name for name in standard if included.get(name, name) == suite]
        pairs += _pairs([name for name in standard if name not in own], [*own, *test_only])
    return pairs


def cross(standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING) -> list[Pair]:
    """Train on each generator, test on every one: the full matrix."""
    return [pair for one in standard for pair in _pairs([one], [*standard, *test_only])]


def _pairs(train: Sequence[str], tests: Sequence[str]) -> list[Pair]:
    return [Pair(train_generators=tuple(train), test_generator=test) for test in tests]


class Rule(Protocol):
    """A protocol: the pairs of a suite's standard and test-only generators, some of which it includes of others."""

    def __call__(self, standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING) -> list[Pair]:
        """Return the pairs; raises UsageError where the suite has none."""


PROTOCOLS: Mapping[str, Rule] = {
    "same": same,
    "loo": loo,
    "cross": cross,
    "lodo": lodo,
}


def pairs_of(
    protocol: str, standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING
) -> list[Pair]:
    """Return the pairs of a protocol, raising UsageError as it does; `score` is to test what is tested only."""
    if protocol == SCORE:
        return _pairs([], test_only)
    return PROTOCOLS[protocol](standard, test_only, included)


SHOWN = (*PROTOCOLS, SCORE)
"""What cells of one suite are shown and compared by."""
HELD_OUT = ("loo", "lodo")
"""The protocols that hold something out, and have budgets."""
RANKED = ("same", "loo", "cross")
"""The protocols of a leaderboard."""


def trained_on(
    train_generators: Sequence[str], protocol: str, standard: Sequence[str], included: Included = NOTHING
) -> str:
    """Return the words of a table for the generators trained on, such as `w/o lama`."""
    left_out = [name for name in standard if name not in train_generators]
    if protocol == "lodo" and train_generators and left_out:
        return f"w/o {included.get(left_out[0], left_out[0])}"
    if protocol == "loo" and train_generators and len(left_out) == 1:
        return f"w/o {left_out[0]}"
    return "+".join(train_generators) or "not declared"


def declared(trained_on: Sequence[str] | None) -> str:
    """Return the words for what a detector was trained on elsewhere; None is what nobody says."""
    return "not declared" if trained_on is None else "+".join(trained_on) or "other data"


def matched(packs: Sequence[Pack]) -> Subset:
    """Draw as many samples from several packs as the smallest has, from each the same number or one less.

    The ids that all packs have in common are drawn first, and dealt evenly. Where they do not suffice, or there are
    none, each pack fills up its share with ids of its own that no pack has been dealt: no id is drawn twice, and there
    are always enough, since every pack has as many as are drawn in all. The draw is fixed (a frozen random stream), so
    that every model is trained on the same samples.
    """
    random = np.random.RandomState(0)
    count = min(len(pack) for pack in packs)
    places = [{id: position for position, id in enumerate(pack.ids)} for pack in packs]
    common = [id for id in packs[0].ids if all(id in place for place in places)]
    drawn = [common[position] for position in random.permutation(len(common))[:count]]
    taken = set(drawn)
    chosen = []
    for turn, (pack, place) in enumerate(zip(packs, places, strict=True)):
        dealt, share = drawn[turn :: len(packs)], len(range(turn, count, len(packs)))
        rest = (pack.ids[position] for position in random.permutation(len(pack)))
        dealt += islice((id for id in rest if id not in taken), share - len(dealt))
        taken.update(dealt)
        chosen.append(np.sort([place[id] for id in dealt]).astype(np.int64))
    return Subset(packs=tuple(zip(packs, chosen, strict=True)))
