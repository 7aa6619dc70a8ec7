"""Whatever is in a file, verifying it ends with a verdict, and what is called sound is sound."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from boards import board, submission, untrained, with_claims
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeploc_bench.leaderboard.page import render, standings_of
from deeploc_bench.leaderboard.verify import Verdict, compare, examine, read_manifests

SEEDS = [submission("entry", images=4), submission("entry", images=4, seeds=(0,), generators=("a.b", "c"))]
SEEDS.append(untrained(submission("entry", images=4)))
FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))

integers = st.sampled_from([-1, 0, 1, 2, 3, 4096, 10**10, 10**10 + 1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400])
floats = st.sampled_from([-1.0, 0.0, -0.0, 0.5, 1.0, 1e-320, 1e300, math.nan, math.inf, -math.inf])
texts = st.sampled_from(
    ["", "x", "lama", "ldm", "authentic", "entry", "quick", "a\n", "\n", "\x00", "\x1b[31m", "\ud800", "é", "a" * 300]
    + ["f" * 32, "0" * 16, "image-0001", "photo-0000", "2026-02-30", "2026-01-01", "9999-12-31", "full", "matched"]
    + ["https://example.org/\n", "javascript:x", "../../x", "cross", "same", "untrained", "closed", "open", "none"]
)
leaves = st.one_of(st.none(), st.booleans(), integers, floats, texts)
names = st.sampled_from(["lama", "ldm", "authentic", "c", "x", "tp", "loo"])
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def place_in(draw, value):
    """Return a container somewhere in a value, and one of its keys: each level is as likely as the next."""
    while True:
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        if not isinstance(value[key], (dict, list)) or not value[key] or draw(st.integers(0, 2)) == 0:
            return value, key
        value = value[key]


def other_key(draw, parent):
    return draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))


def replaced(draw, parent, key):
    parent[key] = draw(values)


def deleted(draw, parent, key):
    del parent[key]


def emptied(draw, parent, key):
    parent[key] = type(parent[key])()


def nudged(draw, parent, key):
    if isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] += draw(st.sampled_from([-1, 1, 5000, -parent[key], 10**30, math.inf]))


def renamed(draw, parent, key):
    if isinstance(parent, dict):
        parent[draw(names)] = parent.pop(key)


def added(draw, parent, key):
    if isinstance(parent, dict):
        parent[draw(names)] = draw(st.sampled_from([[], {"tp": [], "fp": [], "fn": [], "pred": []}]))


def copied(draw, parent, key):
    parent[key] = copy.deepcopy(parent[other_key(draw, parent)])


def doubled(draw, parent, key):
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))


def swapped(draw, parent, key):
    other = other_key(draw, parent)
    parent[key], parent[other] = parent[other], parent[key]


def turned(draw, parent, key):
    if isinstance(parent[key], list):
        parent[key].reverse()


STRANGE = [replaced, deleted, renamed, copied]
"""Changes that mostly break the schema."""
SUBTLE = [deleted, emptied, nudged, renamed, added, copied, doubled, swapped, turned]
"""Changes that mostly keep it, made where the records are."""
RECORDS = ("seeds", "generators", "ids", "sources", "pixels", "trainings", "trainings", "trainings", "claims")


@st.composite
def mutants(draw, changes, tops, least_claimed):
    """Return the text of a submission of which one or two places were changed, then perhaps claimed to match."""
    value = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 2))):
        top = draw(st.sampled_from([key for key in tops if key in value] or ["schema"]))
        is_deep = isinstance(value.get(top), (dict, list)) and value[top] and draw(st.integers(0, 5))
        parent, key = place_in(draw, value[top]) if is_deep else (value, top)
        draw(st.sampled_from(changes))(draw, parent, key)
    if draw(st.integers(0, 9)) >= least_claimed:
        with contextlib.suppress(Exception):  # what cannot be claimed of keeps its claims
            value = with_claims(value)
    infinite = draw(st.sampled_from(["Infinity", "1e999"]))
    return json.dumps(value).replace("Infinity", infinite).encode()


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Return the manifest of the first kind of seed; for the other there is none."""
    return read_manifests(board(tmp_path_factory.mktemp("fuzz") / "board", images=4))


def examined(content, manifests):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "submissions/synthetic/entry.json"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        verdict = examine(file, manifests)
        assert isinstance(verdict, Verdict)
        assert verdict.is_ok == (verdict.entry is not None)
        for finding in verdict.findings:
            f"{finding.check} {finding.line}".encode()
        return compare([verdict, examine(file, manifests)])[0]


def ious_of(part):
    tp, fp, fn = (np.array(part[name], dtype=object) for name in ("tp", "fp", "fn"))
    return np.array([t / u if (u := t + f + n) else 1.0 for t, f, n in zip(tp, fp, fn, strict=True)])


def numbers_in(value):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [value] if isinstance(value, float) else []
    return found + [number for item in items for number in numbers_in(item)]


def near(value):
    """Claims are rounded to six decimals."""
    return pytest.approx(value, abs=1.1e-6)


def assert_sound(value):
    """What was called sound agrees with itself, recomputed without any of the code that called it so."""
    assert all(map(math.isfinite, numbers_in(value)))
    for name, ids in value["ids"].items():
        assert ids and all(before < after for before, after in pairwise(ids))
        assert len(ids) == len(value["sources"][name]) == len(value["pixels"][name])
    assert value["sources"].keys() == value["pixels"].keys() == value["ids"].keys()
    ious = {}
    for training in value["trainings"]:
        for test, part in training["tests"].items():
            assert {len(part[key]) for key in ("tp", "fp", "fn", "pred")} == {len(value["ids"][test])}
            counted = zip(part["tp"], part["fp"], part["fn"], value["pixels"][test], strict=True)
            assert all(min(tp, fp, fn) >= 0 and tp + fp + fn <= pixels for tp, fp, fn, pixels in counted)
            key = (tuple(training["train_generators"]), test, training["seed"])
            assert key not in ious
            ious[key] = float(np.mean(ious_of(part)))
    generators, seeds, claims = value["generators"], value["seeds"], value["claims"]
    assert generators == sorted(set(generators)) and len(generators) > 1 and seeds == sorted(set(seeds)) and seeds
    held_out = {test: tuple(name for name in generators if name != test) for test in generators}
    by_seed = [[ious[held_out[test], test, seed] for test in generators] for seed in seeds]
    assert claims["loo"]["by_generator"] == near(dict(zip(generators, np.mean(by_seed, axis=0), strict=True)))
    assert claims["loo"]["iou"] == near(np.mean(by_seed))
    assert claims["worst"] == near(min(np.mean(by_seed, axis=0)))
    spread = np.std(np.mean(by_seed, axis=1), ddof=1) if len(seeds) > 1 else None
    assert claims["loo"]["spread"] == (near(spread) if spread is not None else None)
    if claims.get("same"):
        same = np.mean([ious[(test,), test, seed] for test in generators for seed in seeds])
        assert (claims["same"]["iou"], claims["gap"]) == near((same, same - np.mean(by_seed)))
    for train, row in (claims.get("cross") or {}).items():
        for test, iou in row.items():
            assert iou == near(np.mean([ious[(train,), test, seed] for seed in seeds]))
    alarms = [
        np.mean([fp / pixels for fp, pixels in zip(part["fp"], value["pixels"]["authentic"], strict=True)])
        for training in value["trainings"]
        if tuple(training["train_generators"]) in held_out.values()
        for part in [training["tests"].get("authentic")]
        if part and all(value["pixels"]["authentic"])
    ]
    if alarms:
        assert claims["false_alarm_area"] == near(np.mean(alarms))


def judge(content, manifests):
    verdict = examined(content, manifests)
    if verdict.is_ok:
        assert_sound(json.loads(content))
        render(standings_of([verdict.entry]), {}, {}).encode()
    return verdict.is_ok


@pytest.mark.parametrize("seed", SEEDS)
def test_the_seeds_are_sound(seed, manifests):
    manifests = manifests if seed["generators"][0] == "lama" else {}
    assert judge(json.dumps(seed).encode(), manifests)


@FUZZ
@given(content=mutants(STRANGE, tuple(SEEDS[0]), 5), known=st.booleans())
def test_a_file_of_another_form_gets_a_verdict_and_never_a_wrong_one(content, known, manifests):
    judge(content, manifests if known else {})


@settings(FUZZ, max_examples=600)
@given(content=mutants(SUBTLE, RECORDS, 3), known=st.booleans())
def test_a_file_of_other_records_gets_a_verdict_and_never_a_wrong_one(content, known, manifests):
    judge(content, manifests if known else {})


@FUZZ
@given(data=st.data())
def test_broken_text_gets_a_verdict_and_never_a_wrong_one(data, manifests):
    content = bytearray(json.dumps(data.draw(st.sampled_from(SEEDS))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "put", "digit"]))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[place : place + data.draw(st.integers(1, 2000))]
            content += b" "
        elif kind == "put":
            content[place:place] = data.draw(
                st.sampled_from([b"NaN", b"1e999", b"-Infinity", b"[[", b'"', b"\\ud800", b"0"])
            )
        elif chr(content[place]).isdigit():
            content[place] = ord(data.draw(st.sampled_from("0123456789")))
    judge(bytes(content), manifests)


@FUZZ
@given(content=st.one_of(st.binary(max_size=200), values.map(lambda value: json.dumps(value).encode())))
def test_anything_else_is_refused(content, manifests):
    assert not examined(content, manifests).is_ok
