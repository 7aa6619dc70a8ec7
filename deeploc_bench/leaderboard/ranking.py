"""Which entry is how good, as far as their records can tell, and which of them others vouch for."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

from deeploc_bench.leaderboard.claims import Entry
from deeploc_bench.leaderboard.submission import About
from deeploc_bench.results.rows import MOST_FALSE_ALARM, above
from deeploc_bench.scoring.statistics import (
    Comparison,
    Interval,
    Score,
    SeedVariance,
    interval,
    pooled,
    ranks,
    smallest_difference,
)

MOST_FLOODED = 0.10
"""Nor is a row that predicts nearly all of more of the edited images."""
SPREAD_REACH, LEAST_REACH = 2.0, 0.02
"""A reproduction agrees within this many spreads over seeds (of either), or within this IoU, whichever is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An entry with its rank, or the `reason` why it has none; its interval, and what it is above the best baseline.

    `above_same` is the same of its same-generator row.
    """

    entry: Entry
    rank: int | None = None
    reason: str = ""
    interval: Interval
    above: Comparison | None
    above_same: Comparison | None

    @property
    def place(self) -> str:
        """Return the rank, or the word why there is none."""
        return self.reason if self.rank is None else str(self.rank)

    @property
    def finds(self) -> bool:
        """Tell whether the held-out row is significantly above the best baseline."""
        return self.above is not None and self.above.low > 0

    @property
    def gap(self) -> float | None:
        """Return same-generator minus held-out IoU, where the first beats the baselines; else there is no gap."""
        beats = self.above_same is not None and self.above_same.low > 0
        return self.entry.claims.gap if beats else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The entries of one suite, the best first; the variance between their seeds; and what could be told apart.

    `smallest` is the difference that two rows of three seeds are told apart by with a probability of 0.8.
    """

    rows: tuple[Ranked, ...]
    seeds: SeedVariance
    smallest: float

    @property
    def ranked(self) -> list[Ranked]:
        """Return the entries that have a rank."""
        return [row for row in self.rows if row.rank is not None]


def rank(entries: Iterable[Entry]) -> Standing:
    """Return the entries of one suite by held-out IoU; they were tested on the same images, which verifying proves.

    The variance between seeds is pooled over all rows that may be ranked. Where no row has several seeds, none that is
    trained is ranked: nothing tells how far another seed of it would fall.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.claims.loo.iou, entry.name))
    baselines = [entry for entry in ordered if entry.about.is_baseline]
    has_alarms = any(entry.claims.false_alarm_area is not None for entry in ordered)
    reasons = [_reason(entry, has_alarms) for entry in ordered]
    sound = [entry for entry, reason in zip(ordered, reasons, strict=True) if not reason]
    seeds, seeds_same = (pooled(_scores(sound, protocol)) for protocol in ("loo", "same"))
    if not seeds.freedom:
        reasons = [
            reason or ("one seed" if entry.about.is_seeded else "")
            for entry, reason in zip(ordered, reasons, strict=True)
        ]
    ranked = [entry for entry, reason in zip(ordered, reasons, strict=True) if not reason]
    scores = _scores(ranked, "loo")
    alarms = [entry.claims.false_alarm_area for entry in ranked]
    given = iter(ranks(scores, seeds, [nan if alarm is None else alarm for alarm in alarms]))
    rows = [
        Ranked(
            entry=entry,
            rank=None if reason else next(given),
            reason=reason,
            interval=interval(_score(entry, "loo"), seeds),
            above=_above(entry, baselines, "loo", seeds),
            above_same=_above(entry, baselines, "same", seeds_same),
        )
        for entry, reason in zip(ordered, reasons, strict=True)
    ]
    return Standing(rows=tuple(rows), seeds=seeds, smallest=smallest_difference(scores, seeds))


def _reason(entry: Entry, has_alarms: bool) -> str:
    """Return the word why an entry is not ranked; none where it is."""
    if entry.about.is_baseline:
        return "baseline"
    if entry.about.is_detector:
        return _elsewhere(entry.about)
    if entry.about.budget == "matched":
        return "matched"
    alarm = entry.claims.false_alarm_area
    if entry.flooded > MOST_FLOODED or (alarm is not None and alarm > MOST_FALSE_ALARM):
        return "floods"
    if alarm is None and has_alarms:
        return "untested"
    return ""


def _elsewhere(about: About) -> str:
    """Return the word for a detector: trained by nobody knows what, or by what it is tested on, or just elsewhere."""
    if about.model.trained_on is None:
        return "not declared"
    return "seen" if about.seen else "elsewhere"


def _score(entry: Entry, protocol: str) -> Score:
    found = entry.rows[protocol].mean.score
    assert found is not None  # what passed has all seeds of all pairs
    return found


def _scores(entries: Sequence[Entry], protocol: str) -> list[Score]:
    return [_score(entry, protocol) for entry in entries if protocol in entry.rows]


def _above(entry: Entry, baselines: Sequence[Entry], protocol: str, seeds: SeedVariance) -> Comparison | None:
    others = [other.rows[protocol].mean for other in baselines if other is not entry and protocol in other.rows]
    if entry.about.is_baseline or protocol not in entry.rows:
        return None
    return above(entry.rows[protocol].mean, others, seeds)


def trust(entry: Entry, others: Iterable[Entry]) -> str:
    """Return `reproduced` where another party's submission names this one and agrees within the spread over seeds.

    Another party has another contact, the same method, other counts, and a date that is not earlier. Else it is
    `confirmed`, where a reviewer has noted that its authors stand behind it, or `self-reported`.
    """
    repeated = (
        other.about.reproduces == entry.name
        and party(other) != party(entry)
        and method(other) == method(entry)
        and other.predictions.isdisjoint(entry.predictions)
        and other.about.date >= entry.about.date
        and _agree(entry, other)
        for other in others
    )
    if any(repeated):
        return "reproduced"
    return "confirmed" if entry.about.confirmed else "self-reported"


def party(entry: Entry) -> str:
    """Return whom a contact means, however it is written: an address of e-mail, the end of a link, or its letters."""
    text = unicodedata.normalize("NFKC", entry.about.contact).casefold().removeprefix("mailto:")
    address = re.search(r"[^\s<>:,;@]+@[^\s<>:,;@]+\.[^\s<>:,;@]+", text)
    named = address[0] if address else text.rstrip("/").rpartition("/")[2] if "://" in text else text
    return "".join(letter for letter in named if letter.isalnum())


def method(entry: Entry) -> tuple[object, ...]:
    """Return what two submissions of one method have in common, whatever version of its code."""
    about = entry.about
    return (about.model.name, about.loss_expression, entry.recipe, about.budget, about.model.weights)


def _agree(one: Entry, other: Entry) -> bool:
    spreads = [entry.claims.loo.spread or 0.0 for entry in (one, other)]
    reach = max(SPREAD_REACH * max(spreads), LEAST_REACH)
    return abs(one.claims.loo.iou - other.claims.loo.iou) <= reach
