"""A whole set of predictions: a folder for each generator, by trainings that are declared in one word."""

from __future__ import annotations

import pytest

from deeploc_bench.contract.errors import DataError, UsageError
from deeploc_bench.data.suites import Generator, Suite
from deeploc_bench.training.prediction_sets import Declared, all_sets, declared, lacking, one_set

ROLES = {"a": "standard", "b": "standard", "c": "standard", "x": "test-only", "authentic": "test-only"}
SUITE = Suite(name="made", generators={n: Generator(name=n, role=role, splits={}) for n, role in ROLES.items()})


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def seen(sets, root):
    return {(str(s.place.relative_to(root)), "".join(s.pair.train_generators), s.pair.test_generator) for s in sets}


def refusal(root, made):
    with pytest.raises(DataError) as caught:
        all_sets(root, SUITE, made)
    return str(caught.value)


@pytest.mark.parametrize(("protocol", "trained"), [("loo", ("bc", "ac", "ab")), ("same", ("a", "b", "c"))])
def test_by_a_protocol_each_folder_is_of_its_own_training(tmp_path, protocol, trained):
    folders(tmp_path, "a", "b", "c/authentic", "c/x", "a/heatmaps")
    sets = all_sets(tmp_path, SUITE, Declared(protocol=protocol))
    standard = {(name, train, name) for name, train in zip("abc", trained, strict=True)}
    assert seen(sets, tmp_path) == standard | {("c/authentic", trained[2], "authentic"), ("c/x", trained[2], "x")}
    assert {one.place.name: one.beside for one in sets}["c"] == ("x", "authentic")


def test_what_one_training_made_lies_in_one_folder_for_each_generator_dataset(tmp_path):
    folders(tmp_path, "a", "b", "c", "authentic", ".cache")
    sets = all_sets(tmp_path, SUITE, Declared(generators=("a", "b")))
    assert seen(sets, tmp_path) == {(name, "ab", name) for name in ("a", "b", "c", "authentic")}


def test_what_is_missing_or_strange_is_listed_with_the_way_out(tmp_path):
    told = refusal(folders(tmp_path / "1", "a", "bb", "overlays"), Declared())
    assert "missing: b, c" in told and "strange: bb, overlays" in told and "--generator" not in told
    told = refusal(folders(tmp_path / "2", "a", "b", "c", "authentic"), Declared(protocol="loo"))
    assert "missing:" not in told and "put them into a/authentic" in told
    assert "Name it: --generator G" in refusal(folders(tmp_path / "3", "heatmaps"), Declared())
    assert "is no folder" in refusal(tmp_path / "nowhere", Declared())


def test_test_only_sets_that_are_not_there_are_told_of(tmp_path):
    folders(tmp_path, "a/authentic", "b", "c")
    by_loo = lacking(all_sets(tmp_path, SUITE, Declared(protocol="loo")), SUITE)
    assert by_loo == [
        "no predictions on 'x' beside those of a, b, c",
        "no predictions on 'authentic' beside those of b, c: false alarms are not known, and a leaderboard wants them",
    ]
    assert [line.partition(":")[0] for line in lacking(all_sets(tmp_path, SUITE, Declared()), SUITE)] == [
        "no predictions on 'x'",
        "no predictions on 'authentic'",
    ]


def test_one_generator_is_of_the_training_that_is_declared(tmp_path):
    def pair(generator, **made):
        ((one),) = one_set(tmp_path, SUITE, generator, Declared(**made))
        return "".join(one.pair.train_generators), one.pair.test_generator

    assert pair("a", protocol="loo") == ("bc", "a")
    assert pair("authentic", generators=("b", "c")) == ("bc", "authentic")
    assert pair("x") == ("", "x")
    with pytest.raises(UsageError, match="--protocol loo tells nothing of 'authentic'; say --trained-on"):
        pair("authentic", protocol="loo")
    with pytest.raises(UsageError, match="unknown generator 'd'"):
        pair("d")


def test_what_was_trained_on_is_declared_once_and_by_known_names():
    assert declared(SUITE, None, " c,a ").generators == ("a", "c")
    for protocol, trained_on, words in (
        ("loo", "a", "leave one out"),
        ("cross", None, "Allowed: loo, same"),
        (None, "a,x", "--trained-on: unknown generator 'x'"),
    ):
        with pytest.raises(UsageError, match=words):
            declared(SUITE, protocol, trained_on)
