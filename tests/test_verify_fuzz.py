"""Whatever is in a file, verifying it ends with a verdict, and what is called sound is sound."""

from __future__ import annotations

import copy
import json
import math
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from boards import board, submission, untrained
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeploc_bench.leaderboard.page import render
from deeploc_bench.leaderboard.verify import Verdict, compare, examine, read_manifests

SEEDS = [submission("entry", images=4), submission("entry", images=4, seeds=(0,), generators=("a.b", "c"))]
SEEDS.append(untrained(submission("entry", images=4)))
FUZZ = settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))

integers = st.sampled_from([-1, 0, 1, 2, 3, 4096, 10**10, 10**10 + 1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400])
floats = st.sampled_from([-1.0, 0.0, -0.0, 0.5, 1.0, 1e-320, 1e300, math.nan, math.inf, -math.inf])
texts = st.sampled_from(
    ["", "x", "lama", "ldm", "authentic", "entry", "quick", "a\n", "\n", "\x00", "\x1b[31m", "\ud800", "é", "a" * 300]
    + ["f" * 32, "0" * 16, "image-0001", "photo-0000", "2026-02-30", "2026-01-01", "9999-12-31", "full", "matched"]
    + ["https://example.org/\n", "javascript:x", "../../x", "cross", "same", "untrained", "closed", "open", "none"]
)
leaves = st.one_of(st.none(), st.booleans(), integers, floats, texts)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def places(value, path=()):
    """Yield the path of every value below one."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


SHAPES = [list(places(seed))[1:] for seed in SEEDS]
FEW = [[path for path in shape if not (path and isinstance(path[-1], int) and path[-1] > 1)] for shape in SHAPES]
"""Without the many alike places of long lists, so that keys are drawn as often as numbers."""


def replaced(draw, parent, key):
    parent[key] = draw(values)


def deleted(draw, parent, key):
    del parent[key]


def emptied(draw, parent, key):
    parent[key] = draw(st.sampled_from([[], {}, "", 0, None]))


def nudged(draw, parent, key):
    if isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] += draw(st.sampled_from([-1, 1, 100]))


def renamed(draw, parent, key):
    if isinstance(parent, dict):
        parent[draw(texts)] = parent.pop(key)


def doubled(draw, parent, key):
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[draw(texts)] = copy.deepcopy(parent[key])


def swapped(draw, parent, key):
    other = draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))
    parent[key], parent[other] = parent[other], parent[key]


def turned(draw, parent, key):
    if isinstance(parent[key], list):
        parent[key].reverse()


CHANGES = [replaced, deleted, emptied, nudged, renamed, doubled, swapped, turned]


@st.composite
def mutants(draw):
    """Return the values of a submission of which one to three places were changed."""
    number = draw(st.integers(0, len(SEEDS) - 1))
    value = copy.deepcopy(SEEDS[number])
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(draw(st.sampled_from([SHAPES[number], FEW[number]]))))
        try:
            parent = at(value, path[:-1])
            parent[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
        if isinstance(parent, (dict, list)):
            draw(st.sampled_from(CHANGES))(draw, parent, path[-1])
    return value


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


def assert_sound(value):
    """What was called sound agrees with itself, recomputed without any of the code that called it so."""
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
    assert claims["loo"]["by_generator"] == pytest.approx(dict(zip(generators, np.mean(by_seed, axis=0), strict=True)))
    assert claims["loo"]["iou"] == pytest.approx(np.mean(by_seed))
    assert claims["worst"] == pytest.approx(min(np.mean(by_seed, axis=0)))
    spread = np.std(np.mean(by_seed, axis=1), ddof=1) if len(seeds) > 1 else None
    assert claims["loo"]["spread"] == (pytest.approx(spread) if spread is not None else None)
    if claims.get("same"):
        same = np.mean([ious[(test,), test, seed] for test in generators for seed in seeds])
        assert (claims["same"]["iou"], claims["gap"]) == pytest.approx((same, same - np.mean(by_seed)))
    for train, row in (claims.get("cross") or {}).items():
        for test, iou in row.items():
            assert iou == pytest.approx(np.mean([ious[(train,), test, seed] for seed in seeds]))
    alarms = [
        np.mean([fp / pixels for fp, pixels in zip(part["fp"], value["pixels"]["authentic"], strict=True)])
        for training in value["trainings"]
        if tuple(training["train_generators"]) in held_out.values()
        for part in [training["tests"].get("authentic")]
        if part and all(value["pixels"]["authentic"])
    ]
    if alarms:
        assert claims["false_alarm_area"] == pytest.approx(np.mean(alarms))


def judge(content, manifests):
    verdict = examined(content, manifests)
    if verdict.is_ok:
        assert_sound(json.loads(content))
        render([verdict.entry], {}, []).encode()
    return verdict.is_ok


@pytest.mark.parametrize("seed", SEEDS)
def test_the_seeds_are_sound(seed, manifests):
    manifests = manifests if seed["generators"][0] == "lama" else {}
    assert judge(json.dumps(seed).encode(), manifests)


@FUZZ
@given(value=mutants(), known=st.booleans())
def test_a_changed_submission_gets_a_verdict_and_never_a_wrong_one(value, known, manifests):
    judge(json.dumps(value).encode(), manifests if known else {})


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
