"""Which entry is how good, as far as their records can tell, and which of them a second party has reproduced."""

from collections.abc import Iterable
from dataclasses import dataclass

from deeploc_bench.leaderboard.claims import Entry
from deeploc_bench.scoring.statistics import is_separable

SPREAD_REACH, LEAST_REACH = 2.0, 0.02
"""A reproduction agrees within this many spreads over seeds (of either), or within this IoU, whichever is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An entry with its rank: the first place of its tie group; None for a baseline or a matched budget."""

    rank: int | None
    entry: Entry


def rank(entries: Iterable[Entry]) -> list[Ranked]:
    """Return the entries of one suite by held-out IoU, each with the first place of its tie group.

    They were tested on the same images, which verifying proves.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.claims.loo.iou, entry.name))
    ranked: list[Ranked] = []
    best, place, position = None, 1, 0
    for entry in ordered:
        if entry.about.is_baseline or entry.about.budget == "matched":
            ranked.append(Ranked(rank=None, entry=entry))
            continue
        position += 1
        if best is None or is_separable(best.seed_ious, entry.seed_ious):
            best, place = entry, position
        ranked.append(Ranked(rank=place, entry=entry))
    return ranked


def trust(entry: Entry, others: Iterable[Entry]) -> str:
    """Return `reproduced` where another party's submission names this one and agrees within the spread over seeds."""
    repeated = (
        other.about.reproduces == entry.name and other.about.contact != entry.about.contact and _agree(entry, other)
        for other in others
    )
    return "reproduced" if any(repeated) else "self-reported"


def _agree(one: Entry, other: Entry) -> bool:
    spreads = [entry.claims.loo.spread or 0.0 for entry in (one, other)]
    reach = max(SPREAD_REACH * max(spreads), LEAST_REACH)
    return abs(one.claims.loo.iou - other.claims.loo.iou) <= reach
