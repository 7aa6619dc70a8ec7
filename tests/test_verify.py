# ruff: noqa: E501
"""Every kind of tampered or malformed submission is refused or flagged by the check that caught it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import msgspec
import pytest
from boards import board, entry_of, improved, manifest, outline, scored, submission, untrained, with_claims, write

from deeploc_bench.contract.errors import DataError, SubmissionError
from deeploc_bench.contract.files import MOST_BYTES
from deeploc_bench.data.suites import Manifest
from deeploc_bench.leaderboard.folder import read_manifests, unlisted
from deeploc_bench.leaderboard.verify import MOST_FOUND, examine, review, verified

GOOD = submission()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return board(tmp_path_factory.mktemp("verify") / "board", [submission("rival", seed=7)])


def checked(folder, values, name="entry", **options):
    """Verify values (or raw bytes) as a file beside the board, without letting it into the board."""
    content = values if isinstance(values, bytes) else json.dumps(values).encode()
    file = folder.parent / "incoming" / "submissions" / "synthetic" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    (verdict,) = review(folder, [file], **options)
    return verdict


def test_a_sound_submission_passes(folder):
    verdict = checked(folder, GOOD)
    assert (verdict.failures, [one.check for one in verdict.warnings if one.check != "best"]) == ([], [])


def loo(values, place=0):
    """Return the place-th loo training."""
    return [training for training in values["trainings"] if len(training["train_generators"]) > 1][place]


def held_out(values, place=0):
    """Return the records of the place-th loo training on its held-out generator."""
    training = loo(values, place)
    (test,) = {*values["generators"]} - {*training["train_generators"]}
    return training["tests"][test]


def put(*path, value):
    """Return a change that sets one value."""

    def change(values):
        for step in path[:-1]:
            values = values[step]
        values[path[-1]] = value

    return change


def better(values):
    """One more pixel found, the claims left as they were."""
    held_out(values)["tp"][3] += 1
    held_out(values)["fn"][3] -= 1


def better_and_claimed(values):
    better(values)
    held_out(values)["tp"][4] += 50
    values |= with_claims(values)


def fewer_false_alarms(values):
    held_out(values)["fp"][0] = 0


def half_of_cross(values):
    """One cell off the diagonal is gone; `same` is still complete."""
    (training,) = [t for t in values["trainings"] if (t["train_generators"], t["seed"]) == (["lama"], 1)]
    del training["tests"]["ldm"]
    values["claims"]["cross"] = None


def no_pixels(values):
    values["pixels"]["authentic"] = [0] * 12


def dotted(values):
    """`cross.a.b` and `cross` / `a.b` are not one place."""
    loo = values["claims"]["loo"]["by_generator"]
    loo["lama.x"] = loo["lama"]


EMPTY = {"tp": [], "fp": [], "fn": [], "pred": []}


def swap(values):
    part = held_out(values)
    for column in ("tp", "fp", "fn"):
        part[column][0], part[column][1] = part[column][1], part[column][0]
    values |= with_claims(values)


def too_many_pixels(values):
    held_out(values)["fp"][2] = 5000
    values |= with_claims(values)


def without(path):
    def change(values):
        for step in path[:-1]:
            values = values[step]
        del values[path[-1]]

    return change


def drop_cell(values):
    values["trainings"].remove(loo(values))


def drop_same(values):
    values["trainings"] = [t for t in values["trainings"] if t["train_generators"] != ["lama"]]


def drop_test(values):
    loo(values)["tests"].pop("lama")


def extra_training(values):
    values["trainings"].append({**copy.deepcopy(loo(values)), "train_generators": ["lama", "ldm", "pluralistic"]})


def trained_on_held_out(values):
    loo(values)["train_generators"] = ["lama", "ldm", "pluralistic"]


def reorder(values):
    for name in values["ids"]:
        values["ids"][name] = values["ids"][name][::-1]


def other_source(values):
    values["sources"]["ldm"][0] = "another"
    values |= with_claims(values)


def forged_manifest(values):
    for part in ("ids", "sources", "pixels"):
        values[part]["lama"] = values[part]["lama"][:-1]
    for training in values["trainings"]:
        for test, part in training["tests"].items():
            if test == "lama":
                training["tests"][test] = {column: listed[:-1] for column, listed in part.items()}
    values |= with_claims(values)


# a change of the sound submission, and the check that refuses it
TAMPERED = {
    "an improved count": (better, "claims"),
    "an improved count with claims to match": (better_and_claimed, "area"),
    "false alarms left out": (fewer_false_alarms, "claims"),
    "two images swapped": (swap, "area"),
    "more pixels than there are": (too_many_pixels, "pixels"),
    "a negative count": (lambda v: held_out(v)["fp"].__setitem__(0, -1), "schema"),
    "a count that is no whole number": (lambda v: held_out(v)["tp"].__setitem__(0, 1.5), "schema"),
    "a count as text": (lambda v: held_out(v)["tp"].__setitem__(0, "9"), "schema"),
    "a huge count": (lambda v: held_out(v)["tp"].__setitem__(0, 10**30), "schema"),
    "a claimed mean": (put("claims", "loo", "iou", value=0.99), "claims"),
    "a claim off by the last digit": (lambda v: v["claims"]["loo"].update(iou=v["claims"]["loo"]["iou"] + 1e-6), "claims"),
    "a claimed standard error": (put("claims", "loo", "standard_error", value=0.0), "claims"),
    "more decimals than a claim has": (lambda v: v["claims"]["loo"].update(iou=v["claims"]["loo"]["iou"] + 1e-9), "claims"),
    "a day that is still to come": (put("date", value="2999-01-01"), "date"),
    "a day before anybody did such research": (put("date", value="0001-01-01"), "date"),
    "a reproduction of nothing": (put("reproduces", value="nobody"), "reproduces"),
    "a reproduction of itself": (put("reproduces", value="entry"), "reproduces"),
    "a claimed spread": (put("claims", "loo", "spread", value=0.0), "claims"),
    "a claimed gap": (put("claims", "gap", value=0.0), "claims"),
    "a claim of a generator that is not there": (put("claims", "loo", "by_generator", "dalle", value=0.5), "claims"),
    "a claim left out": (lambda v: v["claims"]["loo"]["by_generator"].pop("ldm"), "claims"),
    "a dropped loo cell": (drop_cell, "cells"),
    "a dropped test": (lambda v: held_out(v) and loo(v)["tests"].clear(), "cells"),
    "half of the same protocol": (drop_same, "cells"),
    "a training twice": (lambda v: v["trainings"].append(v["trainings"][0]), "cells"),
    "a training of no protocol": (extra_training, "cells"),
    "trained on the held-out generator": (trained_on_held_out, "cells"),
    "trained on a generator of nobody": (lambda v: loo(v).update(train_generators=["lama", "dalle"]), "held-out"),
    "pretraining that has seen a generator": (put("pretraining_generators", value=["ldm"]), "held-out"),
    "a seed that is not declared": (put("seeds", value=[0]), "seeds"),
    "a declared seed without records": (put("seeds", value=[0, 1, 2]), "cells"),
    "a seed twice": (put("seeds", value=[0, 0, 1]), "seeds"),
    "a list too short": (lambda v: held_out(v)["fp"].pop(), "lengths"),
    "pixels too short": (lambda v: v["pixels"]["lama"].pop(), "lengths"),
    "ids in another order": (reorder, "ids"),
    "an id twice": (lambda v: v["ids"]["lama"].__setitem__(1, v["ids"]["lama"][0]), "ids"),
    "an id of no image": (lambda v: v["ids"]["lama"].__setitem__(11, "image-9999"), "ids"),
    "an image left out everywhere": (forged_manifest, "ids"),
    "another source": (other_source, "sources"),
    "other pixels": (lambda v: v["pixels"]["lama"].__setitem__(0, 9999), "pixels"),
    "another data fingerprint": (put("fingerprint", value="0" * 32), "fingerprint"),
    "a generator left out": (put("generators", value=["lama", "ldm"]), "generators"),
    "open passed off as closed": (put("recipe", "epochs", value=200), "division"),
    "undeclared pretraining in the closed division": (put("pretraining", value=None), "division"),
    "a recipe that cannot be": (put("recipe", "lr", value=-1.0), "recipe"),
    "a recipe key of nobody": (put("recipe", "luck", value=1), "recipe"),
    "another name than the file's": (put("name", value="winner"), "name"),
    "another suite": (put("suite", value="photos"), "place"),
    "a path in the name": (put("name", value="../../etc/passwd"), "schema"),
    "HTML in the name": (put("name", value="<script>alert(1)</script>"), "schema"),
    "a script as a link": (put("code", value="javascript:alert(1)"), "schema"),
    "http instead of https": (put("reference", value="http://example.org"), "schema"),
    "a link with blanks and pipes": (put("code", value="https://example.org/a b|c"), "schema"),
    "an unknown field": (put("rank", value=1), "schema"),
    "a field left out": (without(["seeds"]), "schema"),
    "an earlier schema version": (put("schema", value=1), "version"),
    "another schema version": (put("schema", value=3), "version"),
    "no schema version": (without(["schema"]), "version"),
    "a day that is not in the calendar": (put("date", value="2026-02-30"), "schema"),
    "a trained model without a recipe": (put("recipe", value=None), "recipe"),
    "a tested generator that has no ids": (lambda v: v["trainings"][0]["tests"].update(unknown=EMPTY), "ids"),
    "pixels of images that have no ids": (lambda v: v["ids"].pop("authentic") and [t["tests"].pop("authentic") for t in v["trainings"]], "ids"),
    "sources of a generator of nobody": (lambda v: v["sources"].update(dalle=[]), "ids"),
    "no generators": (put("generators", value=[]), "generators"),
    "one generator": (put("generators", value=["lama"]), "generators"),
    "a generator twice": (put("generators", value=["lama", "lama", "ldm"]), "generators"),
    "authentic images as a generator": (put("generators", value=["authentic", "lama", "ldm"]), "generators"),
    "generators without ids": (lambda v: v["ids"].clear(), "ids"),
    "no images": (lambda v: v["ids"].update(lama=[]), "ids"),
    "no seeds": (put("seeds", value=[]), "seeds"),
    "no trainings": (put("trainings", value=[]), "cells"),
    "half of the cross protocol": (half_of_cross, "cells"),
    "counts whose sum is beyond an int64": (lambda v: held_out(v).update(fn=[10**18] * 12), "schema"),
    "pixels of none": (no_pixels, "pixels"),
    "parameters beyond a float": (lambda v: loo(v)["environment"].update(parameters=10**400), "schema"),
    "a seed beyond everything": (put("seeds", value=[10**4000]), "schema"),
    "a false claim that a joined key would hide": (dotted, "claims"),
    "a bad hash": (lambda v: held_out(v)["pred"].__setitem__(0, "xyz"), "schema"),
    "a bad date": (put("date", value="yesterday"), "schema"),
    "an identity twice": (lambda v: v["trainings"][0].update(identity=v["trainings"][1]["identity"]), "identity"),
    "hashes of nothing": (lambda v: held_out(v).update(pred=["0" * 16] * 12), "pred"),
    "an infinite lr": (put("recipe", "lr", value=10**400), "recipe"),
    "more seeds than anybody runs": (put("seeds", value=[*range(65)]), "schema"),
    "more generators than a suite has": (put("generators", value=[f"g{k:02}" for k in range(65)]), "schema"),
    "more trainings than there can be": (lambda v: v.update(trainings=v["trainings"] * 400), "schema"),
    "text without end": (put("contact", value="x" * 10_000), "schema"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_tampered_with_is_refused_by_its_check(folder, what):
    change, check = TAMPERED[what]
    values = copy.deepcopy(GOOD)
    change(values)
    verdict = checked(folder, values)
    found = [finding.check for finding in verdict.failures]
    assert check in found, found
    assert verdict.entry is None or check in ("area", "reproduces")


RAW = {
    "not JSON": (b"{", "json"),
    "an empty file": (b"", "json"),
    "no object": (b"[]", "schema"),
    "binary": (b"\xff\xfe\x00", "json"),
    "NaN": (json.dumps({**GOOD, "schema": 2, "claims": {"worst": float("nan")}}).encode(), "nan"),
    "infinity": (b'{"schema": 2, "seeds": [Infinity]}', "nan"),
    "a key twice": (b'{"schema": 2, "name": "a", "name": "b"}', "duplicate-key"),
    "deep nesting": (b'{"schema": 2, "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nesting"),
    "a million lists": (b'{"x": [' + b"[]," * 10**6 + b"0]}", "size"),
    "too large": (b" " * (MOST_BYTES + 1), "size"),
}


@pytest.mark.parametrize("what", RAW)
def test_what_is_malformed_is_refused_without_a_traceback(folder, what):
    content, check = RAW[what]
    assert [finding.check for finding in checked(folder, content).failures] == [check]


def test_a_file_of_nothing_but_faults_ends_with_a_list_that_can_be_read(folder):
    values = copy.deepcopy(GOOD)
    values["trainings"] = [{**t, "tests": {f"x{k}": EMPTY for k in range(20)}} for t in values["trainings"]]
    assert len(checked(folder, values).failures) == MOST_FOUND


def test_a_model_that_is_never_trained_has_one_identity_and_one_set_of_records(folder):
    values = json.loads(json.dumps(untrained(GOOD)))  # of which no two trainings share a list
    for training in values["trainings"]:
        training["identity"] = "a" * 64
    assert checked(folder, values).is_ok
    held_out(values)["pred"][0] = "b" * 16
    assert {one.check for one in checked(folder, values).failures} == {"identity"}


def test_a_suite_without_a_manifest_is_refused_with_the_way_to_one(tmp_path):
    folder = board(tmp_path / "board", [GOOD])
    (folder / "suites/synthetic.json").unlink()
    assert [str(one) for one in checked(folder, GOOD).failures] == [unlisted("synthetic")]
    assert "deeploc-bench data manifest synthetic > leaderboard/suites/synthetic.json" in unlisted("synthetic")


def test_data_that_lack_a_test_only_generator_are_the_same_to_all_others(tmp_path):
    folder, values = board(tmp_path / "board"), copy.deepcopy(GOOD)
    whole = manifest(12)
    for place, part in enumerate(whole["generators"].values()):
        part["splits"] = {"test": {"samples": 12, "fingerprint": f"{place:032x}"}}
    whole["generators"]["extra"] = {
        "role": "test-only",
        "test": [],
        "splits": {"test": {"samples": 0, "fingerprint": "e" * 32}},
    }
    suite = msgspec.convert(whole, Manifest)
    for tested in ([*suite.generators], [*values["ids"]]):
        (folder / "suites/synthetic.json").write_text(
            json.dumps(whole | {"fingerprint": suite.fingerprint_of(suite.generators)})
        )
        values["fingerprint"] = suite.fingerprint_of(tested)
        assert checked(folder, values).is_ok, tested
    values["fingerprint"] = suite.fingerprint_of(["lama"])
    assert {one.check for one in checked(folder, values).failures} == {"fingerprint"}


DAMAGED = {
    "a negative area": ("generators", "lama", "test", 0, "mask_area", -1),
    "a role of nobody": ("generators", "lama", "role", "\x1b[31m"),
    "a fingerprint that is none": ("fingerprint", "x\n"),
    "fewer images than are told": ("generators", "lama", "splits", {"test": {"samples": 9, "fingerprint": None}}),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_manifest_that_cannot_be_is_one_line_that_names_it(tmp_path, what):
    *path, key, value = DAMAGED[what]
    whole = inner = manifest(12)
    for step in path:
        inner = inner[step]
    inner[key] = value
    folder = board(tmp_path / "board")
    (folder / "suites/synthetic.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=r"synthetic\.json.*deeploc-bench data manifest synthetic") as caught:
        read_manifests(folder)
    assert str(caught.value).isprintable()


def test_several_failures_are_listed_at_once(folder):
    values = copy.deepcopy(GOOD)
    for what in ("another name than the file's", "another data fingerprint", "a seed twice", "a dropped loo cell"):
        TAMPERED[what][0](values)
    found = {finding.check for finding in checked(folder, values).failures}
    assert {"name", "fingerprint", "seeds", "cells"} <= found


def test_numbers_of_an_accepted_file_may_not_change_but_its_words_may(tmp_path):
    base = board(tmp_path / "base", [GOOD])
    words = {**GOOD, "license": "Apache-2.0", "reference": None, "confirmed": "by mail"}
    assert not checked(base, words, base=base).failures
    other = submission("entry", seed=3)
    assert {finding.check for finding in checked(base, other, base=base).failures} == {"base"}


def test_a_copied_entry_is_flagged_and_is_no_reproduction_either(tmp_path):
    folder = board(tmp_path / "board", [GOOD])
    copied = {**copy.deepcopy(GOOD), "name": "copied", "contact": "another party"}
    assert "copy" in [finding.check for finding in checked(folder, copied, "copied").warnings]
    told = {
        finding.check: str(finding) for finding in checked(folder, {**copied, "reproduces": "entry"}, "copied").warnings
    }
    assert told["reproduces"] == "it is no reproduction of 'entry': its counts are copies" and "copy" in told


NO_REPRODUCTION = {
    "the contact is the same party's": {"contact": "  SOMEBODY  0. "},
    "it is older, of 2025-12-31": {"date": "2025-12-31"},
}


@pytest.mark.parametrize("reason", NO_REPRODUCTION)
def test_what_is_no_reproduction_is_told(tmp_path, reason):
    folder = board(tmp_path / "board", [GOOD])
    again = {**submission("again", seed=1), "reproduces": "entry", **NO_REPRODUCTION[reason]}
    verdict = checked(folder, again, "again")
    assert verdict.is_ok and reason in " ".join(str(finding) for finding in verdict.warnings)


def test_a_copy_whose_masks_are_named_otherwise_is_a_copy_all_the_same(tmp_path):
    folder = board(tmp_path / "board", [GOOD])
    copied = {**copy.deepcopy(GOOD), "name": "copied", "contact": "another party", "reproduces": "entry"}
    for training in copied["trainings"]:
        for part in training["tests"].values():
            part["pred"][0] = "0" * 16
    assert {"copy", "reproduces"} <= {finding.check for finding in checked(folder, copied, "copied").warnings}


@pytest.mark.parametrize("change", [{"loss_expression": "dice"}, {"budget": "matched"}, {"recipe": "lr"}])
def test_what_is_of_another_method_reproduces_nothing(tmp_path, change):
    folder = board(tmp_path / "board", [GOOD])
    again = {**copy.deepcopy(submission("again", seed=1)), "contact": "another party", "reproduces": "entry"}
    again |= {"recipe": again["recipe"] | {"lr": 0.5}} if "recipe" in change else change
    again["loss"][0]["name"] = again["loss_expression"]
    found = [str(finding) for finding in checked(folder, again, "again").failures]
    assert found == ["reproduces 'entry', which is of another model, loss, recipe or budget"]


def test_a_mark_of_confirmation_and_a_baseline_are_shown_to_the_reviewer(folder):
    marked = {**GOOD, "confirmed": "by mail of the authors, 2026-02-01"}
    for one in (marked, {**marked, "baseline": True}):
        assert "by mail of the authors" in " ".join(map(str, checked(folder, one).warnings))
    assert "baseline" in [finding.check for finding in checked(folder, {**GOOD, "baseline": True}).warnings]


def test_predictions_that_fill_a_tenth_of_the_images_are_flagged(folder):
    values = copy.deepcopy(GOOD)
    part = held_out(values)
    for place in (0, 1):
        whole = part["tp"][place] + part["fn"][place]
        part["tp"][place], part["fn"][place], part["fp"][place] = whole, 0, 4096 - whole
    found = [str(finding) for finding in checked(folder, with_claims(values)).warnings]
    assert any("predictions are full on 17% of the images" in text for text in found)


def test_a_file_accepted_under_an_earlier_schema_may_be_refreshed_and_nothing_else(tmp_path):
    base = board(tmp_path / "base", [GOOD])
    file = base / "submissions/synthetic/entry.json"
    file.write_text(json.dumps({**GOOD, "schema": 1, "claims": {"loo": {"low": 0.1}}}))
    new = board(tmp_path / "new", [GOOD])
    assert not checked(new, GOOD, base=base).failures
    assert {finding.check for finding in checked(new, submission("entry", seed=3), base=base).failures} == {"base"}


def test_no_spread_and_trivial_predictions_are_flagged(folder):
    values = copy.deepcopy(GOOD)
    for place in range(6):
        part, first = held_out(values, place), held_out(values, place % 3)
        whole = [tp + fn for tp, fn in zip(part["tp"], part["fn"], strict=True)]
        part.update(tp=[0] * 12, fp=[0] * 12, fn=whole, pred=first["pred"])
    found = {finding.check for finding in checked(folder, with_claims(values)).warnings}
    assert {"spread", "trivial"} <= found


def test_where_the_manifest_lists_no_images_the_areas_must_agree_with_the_other_submissions(tmp_path):
    folder = outline(board(tmp_path / "board", [submission("first")]))
    assert not checked(folder, submission("entry", seed=5)).failures
    values = copy.deepcopy(submission("entry", seed=5))
    better_and_claimed(values)
    assert {finding.check for finding in checked(folder, values).failures} == {"area"}


def larger_masks(values):
    """Every mask of one generator is a pixel larger than everybody else's."""
    for training in values["trainings"]:
        if "ldm" in training["tests"]:
            training["tests"]["ldm"]["fn"][4] += 1
    values |= with_claims(values)


def other_ids(values):
    values["ids"]["ldm"] = [f"x{id}" for id in values["ids"]["ldm"]]


OTHER_DATA = {
    "masks": (larger_masks, "area"),
    "ids": (other_ids, "ids"),
    "sources": (other_source, "sources"),
    "pixels": (lambda v: v["pixels"]["lama"].__setitem__(0, 9999), "pixels"),
    "training data": (put("fingerprint", value="0" * 32), "fingerprint"),
}


@pytest.mark.parametrize("what", OTHER_DATA)
def test_where_the_manifest_lists_no_images_a_file_is_held_against_what_was_accepted(tmp_path, what):
    change, check = OTHER_DATA[what]
    folder = outline(board(tmp_path / "board", [submission("first")]))
    values = copy.deepcopy(submission("entry", seed=5))
    change(values)
    verdict = checked(folder, values)
    assert {finding.check for finding in verdict.failures} == {check}
    assert "are not those of 'first'" in str(verdict.failures[0])


def message_of(folder, change, check):
    values = copy.deepcopy(GOOD)
    change(values)
    return next(str(finding) for finding in checked(folder, values).failures if finding.check == check)


def test_messages_name_the_first_that_differs_and_the_cure(folder):
    told = message_of(folder, lambda v: v["ids"]["lama"].__setitem__(2, "image-0002x"), "ids")
    assert told == (
        "ids of lama are not those of the suite's manifest: number 3 is 'image-0002x', the manifest has 'image-0002'; "
        "see 'deeploc-bench data manifest synthetic'"
    )
    assert "11, the manifest has 12" in message_of(folder, forged_manifest, "ids")
    assert "number 2, 'image-0000', follows 'image-0000'" in message_of(folder, TAMPERED["an id twice"][0], "ids")
    told = message_of(folder, better_and_claimed, "area")
    assert "seed 0, trained on ldm+pluralistic, test lama: tp + fn of image-0004 is" in told
    assert "of image-0002 is" in message_of(folder, too_many_pixels, "pixels")
    told = message_of(folder, drop_cell, "cells")
    assert "loo is required: 1 of its tests are missing, the first of seed 0, trained on ldm+pluralistic" in told
    assert "--protocol loo" in told
    assert "appears twice" in message_of(folder, TAMPERED["a training twice"][0], "cells")


def test_a_bad_file_stops_no_other(folder, tmp_path):
    bad = [write(tmp_path, content, f"bad-{number}") for number, (content, _) in enumerate(RAW.values())]
    folders = tmp_path / "submissions" / "synthetic"
    good = write(tmp_path, GOOD)
    verdicts = review(folder, [*bad, tmp_path / "missing.json", folders, good])
    assert [verdict.is_ok for verdict in verdicts] == [False] * (len(bad) + 2) + [True]
    assert [verdict.failures[0].check for verdict in verdicts[-3:-1]] == ["file", "file"]


def test_baselines_and_tested_detectors_pass_and_are_not_warned_of_as_trivial(folder):
    for changes in ({}, {"baseline": True}, {"baseline": False}):
        verdict = checked(folder, untrained(copy.deepcopy(GOOD), **changes))
        assert verdict.is_ok, verdict.findings


def test_a_detector_is_told_of_and_no_claim_of_it_is_compared_with_the_best_known(folder):
    for trained_on, words in ((None, "elsewhere (not declared)"), (["lama"], "elsewhere (lama)")):
        values = improved("entry", 0.9)
        values["model"] = {**values["model"], "trained_on": trained_on, "weights": "ab" * 32}
        (warning,) = checked(folder, untrained(values, baseline=False)).warnings
        assert warning.check == "detector" and words in str(warning)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_expression": "dice"}, "loss_expression 'dice'; of its terms it is 'jaccard'"),
        ({"loss_expression": "jaccard(smooth=1)"}, "loss_expression 'jaccard(smooth=1)'; of its terms it is 'jaccard'"),
        ({"loss": {"parameters": {"smooth": 1.0}}}, "'jaccard'; of its terms it is 'jaccard(smooth=1)'"),
        ({"loss": {"weight": 0.5}}, "'jaccard'; of its terms it is '0.5*jaccard'"),
        (
            {"loss": {"name": "own", "source": "0" * 16}, "loss_expression": "own"},
            "the source of loss 'own' is not the",
        ),
        ({"model": {"trained_on": ["lama"]}}, "trained_on is only for a detector that is only tested; leave it null"),
    ],
)
def test_a_loss_expression_is_that_of_its_terms_and_only_a_detector_declares_more(folder, changes, message):
    values = copy.deepcopy(GOOD)
    values["loss"][0] |= changes.get("loss", {})
    values["model"] = {**values["model"], **changes.get("model", {})}
    values["loss_expression"] = changes.get("loss_expression", "jaccard")
    (failure,) = checked(folder, values).failures
    assert message in str(failure)


def test_parameters_and_the_models_own_loss_pass(folder):
    values = copy.deepcopy(GOOD)
    own = {**values["model"], "name": "own", "weight": 1.0}
    values["loss"] = [own, {**values["loss"][0], "weight": 0.5, "parameters": {"smooth": 1.0}}]
    assert checked(folder, values | {"loss_expression": "own+0.5*jaccard(smooth=1)"}).is_ok


def test_scored_predictions_pass_and_a_reader_is_told(folder):
    verdict = checked(folder, scored(submission(seed=3)))
    assert (verdict.failures, verdict.warnings[0].check) == ([], "scored")


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        (dict, {"model": {**GOOD["model"], "source": None}}),
        (dict, {"trainings": [{**GOOD["trainings"][0], "environment": None}, *GOOD["trainings"][1:]]}),
        (untrained, {"model": {**GOOD["model"], "source": None}}),
        (scored, {"model": GOOD["model"]}),
        (scored, {"trainings": GOOD["trainings"]}),
        (scored, {"baseline": None}),
        (scored, {"recipe": GOOD["recipe"]}),
    ],
)
def test_only_what_was_made_elsewhere_has_no_source_and_no_environment(folder, made, changes):
    failures = checked(folder, {**made(GOOD), **changes}).failures
    assert [one.check for one in failures] == ["origin"]


def test_a_better_entry_than_the_best_known_is_flagged(folder):
    checks = [finding.check for finding in checked(folder, improved("entry", 0.9)).warnings]
    assert checks == ["best"] * 3


@pytest.mark.parametrize("damage", ["{", '{"schema": 1}', '{"schema": 2}', '"x"'])
def test_a_damaged_manifest_is_one_clear_message(tmp_path, damage):
    folder = board(tmp_path / "board")
    (folder / "suites/synthetic.json").write_text(damage)
    with pytest.raises(DataError, match="synthetic.json.*deeploc-bench data manifest synthetic"):
        read_manifests(folder)


def test_a_manifest_of_another_suite_is_refused(tmp_path):
    folder = board(tmp_path / "board")
    (folder / "suites/other.json").write_text(json.dumps(manifest(12)))
    with pytest.raises(DataError, match="is of suite 'synthetic', not 'other'"):
        read_manifests(folder)


def test_a_damaged_accepted_file_is_told_of_and_stops_nothing(tmp_path):
    base = board(tmp_path / "base")
    write(base, b"{", "entry")
    verdict = examine(write(tmp_path / "incoming", GOOD), read_manifests(base), base)
    assert [finding.check for finding in verdict.failures] == ["base"]


def test_what_would_be_refused_is_refused_before_it_is_written(folder):
    values = copy.deepcopy(GOOD)
    drop_cell(values)
    with pytest.raises(SubmissionError, match="would refuse it.*\n  error .cells. loo is required"):
        verified(json.dumps(values).encode(), folder / "entry.json", {})
    assert verified(json.dumps(GOOD).encode(), folder / "entry.json", {}).claims == entry_of(GOOD).claims


def test_the_command_lists_failures_and_needs_no_torch(deeploc, tmp_path):
    folder = board(tmp_path / "board", [GOOD])
    values = copy.deepcopy(GOOD)
    better(values)
    bad = write(tmp_path / "incoming", json.dumps({**values, "name": "bad"}).encode(), "bad")
    good = folder / "submissions/synthetic/entry.json"
    done = deeploc("verify", good, bad, "--leaderboard", folder, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, [entry["ok"] for entry in report]) == (1, [True, False])
    assert {failure["check"] for failure in report[1]["failures"]} == {"claims"}
    assert [sorted(entry) for entry in report] == [["failures", "file", "ok", "warnings"]] * 2
    assert all(sorted(failure) == ["check", "message"] for failure in report[1]["failures"])
    lines = deeploc("verify", good, bad, "--leaderboard", folder).stdout.splitlines()
    assert (lines[0], f"FAILED  {bad}" in lines) == (f"ok  {good}", True)
    assert any(line.startswith("  error [claims] 'loo.iou' is claimed as ") for line in lines)
    code = f"import sys; sys.argv = ['x', 'verify', {str(good)!r}, '--leaderboard', {str(folder)!r}]\n"
    code += "from deeploc_bench.cli import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
