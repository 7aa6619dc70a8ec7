"""Claims are made of the records alone; an entry keeps what comparing and ranking need, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from boards import PIXELS, entry_of, submission, submission_of, with_claims
from scipy import stats

from deeploc_bench.leaderboard.claims import claims_of, missing, records_of, rows_of
from deeploc_bench.leaderboard.submission import About, read

KEPT = sorted((Path(__file__).parents[1] / "leaderboard/submissions").glob("*/*.json"))


def claims(values):
    return recomputed(submission_of(values))


def recomputed(whole):
    records = records_of(whole)
    return claims_of(rows_of(whole, records))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_the_claims_of_the_kept_submissions_are_those_of_their_records_to_the_last_digit(file):
    whole = read(file)
    assert repr(recomputed(whole)) == repr(whole.claims)


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
        {test: np.mean(ious[train, test]) for test, train in held_out.items()}, abs=5e-7
    )
    assert found.loo.iou == pytest.approx(np.mean(list(found.loo.by_generator.values())), abs=1e-6)
    assert found.loo.spread == pytest.approx(
        np.std([np.mean([ious[held_out[test], test][seed] for test in held_out]) for seed in (0, 1)], ddof=1), abs=5e-7
    )
    assert 0 < found.loo.standard_error < 0.1
    assert found.worst == min(found.loo.by_generator.values())
    assert found.same.by_generator == pytest.approx({name: np.mean(ious[name, name]) for name in held_out}, abs=5e-7)
    assert found.gap == pytest.approx(found.same.iou - found.loo.iou, abs=1.1e-6)
    assert found.cross["ldm"]["lama"] == pytest.approx(np.mean(ious["ldm", "lama"]), abs=5e-7)
    assert found.false_alarm_area == pytest.approx(np.mean(alarms), abs=5e-7)


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


def test_a_claim_is_rounded_to_six_decimals():
    found = claims(submission("entry"))
    numbers = [
        found.loo.iou,
        found.loo.standard_error,
        found.loo.spread,
        found.worst,
        found.gap,
        found.false_alarm_area,
    ]
    numbers += [iou for row in found.cross.values() for iou in row.values()] + list(found.same.by_generator.values())
    assert all(value == float(f"{value:.6f}") for value in numbers)
    assert any(value != float(f"{value:.5f}") for value in numbers)


def test_the_standard_error_is_that_of_the_source_means():
    whole = submission("entry", generators=("a", "b"), images=12)
    means = []
    for generator, other in (("a", "b"), ("b", "a")):
        parts = [t["tests"][generator] for t in whole["trainings"] if t["train_generators"] == [other]]
        ious = np.mean([np.array(p["tp"]) / (np.array(p["tp"]) + p["fp"] + p["fn"]) for p in parts], axis=0)
        means.append(ious.reshape(6, 2).mean(axis=1))  # two images a source
    assert claims(whole).loo.standard_error == pytest.approx(stats.sem(np.mean(means, axis=0)), abs=5e-7)


def test_one_seed_has_no_spread():
    assert claims(submission("entry", seeds=(0,))).loo.spread is None


def test_an_entry_keeps_what_the_submission_is_about_but_no_records():
    values = submission("entry")
    entry, whole = entry_of(values), submission_of(values)
    assert type(entry.about) is About and entry.about.contact == whole.contact
    assert entry.claims == whole.claims
    assert len(entry.predictions) == 2 * (3 + 9)  # of each seed: three held-out tests, nine of the single trainings
    assert {name: len(rows.pairs) for name, rows in entry.rows.items()} == {"same": 3, "loo": 3, "cross": 9}
    assert entry.rows["loo"].mean.score.iou == pytest.approx(whole.claims.loo.iou, abs=5e-7)


def test_an_entry_tells_submissions_of_other_images_apart():
    one, other = submission("one"), copy.deepcopy(submission("two", seed=1))
    assert entry_of(one).data == entry_of(other).data
    for training in other["trainings"]:
        if "lama" in training["tests"]:
            training["tests"]["lama"]["fn"][0] += 2**32  # the same in 32 bits
    first, second = entry_of(one).data, entry_of(with_claims(other)).data
    assert [what for what in first if first[what] != second[what]] == ["mask areas of lama"]
