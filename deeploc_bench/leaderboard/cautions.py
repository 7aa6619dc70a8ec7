"""What a reader of a submission should look at, and what only the others of its suite tell of it."""

from collections.abc import Sequence

import numpy as np

from deeploc_bench.contract.findings import Finding
from deeploc_bench.leaderboard.checks import Case, Findings
from deeploc_bench.leaderboard.claims import Entry, pairs_of
from deeploc_bench.leaderboard.ranking import method, party
from deeploc_bench.plan.protocols import declared

MOST_EMPTY, MOST_FULL = 0.5, 0.1
"""The part of the edited images that a localizer may predict as empty, or as full, before a reader is told."""


def warn_of_itself(case: Case) -> Findings:
    """Warn of what is strange for a model that looks for edits: no spread over seeds, predictions that are trivial."""
    evidence = case.evidence
    if evidence.confirmed:
        message = f"marked as confirmed, which is a reviewer's to say: {evidence.confirmed!r}"
        yield Finding(check="confirmed", message=message, level="warning")
    if evidence.is_baseline:
        message = "it is a baseline: it is never ranked, and every row of the suite is held against it"
        yield Finding(check="baseline", message=message, level="warning")
        return
    if evidence.is_detector:
        message = f"a detector, trained elsewhere ({declared(evidence.model.trained_on)}): it is shown, and not ranked"
        yield Finding(check="detector", message=message, level="warning")
    if evidence.is_scored:
        message = "predictions made elsewhere: what they were trained on, and that seeds were not chosen, is only said"
        yield Finding(check="scored", message=message, level="warning")
    if len(evidence.seeds) > 1 and (score := case.rows["loo"].mean.score) and score.spread == 0:
        message = f"no spread over {len(evidence.seeds)} seeds: are they copies of one?"
        yield Finding(check="spread", message=message, level="error" if evidence.is_scored else "warning")
    held_out = set(pairs_of("loo", evidence.generators))
    for title, pair, found in case.of_each_training():
        predicted = found.tp + found.fp
        for word, trivial, most in (
            ("empty", float(np.mean(predicted == 0)), MOST_EMPTY),
            ("full", float(np.mean(predicted == found.pixels)), MOST_FULL),
        ):
            if pair in held_out and trivial > most:
                where = f"test {pair.test_generator}" if evidence.is_detector else title
                message = f"{where}: predictions are {word} on {trivial:.0%} of the images"
                yield Finding(check="trivial", message=message, level="warning")


def checks_beside(entry: Entry, entries: Sequence[Entry]) -> list[Finding]:
    """Return what is found of an entry beside all entries of its suite, itself among them."""
    rivals = [rival for rival in entries if rival is not entry]
    return [*_other_data(entry, entries[0]), *_repeats(entry, rivals), *_better(entry, rivals), *_alike(entry, rivals)]


def _other_data(entry: Entry, first: Entry) -> Findings:
    """What is ranked together was tested on the same images; with a manifest, each has already been held against it."""
    for what, digest in entry.data.items():
        if first.data.get(what, digest) != digest:
            check = "area" if what.startswith("mask areas") else what.partition(" ")[0]
            message = f"{what} are not those of {first.name!r}; submissions to one suite are tested on the same images"
            yield Finding(check=check, message=message)


def _better(entry: Entry, rivals: Sequence[Entry]) -> Findings:
    if entry.about.is_detector:
        return  # for which nothing is held out as it is for others
    others = [rival for rival in rivals if not rival.about.is_detector]
    for name, value in entry.claims.loo.by_generator.items():
        best = max((rival.claims.loo.by_generator.get(name, 0.0) for rival in others), default=1.0)
        if value > best:
            message = f"held-out {name}: {value:.4f} is better than the best known, {best:.4f}"
            yield Finding(check="best", message=message, level="warning")


def _repeats(entry: Entry, rivals: Sequence[Entry]) -> Findings:
    """What a submission says it reproduces must be there, and be another; whether it agrees is told by its trust."""
    name = entry.about.reproduces
    if name is None:
        return
    known = {rival.name: rival for rival in rivals}
    if name not in known:
        message = f"reproduces {name!r}, which is no other submission of suite {entry.about.suite!r}"
        yield Finding(check="reproduces", message=message)
        return
    if method(known[name]) != method(entry):
        message = f"reproduces {name!r}, which is of another model, loss, recipe or budget"
        yield Finding(check="reproduces", message=message)
        return
    for is_none, reason in (
        (party(known[name]) == party(entry), "the contact is the same party's"),
        (not known[name].predictions.isdisjoint(entry.predictions), "its counts are copies"),
        (known[name].about.date > entry.about.date, f"it is older, of {entry.about.date}"),
    ):
        if is_none:
            message = f"it is no reproduction of {name!r}: {reason}"
            yield Finding(check="reproduces", message=message, level="warning")


def _alike(entry: Entry, rivals: Sequence[Entry]) -> Findings:
    copies = [other.name for other in rivals if not other.predictions.isdisjoint(entry.predictions)]
    if copies:
        more = f" and {len(copies) - 3} more" if len(copies) > 3 else ""
        message = f"whole test sets have the counts of {', '.join(map(repr, copies[:3]))}{more}"
        yield Finding(check="copy", message=message, level="warning")
