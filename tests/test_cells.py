"""Cells are read from a runs folder strictly: what is damaged is said, what does not belong is left out."""

from __future__ import annotations

import shutil
from collections import Counter
from types import SimpleNamespace

import pytest
from runs import STANDARD, authentic_of, cell, edit, facts_of, others, records_of, write_training

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.data.perturb import Perturbation
from deeploc_bench.plan import store
from deeploc_bench.plan.plan import Plan, PlannedCell
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.cells import cells_in, planned_cells, protocols_of, read_cells
from deeploc_bench.results.figures import curves_of

HELD_OUT = facts_of(others("a"))


def written(runs, **changes):
    """Write the held-out training of `a`, tested on it."""
    return write_training(runs, facts_of(others("a"), **changes), {"a": records_of([0.2, 0.4])})


def seen(cells):
    return [(cell.protocol, "+".join(cell.pair.train_generators), cell.pair.test_generator) for cell in cells]


def test_a_cell_has_the_facts_and_the_records_that_were_written(tmp_path):
    folder = written(tmp_path)
    (cell,) = read_cells(tmp_path)
    assert (cell.folder, cell.facts, cell.budget, cell.authentic) == (folder, HELD_OUT, "full", None)
    assert seen([cell]) == [("loo", "b+c+d", "a")] and cell.train == "w/o a"
    assert cell.records.tp.tolist() == [20, 40] and cell.records.ids == ("test-00", "test-01")


def test_the_records_on_authentic_images_belong_to_every_cell_and_are_none(tmp_path):
    facts = facts_of(others("a"), extra=("authentic", "x"))
    tests = {"a": records_of([0.2]), "x": records_of([0.4])}
    write_training(tmp_path, facts, tests, authentic=authentic_of([0.25]))
    cells = read_cells(tmp_path)
    assert [test for _, _, test in seen(cells)] == ["a", "x"]
    assert [cell.authentic.fp.tolist() for cell in cells] == [[100], [100]]


def test_a_training_on_one_generator_is_of_same_and_where_all_are_tested_of_cross(tmp_path):
    write_training(tmp_path, facts_of(("a",)), {"a": records_of([0.9])})
    assert seen(read_cells(tmp_path)) == [("same", "a", "a")]
    write_training(tmp_path, facts_of(("b",)), {test: records_of([0.5]) for test in STANDARD})
    found = seen(read_cells(tmp_path))
    assert Counter(protocol for protocol, _, _ in found) == {"same": 2, "cross": 4}
    assert ("cross", "b", "d") in found


def test_of_two_generators_a_held_out_training_on_one_is_not_of_same_for_its_test_only_set(tmp_path):
    facts = facts_of(("b",), standard_generators=("a", "b"), extra=("x",))
    folder = write_training(tmp_path, facts, {"a": records_of([0.5]), "x": records_of([0.5])})
    assert seen(read_cells(tmp_path)) == [("loo", "b", "a"), ("loo", "b", "x")]
    (folder / "test-a.csv").rename(folder / "test-b.csv")
    (folder / "test-a.hist.safetensors").unlink()
    write_training(tmp_path, facts, {"b": records_of([0.5]), "x": records_of([0.5])})
    assert seen(read_cells(tmp_path)) == [("same", "b", "b"), ("same", "b", "x")]


RULES = {
    (("a",), "a"): ["same", "cross"],
    (("b",), "a"): ["loo", "cross"],
    (("a",), "x"): ["same", "loo", "cross"],
    (("a", "b"), "a"): [],
}


@pytest.mark.parametrize(("pair", "protocols"), RULES.items())
def test_the_protocols_of_a_pair_are_those_whose_rule_makes_it(pair, protocols):
    train, test = pair
    assert protocols_of(Pair(train_generators=train, test_generator=test), ("a", "b"), ["x"]) == protocols


SEEN = {
    "a test-only set of a method that was trained on": (("b", "c"), "x", {"x": "b"}, True),
    "one of the generator that was left out": (("b", "c"), "x", {"x": "a"}, False),
    "one of no known generator": (("b", "c"), "x", {}, False),
    "one of the method of a set that was trained on": (("b", "c"), "x", {"x": "m", "c": "m"}, True),
    "the generator that was trained on": (("b",), "b", {}, False),
    "a standard set of a method that was trained on": (("b", "c"), "a", {"a": "b"}, False),
    "a set tested by what was trained on nothing known": ((), "x", {"x": "b"}, False),
}


@pytest.mark.parametrize("what", SEEN)
def test_a_test_only_generator_is_seen_where_its_method_was_trained_on(what):
    train, test, methods, is_seen = SEEN[what]
    facts = facts_of(train, extra=("x",), methods=methods)
    assert cell(test, [0.5], train=train, facts=facts).is_seen is is_seen


def test_a_training_on_fewer_samples_than_there_are_has_the_matched_budget(tmp_path):
    written(tmp_path, train_samples=(4, 4, 4), available_samples=(12, 12, 12))
    assert [cell.budget for cell in read_cells(tmp_path)] == ["matched"]


def test_a_training_that_is_not_finished_is_left_out(tmp_path):
    folder = written(tmp_path)
    (folder / "model.safetensors").unlink()
    assert read_cells(tmp_path) == []


def test_the_same_training_in_two_folders_counts_once(tmp_path):
    folder = written(tmp_path)
    shutil.copytree(folder, tmp_path / "copied" / folder.name)
    shutil.copytree(folder, folder.with_name("seed0-copied"))
    (cell,) = read_cells(tmp_path)
    assert cell.facts == HELD_OUT


def test_records_of_other_data_than_the_facts_tell_of_are_left_out(tmp_path):
    folder = write_training(tmp_path, HELD_OUT, {})
    store.write_records(folder, store.Tested(generator="a"), records_of([0.9]), "0" * 32)
    assert read_cells(tmp_path) == []
    store.write_records(folder, store.Tested(generator="a"), records_of([0.2]), HELD_OUT.test_data["a"])
    assert [cell.records.tp.tolist() for cell in read_cells(tmp_path)] == [[20]]


def test_records_of_a_generator_that_left_the_suite_are_left_out(tmp_path):
    folder = written(tmp_path)
    store.write_records(folder, store.Tested(generator="gone"), records_of([0.9]), "0" * 32)
    assert [test for _, _, test in seen(read_cells(tmp_path))] == ["a"]


def test_perturbed_records_are_cells_of_their_own(tmp_path):
    folder = written(tmp_path)
    blur = Perturbation(kind="blur", value=2)
    tested = store.Tested(generator="a", perturbation=blur)
    store.write_records(folder, tested, records_of([0.1]), HELD_OUT.test_data["a"])
    assert [cell.perturbation for cell in read_cells(tmp_path)] == [None, blur]


def test_a_model_that_is_never_trained_stands_in_every_cell_that_others_of_its_data_have(tmp_path):
    floor = facts_of(kind="tested", model="floor", baseline=True)
    write_training(tmp_path, floor, {test: records_of([0.1]) for test in STANDARD})
    assert seen(read_cells(tmp_path)) == [("loo", "+".join(others(test)), test) for test in STANDARD]
    written(tmp_path)
    write_training(tmp_path, facts_of(("b",), data="other"), {"b": records_of([0.9])})
    cells = read_cells(tmp_path)
    assert seen(cell for cell in cells if cell.facts == floor) == [("loo", "b+c+d", "a")]
    assert [cell.facts.baseline for cell in cells] == [False, False, True]


def test_a_model_that_is_never_trained_has_cells_in_a_suite_of_one_generator(tmp_path):
    write_training(tmp_path, facts_of(kind="tested", standard_generators=("a",)), {"a": records_of([0.1])})
    assert seen(read_cells(tmp_path)) == [("same", "a", "a")]


def test_a_model_that_is_never_trained_is_in_the_cells_of_each_suite_it_was_tested_on(tmp_path):
    for suite in ("one", "two"):
        floor = facts_of(kind="tested", model="floor", suite=suite)
        write_training(tmp_path, floor, {test: records_of([0.1]) for test in STANDARD})
    assert Counter(cell.facts.suite for cell in read_cells(tmp_path)) == {"one": 4, "two": 4}


def test_predictions_made_elsewhere_are_held_out_only_where_they_say_what_was_trained_on(tmp_path):
    write_training(tmp_path, facts_of(kind="scored", model="closed"), {"a": records_of([0.5])})
    declared = facts_of(others("a"), kind="scored", model="declared")
    write_training(tmp_path, declared, {"a": records_of([0.5])})
    assert seen(read_cells(tmp_path)) == [("loo", "b+c+d", "a"), ("score", "", "a")]


def fitted(runs, train, test, **changes):
    facts = facts_of(train, kind="fitted", model="floor", baseline=True, **changes)
    return write_training(runs, facts, {test: records_of([0.1])})


def test_a_fitted_baseline_has_cells_of_its_own_and_a_recipe_of_that_name(tmp_path):
    folder = fitted(tmp_path, others("a"), "a")
    (cell,) = read_cells(tmp_path)
    assert (seen([cell]), cell.train, cell.recipe) == ([("loo", "b+c+d", "a")], "w/o a", "fitted")
    (folder / "model.safetensors").unlink()
    assert read_cells(tmp_path) == []


BESIDE = {
    "what was trained on the same": (("b", "c"), ("b", "c"), True),
    "what was trained on others": (("b", "d"), ("b", "c"), False),
    "what tells of nothing, where the tested generator was held out": ((), ("b", "c", "d"), True),
    "what tells of nothing, where it was not": ((), ("a",), False),
    "what tells of nothing, where less than the others was fitted": ((), ("b", "c"), False),
}


@pytest.mark.parametrize("what", BESIDE)
def test_a_fitted_baseline_stands_beside_predictions_made_elsewhere_by(tmp_path, what):
    declared, train, is_beside = BESIDE[what]
    write_training(tmp_path, facts_of(declared, kind="scored", model="closed"), {"a": records_of([0.5])})
    fitted(tmp_path, train, "a")
    found = [(cell.pair, cell.facts.model.name) for cell in read_cells(tmp_path) if cell.protocol == "score"]
    pair = Pair(train_generators=declared, test_generator="a")
    assert found == [(pair, "closed"), *([(pair, "floor")] if is_beside else [])]


def test_a_baseline_fitted_on_fewer_samples_does_not_stand_beside_predictions_made_elsewhere(tmp_path):
    write_training(tmp_path, facts_of(kind="scored", model="closed"), {"a": records_of([0.5])})
    fitted(tmp_path, others("a"), "a", train_samples=(4, 4, 4), available_samples=(12, 12, 12))
    assert [(cell.protocol, cell.budget) for cell in read_cells(tmp_path)] == [("score", "full"), ("loo", "matched")]


def test_some_folders_can_be_read_alone(tmp_path):
    folder = written(tmp_path)
    written(tmp_path, model="other")
    assert [cell.facts.model.name for cell in cells_in([folder])] == ["net"]


def test_the_cells_of_a_plan_are_those_of_its_finished_trainings(tmp_path):
    facts = {test: facts_of(others(test)) for test in "ab"}
    made = {
        one.identity: SimpleNamespace(facts=one, place=store.place_of(one), loss="jaccard") for one in facts.values()
    }
    write_training(tmp_path, facts["a"], {"a": records_of([0.2])})
    planned = tuple(
        PlannedCell(
            protocol="loo",
            budget="full",
            pair=Pair(train_generators=one.train_generators, test_generator=test),
            tested=store.Tested(generator=test),
            identity=one.identity,
        )
        for test, one in facts.items()
    )
    cells = planned_cells(tmp_path, Plan(trainings=made, tests={}, cells=planned))
    assert seen(cells) == [("loo", "b+c+d", "a")]


def test_no_folder_and_an_empty_one_are_told_apart(tmp_path):
    with pytest.raises(StoreError, match="there is no such runs folder. Run 'deeploc-bench run' first"):
        read_cells(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="holds no training. Run 'deeploc-bench run' first"):
        read_cells(tmp_path)


DAMAGE = {
    "training.json": [
        (lambda text: text[:-20], "is not JSON"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "its identity is not that of what it says"),
        (lambda text: text.replace('"seed": 0', '"seed": -1'), "key 'seed' is -1"),
        (lambda text: text.replace('"seed": 0', '"sed": 0'), "Did you mean 'seed'?"),
    ],
    "test-a.csv": [
        (lambda text: text[:-30], "line 3"),
        (lambda text: text.replace(",20,", ",-20,"), "line 2: tp is '-20'"),
        (lambda text: text.replace("test-01", "test-00"), "ids must be sorted and unique"),
        (lambda text: text.partition("\n")[0] + "\n", "has 0 images but its histograms have shape (2, 2, 256)"),
    ],
}


@pytest.mark.parametrize(
    ("name", "damage", "told"), [(name, *damage) for name, kinds in DAMAGE.items() for damage in kinds]
)
def test_damage_is_a_message_that_names_the_file_and_what_is_wrong(tmp_path, name, damage, told):
    file = written(tmp_path) / name
    edit(file, damage)
    with pytest.raises(StoreError) as error:
        read_cells(tmp_path)
    assert str(file) in str(error.value) and told in str(error.value)


@pytest.mark.parametrize("name", ["training.json", "test-a.csv", "test-a.hist.safetensors"])
def test_a_file_of_noise_is_named_with_its_cure(tmp_path, name):
    file = written(tmp_path) / name
    file.write_bytes(b"\xff\xfe noise")
    with pytest.raises(StoreError, match=r"(?i)delete .*again") as error:
        read_cells(tmp_path)
    assert str(file) in str(error.value)


def test_curves_are_gathered_by_what_was_trained_on_once_a_training(tmp_path):
    for seed, curve in ((0, [0.1, 0.2]), (1, [0.3, 0.4])):
        facts = facts_of(others("a"), seed=seed, extra=("x",))
        write_training(tmp_path, facts, {"a": records_of([0.2]), "x": records_of([0.2])}, curve=curve)
    write_training(tmp_path, facts_of(("b",)), {"b": records_of([0.9])}, curve=[0.9])
    write_training(tmp_path, facts_of(kind="tested", model="floor"), {"a": records_of([0.1])})
    fitted(tmp_path, others("a"), "a")
    assert curves_of(read_cells(tmp_path)) == {"b": [[0.9]], "w/o a": [[0.1, 0.2], [0.3, 0.4]]}


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("epoch,valid_iou\n1,x\n")])
def test_a_training_whose_epochs_are_missing_or_damaged_has_no_curve_but_a_message(tmp_path, damage):
    file = written(tmp_path) / "epochs.csv"
    damage(file)
    with pytest.raises(StoreError, match="is damaged or missing") as error:
        curves_of(read_cells(tmp_path))
    assert str(file) in str(error.value)
