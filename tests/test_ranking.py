"""Ranks that are earned, and trust that needs a second party."""

from __future__ import annotations

import dataclasses

import pytest
from boards import entry_of, improved, submission, untrained, with_claims
from msgspec.structs import replace

from deeploc_bench.leaderboard.ranking import party, rank, trust


def entry(name="entry", **options):
    return entry_of(submission(name, **options))


def better(name, share, **options):
    return entry_of(improved(name, share, **options))


def about(one, **changes):
    return dataclasses.replace(one, about=replace(one.about, **changes))


def flooded(values, share):
    """Return a submission's values with this share of each untouched image predicted as manipulated."""
    for training in values["trainings"]:
        training["tests"]["authentic"]["fp"] = [int(4096 * share)] * len(training["tests"]["authentic"]["fp"])
    return with_claims(values)


def places(entries):
    return {row.entry.name: row.place for row in rank(entries).rows}


def test_a_clearly_better_entry_ranks_alone_and_like_ones_share_a_rank():
    entries = [better("best", 0.8, seed=1, images=60), entry("one", seed=2, images=60), entry("two", seed=3, images=60)]
    assert places(entries) == {"best": "1", "one": "2", "two": "2"}


def test_an_entry_of_one_seed_is_ranked_by_the_variance_between_the_seeds_of_others():
    best = better("best", 0.8, seed=1, images=60, seeds=(0,))
    assert places([best, entry("one", seed=2, images=60)]) == {"best": "1", "one": "2"}


def test_where_nobody_has_several_seeds_nothing_trained_is_ranked():
    entries = [better("best", 0.8, seed=1, seeds=(0,)), entry("one", seed=2, seeds=(0,))]
    detector = entry_of(untrained(submission("detector", seed=7), baseline=False))
    assert places([*entries, detector]) == {"best": "one seed", "one": "one seed", "detector": "not declared"}


@pytest.mark.parametrize(
    ("trained_on", "place"),
    [(None, "not declared"), ([], "elsewhere"), (["another"], "elsewhere"), (["another", "lama"], "seen")],
)
def test_a_detector_is_not_ranked_and_its_place_says_why(trained_on, place):
    values = untrained(submission("detector", seed=7), baseline=False)
    values["model"] = {**values["model"], "trained_on": trained_on}
    assert places([entry("net", seed=5), entry_of(values)]) == {"net": "1", "detector": place}


def test_a_matched_budget_and_a_baseline_are_not_ranked():
    entries = [
        entry("full", seed=5),
        entry_of(with_claims(submission("small", seed=4) | {"budget": "matched"})),
        entry_of(untrained(submission("trivial", seed=6))),
        entry_of(submission("prior", seed=8) | {"baseline": True}),
    ]
    assert places(entries) == {
        "full": "1",
        "small": "matched",
        "trivial": "baseline",
        "prior": "baseline",
    }


@pytest.mark.parametrize(("share", "place"), [(0.19, "1"), (0.21, "floods")])
def test_what_takes_more_than_a_fifth_of_untouched_images_for_manipulated_is_not_ranked(share, place):
    assert places([entry_of(flooded(improved("flood", 0.9), share)), entry("honest", seed=2)])["flood"] == place


def test_what_predicts_nearly_all_of_many_edited_images_is_not_ranked_whatever_it_does_on_untouched_ones():
    values = submission("flood", images=60)
    areas = {test: part for training in values["trainings"] for test, part in training["tests"].items()}
    for training in values["trainings"]:
        for test, part in training["tests"].items():
            if test != "authentic":
                for place in range(0, 60, 6):
                    area = areas[test]["tp"][place] + areas[test]["fn"][place]
                    part["tp"][place], part["fn"][place], part["fp"][place] = area, 0, 4096 - area
    found = places([entry_of(with_claims(values)), entry("honest", seed=2, images=60)])
    assert found == {"flood": "floods", "honest": "1"}


def test_what_was_not_tested_on_untouched_images_is_not_ranked_beside_what_was():
    values = submission("untested", seed=1)
    for training in values["trainings"]:
        training["tests"].pop("authentic")
    untested = entry_of(with_claims(values))
    assert places([untested, entry("honest", seed=2)])["untested"] == "untested"
    assert places([untested]) == {"untested": "1"}


def test_a_row_that_floods_and_copies_of_a_row_leave_the_variance_between_seeds_as_it_is():
    rows = [entry("one", seed=1), entry("two", seed=2)]
    alone = rank(rows).seeds
    constant = submission("flood", seed=3)
    for part in (part for training in constant["trainings"] for part in training["tests"].values()):
        areas = [tp + fn for tp, fn in zip(part["tp"], part["fn"], strict=True)]
        part.update(tp=areas, fn=[0] * len(areas), fp=[4096 - area for area in areas])
    copies = [entry(f"copy-{i}", seed=1) for i in range(3)]
    assert rank([*rows, entry_of(with_claims(constant)), *copies]).seeds == alone and alone.freedom == 2


def test_a_row_is_held_against_the_best_baseline_and_finds_something_only_if_surely_above_it():
    low, high = (entry_of(untrained(submission(name, seed=seed))) for name, seed in (("low", 6), ("high", 7)))
    rows = {
        row.entry.name: row for row in rank([better("good", 0.9, images=12), entry("fair", seed=3), low, high]).rows
    }
    best = max(low.claims.loo.iou, high.claims.loo.iou)
    for name in ("good", "fair"):
        found = rows[name]
        assert found.above.difference == pytest.approx(found.entry.claims.loo.iou - best, abs=2e-6)
        assert found.finds is (found.above.low > 0)
    assert rows["good"].finds and rows["low"].above is None


def test_a_gap_is_told_only_where_the_same_generator_row_beats_the_baselines():
    trivial = entry_of(untrained(submission("trivial", seed=6, images=60)))
    rows = {
        row.entry.name: row
        for row in rank([better("good", 0.9, images=60), entry("idle", seed=6, images=60), trivial]).rows
    }
    assert rows["good"].gap == rows["good"].entry.claims.gap is not None
    assert rows["idle"].entry.claims.gap is not None and rows["idle"].gap is None


def test_trust_needs_another_party_that_agrees():
    first = entry("first")
    again = about(entry("again", seed=9), reproduces="first", contact="another party", date=first.about.date)
    assert trust(first, [again]) == "reproduced"
    far = about(better("far", 0.9), reproduces="first", contact="another party")
    assert trust(first, [far]) == "self-reported"


@pytest.mark.parametrize(
    "contact", ["somebody 0", " Somebody  0", "SOMEBODY-0", "mailto:somebody0", "ｓｏｍｅｂｏｄｙ 0"]
)
def test_the_same_party_is_known_however_it_writes_its_contact(contact):
    first = entry("first")
    again = about(entry("again", seed=9), reproduces="first", contact=contact)
    assert party(again) == party(first) and trust(first, [again]) == "self-reported"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Jane Doe <Jane@X.org>", "jane@x.org", True),
        ("@jane", "https://github.com/jane/", True),
        ("Jane Doe, jane@x.org", "Jane Doe, jane@y.org", False),
    ],
)
def test_an_address_and_the_end_of_a_link_tell_the_party(one, other, is_same):
    parties = [party(about(entry(), contact=contact)) for contact in (one, other)]
    assert (parties[0] == parties[1]) is is_same


def test_another_method_is_no_reproduction_however_near_its_score():
    first = entry("first")
    other = about(entry("other", seed=9), reproduces="first", contact="another party", loss_expression="dice")
    assert trust(first, [other]) == "self-reported"


def test_a_byte_copy_and_an_earlier_run_are_no_reproduction():
    first = entry("first")
    copy = about(entry("copy"), reproduces="first", contact="another party")
    earlier = about(entry("earlier", seed=9), reproduces="first", contact="b", date=first.about.date.replace(year=2025))
    assert trust(first, [copy]) == trust(first, [earlier]) == "self-reported"


def test_a_reviewer_may_mark_a_row_as_confirmed_and_a_reproduction_counts_for_more():
    first = about(entry("first"), confirmed="by its authors")
    again = about(entry("again", seed=9), reproduces="first", contact="another party")
    assert trust(first, []) == "confirmed" and trust(first, [again]) == "reproduced"
