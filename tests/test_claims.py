"""Claims are made of the records alone; an entry keeps what comparing and ranking need, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from boards import PIXELS, entry_of, submission, submission_of, with_claims

from deeploc_bench.leaderboard.claims import claims_of, missing, pairs_of, records_of
from deeploc_bench.leaderboard.submission import About, read

KEPT = sorted((Path(__file__).parents[1] / "leaderboard/submissions").glob("*/*.json"))


def claims(values):
    whole = submission_of(values)
    return claims_of(whole, records_of(whole))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_the_claims_of_the_kept_submissions_are_those_of_their_records_to_the_last_digit(file):
    whole = read(file)
    assert repr(claims_of(whole, records_of(whole))) == repr(whole.claims)


def test_every_claim_is_the_mean_that_it_is_called():
    values = submission("entry")
    ious = {}
    alarms = []
    for training in values["trainings"]:
        for test, part in training["tests"].items():
            tp, fp, fn = (np.array(part[column]) for column in ("tp", "fp", "fn"))
            ious.setdefault(("+".join(training["train_generators"]), test), []).append(
                np.mean(tp / np.maximum(tp + fp + fn, 1))
            )
            if test == "authentic" and len(training["train_generators"]) > 1:
                alarms.append(np.mean(fp / PIXELS))
    found = claims(values)
    held_out = {"lama": "ldm+pluralistic", "ldm": "lama+pluralistic", "pluralistic": "lama+ldm"}
    assert found.loo.by_generator == pytest.approx(
        {test: np.mean(ious[train, test]) for test, train in held_out.items()}
    )
    assert found.loo.iou == pytest.approx(np.mean(list(found.loo.by_generator.values())))
    assert found.loo.spread == pytest.approx(
        np.std([np.mean([ious[held_out[test], test][seed] for test in held_out]) for seed in (0, 1)], ddof=1)
    )
    assert found.loo.low < found.loo.iou < found.loo.high
    assert found.worst == min(found.loo.by_generator.values())
    assert found.same.by_generator == pytest.approx({name: np.mean(ious[name, name]) for name in held_out})
    assert found.gap == found.same.iou - found.loo.iou
    assert found.cross["ldm"]["lama"] == pytest.approx(np.mean(ious["ldm", "lama"]))
    assert found.false_alarm_area == pytest.approx(np.mean(alarms))


def test_what_has_not_every_cell_and_seed_is_not_claimed():
    values = copy.deepcopy(submission("entry"))
    values["trainings"] = [t for t in values["trainings"] if t["train_generators"] != ["lama"] or t["seed"] == 0]
    for training in values["trainings"]:
        training["tests"].pop("authentic")
    found = claims(values)
    assert (found.same, found.cross, found.gap, found.false_alarm_area) == (None, None, None, None)
    whole = submission_of(values)
    assert missing(whole, records_of(whole), "loo") == []
    assert [(seed, *pair.train_generators) for seed, pair in missing(whole, records_of(whole), "same")] == [(1, "lama")]


def test_one_seed_has_no_spread():
    assert claims(submission("entry", seeds=(0,))).loo.spread is None


def test_an_entry_keeps_what_the_submission_is_about_but_no_records():
    values = submission("entry")
    entry, whole = entry_of(values), submission_of(values)
    assert type(entry.about) is About and entry.about.contact == whole.contact
    assert entry.claims == whole.claims
    assert len(entry.preds) == 2 * (3 + 9)  # of each seed: three held-out tests, nine of the single trainings
    assert [list(ious) for _, ious in entry.seed_ious] == [[0, 1]] * len(pairs_of("loo", whole.generators))


def test_an_entry_tells_submissions_of_other_images_apart():
    one, other = submission("one"), copy.deepcopy(submission("two", seed=1))
    assert entry_of(one).data == entry_of(other).data
    for training in other["trainings"]:
        if "lama" in training["tests"]:
            training["tests"]["lama"]["fn"][0] += 2**32  # the same in 32 bits
    first, second = entry_of(one).data, entry_of(with_claims(other)).data
    assert [what for what in first if first[what] != second[what]] == ["mask areas of lama"]
