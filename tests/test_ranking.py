"""Ranks that are earned, and trust that needs a second party."""

from __future__ import annotations

import dataclasses

import numpy as np
from boards import entry_of, improved, submission, untrained, with_claims
from msgspec.structs import replace

from deeploc_bench.leaderboard.ranking import rank, trust
from deeploc_bench.scoring.statistics import is_separable


def entry(name="entry", **options):
    return entry_of(submission(name, **options))


def better(name, share, **options):
    return entry_of(improved(name, share, **options))


def about(one, **changes):
    return dataclasses.replace(one, about=replace(one.about, **changes))


def test_a_clearly_better_entry_ranks_alone_and_like_ones_share_a_rank():
    entries = [better("best", 0.8, seed=1, images=60), entry("one", seed=2, images=60), entry("two", seed=3, images=60)]
    assert [(one.rank, one.entry.name) for one in rank(entries)][0] == (1, "best")
    assert sorted(one.rank for one in rank(entries)) == [1, 2, 2]


def test_an_entry_of_one_seed_never_splits_a_group():
    entries = [better("best", 0.8, seed=1, images=60, seeds=(0,)), entry("one", seed=2, images=60)]
    assert [one.rank for one in rank(entries)] == [1, 1]


def test_a_matched_budget_and_a_baseline_are_not_ranked_but_a_tested_detector_is():
    entries = [
        entry("full", seed=5),
        entry_of(with_claims(submission("small", seed=4) | {"budget": "matched"})),
        entry_of(untrained(submission("trivial", seed=6))),
        entry_of(untrained(submission("detector", seed=7), baseline=False)),
        entry_of(submission("prior", seed=8) | {"baseline": True}),
    ]
    ranks = {one.entry.name: one.rank for one in rank(entries)}
    assert ranks == {"full": 1, "small": None, "trivial": None, "detector": 1, "prior": None}


def test_separability_is_rare_where_there_is_no_difference_and_sure_where_there_is():
    random = np.random.default_rng(0)
    sources = [f"p{i // 2}" for i in range(80)]

    def row(level):
        noise = np.repeat(random.normal(0, 0.1, 40), 2)
        return [(sources, {k: np.clip(level + noise + random.normal(0, 0.05, 80), 0, 1) for k in range(3)})]

    assert sum(is_separable(row(0.5), row(0.5)) for _ in range(100)) <= 12
    assert all(is_separable(row(0.65), row(0.5)) for _ in range(10))


def test_trust_needs_another_party_that_agrees():
    first = entry("first")
    again = entry_of(submission("again") | {"reproduces": "first", "contact": "another party"})
    assert trust(first, [again]) == "reproduced"
    assert trust(first, [about(again, contact=first.about.contact)]) == "self-reported"
    far = about(better("far", 0.9), reproduces="first", contact="another party")
    assert trust(first, [far]) == "self-reported"
