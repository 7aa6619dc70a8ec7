"""Tests on other suites in submissions: recomputed, held against those suites' manifests, and shown on the page."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from boards import PIXELS, board, counts, entry_of, manifest, scene, submission, with_claims
from msgspec import structs

from deeploc_bench.leaderboard.page import render, standings_of
from deeploc_bench.leaderboard.transfers import transfer_table
from deeploc_bench.leaderboard.verify import review

OTHER = ("blend", "glide")


def also_elsewhere(values, images=8):
    """The values of a submission whose trainings were tested on a suite of two generators, too."""
    random = np.random.default_rng(5)
    ids, sources, areas = scene(images, OTHER)
    tests = {**areas, "authentic": np.zeros(images, np.int64)}
    trainings = [
        {"identity": one["identity"], "tests": {test: counts(random, part) for test, part in tests.items()}}
        for one in values["trainings"]
    ]
    same = {"ids": ids, "sources": sources, "pixels": [PIXELS] * images}
    listed = {key: dict.fromkeys(tests, value) for key, value in same.items()}
    transfer = {"fingerprint": "f" * 32, "generators": list(OTHER), "trainings": trainings, **listed}
    return with_claims(copy.deepcopy(values | {"transfers": {"other": transfer}}))


GOOD = also_elsewhere(submission())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = board(tmp_path_factory.mktemp("transfers") / "board")
    (made / "suites/other.json").write_text(json.dumps(manifest(8, OTHER) | {"suite": "other"}))
    return made


def failures(folder, values):
    file = folder.parent / "incoming/submissions/synthetic/entry.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))
    (verdict,) = review(folder, [file])
    return verdict.failures


def test_tests_on_another_suite_are_recomputed(folder):
    assert failures(folder, GOOD) == []
    found = GOOD["claims"]["transfers"]["other"]
    first = next(one for one in GOOD["trainings"] if one["train_generators"] == ["lama"])
    both = [one["identity"] for one in GOOD["trainings"] if one["train_generators"] == ["lama"]]
    tests = [one["tests"]["blend"] for one in GOOD["transfers"]["other"]["trainings"] if one["identity"] in both]
    ious = [np.divide(t["tp"], np.add(np.add(t["tp"], t["fp"]), t["fn"])).mean() for t in tests]
    assert found["+".join(first["train_generators"])]["blend"] == pytest.approx(np.mean(ious), abs=1e-6)
    assert {*found["lama"]} == {"blend", "glide"}


def part(values):
    return values["transfers"]["other"]


def first(values):
    return part(values)["trainings"][0]


def raise_claim(values):
    values["claims"]["transfers"]["other"]["lama"]["blend"] += 0.001


def drop_training(values):
    part(values)["trainings"].pop()


def repeat_training(values):
    part(values)["trainings"][1] = part(values)["trainings"][0]


def drop_test(values):
    del first(values)["tests"]["glide"]


def more_found(values):
    first(values)["tests"]["blend"]["tp"][2] += 1


def more_pixels(values):
    first(values)["tests"]["blend"]["fp"][2] += PIXELS


def other_id(values):
    part(values)["ids"]["blend"] = ["image-0000x", *part(values)["ids"]["blend"][1:]]


def short_list(values):
    first(values)["tests"]["blend"]["fn"].pop()


def without_sources(values):
    del part(values)["sources"]["blend"]


def other_data(values):
    part(values)["fingerprint"] = "e" * 32


def other_suite(values):
    values["transfers"]["nowhere"] = values["transfers"].pop("other")


def own_suite(values):
    values["transfers"]["synthetic"] = values["transfers"].pop("other")


def copied_hashes(values):
    one = first(values)["tests"]["blend"]
    one["pred"] = ["0" * 16] * len(one["pred"])


WRONG = {
    "claims": (raise_claim,),
    "transfer": (drop_training, repeat_training, drop_test, own_suite),
    "area": (more_found,),
    "pixels": (more_pixels,),
    "ids": (other_id,),
    "lengths": (short_list, without_sources),
    "fingerprint": (other_data,),
    "manifest": (other_suite,),
    "pred": (copied_hashes,),
}


CASES = [(check, change) for check, changes in WRONG.items() for change in changes]


@pytest.mark.parametrize(("check", "change"), CASES, ids=[change.__name__ for _, change in CASES])
def test_what_is_wrong_with_them_is_refused_by_its_check(folder, check, change):
    values = copy.deepcopy(GOOD)
    change(values)
    found = failures(folder, values)
    assert check in {finding.check for finding in found}
    assert all("transfer" in finding.message or finding.check == "claims" for finding in found)


def test_the_page_shows_the_own_suite_beside_the_others():
    rows = [entry_of(GOOD), entry_of(submission("rival", seed=7))]
    page = render(standings_of(rows), {}, {})
    table = page.split("Trained here, tested on other suites too")[1].split("</details>")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    ious = GOOD["claims"]["transfers"]["other"]
    one = np.mean([np.mean([*by_test.values()]) for train, by_test in ious.items() if "+" not in train])
    assert lines[0] == ["entry", "trained on", "synthetic", "other"]
    assert lines[2] == ["entry", "one", f"{GOOD['claims']['same']['iou']:.3f}", f"{one:.3f}"]
    assert [line[:2] for line in lines[2:]] == [["entry", "one"], ["entry", "all but one"]]


def test_on_a_suite_of_two_generators_all_but_one_is_one():
    entry = entry_of(GOOD)
    claims = structs.replace(entry.claims, transfers={"other": {"a": {"x": 0.25}, "b": {"x": 0.75}}})
    about = structs.replace(entry.about, generators=("a", "b"))
    (standing,) = standings_of([replace(entry, about=about, claims=claims)]).values()
    assert [line[3] for line in transfer_table(standing.rows).lines] == ["0.500", "0.500"]
