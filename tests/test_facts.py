"""What identifies a training and what an experiment: each part of both, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from runs import QUICK, code, facts_of, hash_of

import deeploc_bench
from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.files import parse_json, to_json
from deeploc_bench.plan.facts import ARITHMETIC, Recipe, Term, TestedSuite, Testing, TrainingFacts, code_of, identified

TRAINED = facts_of(("a", "b", "c"))
FITTED = facts_of(("a", "b", "c"), kind="fitted")
TESTED = facts_of(kind="tested")
SCORED = facts_of(("a", "b", "c"), kind="scored")
TERM = TRAINED.loss[0]
OTHER_VALUES = {
    "epochs": 11,
    "lr": 0.004,
    "batch_size": 4,
    "size": 96,
    "blur_probability": 0.5,
    "blur_sigma": 1.0,
    "flip": False,
    "fit": "resize",
    "schedule": "constant",
    "optimizer": "sgd",
    "precision": "bf16",
    "weights": "default",
    "input_size": 64,
    "deterministic": False,
}


def recipe(**values):
    return {"recipe": replace(QUICK, **values)}


# what makes another training and another experiment too
METHODS = {
    **{f"recipe {key}": recipe(**{key: value}) for key, value in OTHER_VALUES.items()},
    "model's code": {"model": code("net", "edited")},
    "model's name": {"model": replace(TRAINED.model, name="other")},
    "loss's code": {"loss": (replace(TERM, source="0" * 16),)},
    "loss's name": {"loss": (replace(TERM, name="dice"),)},
    "loss's weight": {"loss": (replace(TERM, weight=0.5),)},
    "another term": {"loss": (TERM, replace(TERM, name="dice"))},
    "loss's parameter": {"loss": (replace(TERM, parameters={"gamma": 3.0}),)},
    "weights file": {"weights": hash_of("weights")},
    "arithmetic": {"arithmetic": ARITHMETIC + 1},
    "schema": {"schema": TRAINED.schema + 1},
}
ELSEWHERE = TestedSuite(fingerprint=hash_of("f"), test_data={"x": hash_of("x")}, standard_generators=("x",))
# what makes another training of the same experiment
TRAININGS = {
    "seed": {"seed": 1},
    "train samples": {"train": hash_of("other")},
    "valid samples": {"valid": hash_of("other")},
}
# what makes the same training, of the same experiment
NOTHING = {
    "model's version": {"model": replace(TRAINED.model, version="2.0")},
    "model's distribution": {"model": replace(TRAINED.model, distribution="renamed")},
    "loss's version": {"loss": (replace(TERM, version="2.0", distribution="renamed"),)},
    "fingerprint of the suite": {"fingerprint": hash_of("grown")},
    "test data of a test-only generator": {"test_data": {**TRAINED.test_data, "x": hash_of("x")}},
    "recipe's name": recipe(name="renamed"),
    "a loss's spelling": {"loss_expression": "1*jaccard"},
    "names of the generators": {"train_generators": ("c", "b", "a")},
    "counts of samples": {"train_samples": (1,), "available_samples": (2,)},
    "declared pretraining": {"pretraining": "imagenet"},
    "what a detector was trained on": {"trained_on": ("a",)},
    "baseline": {"baseline": True},
    "methods of the generators": {"methods": {"x": "a"}},
    "what was made anew as a whole": {"regenerated": ("a",)},
    "where things are described": {"references": {"loss dice": "https://example.org"}},
    "what was added to the suite": {"added": {"x": "mine"}},
    "suites that the generators are included from": {"included": {"a": "other"}},
    "other suites that it was tested on": {"transfers": {"other": ELSEWHERE}},
}


@pytest.mark.parametrize("what", METHODS | TRAININGS)
def test_another_training_is_told_by(what):
    assert identified(replace(TRAINED, **(METHODS | TRAININGS)[what])).identity != TRAINED.identity


@pytest.mark.parametrize("what", NOTHING)
def test_a_training_stays_the_same_whatever(what):
    assert identified(replace(TRAINED, **NOTHING[what])).identity == TRAINED.identity


@pytest.mark.parametrize("what", [*METHODS, "data", "suite"])
def test_another_experiment_is_told_by(what):
    changes = METHODS | {"data": {"data": hash_of("other")}, "suite": {"suite": "other"}}
    assert replace(TRAINED, **changes[what]).experiment != TRAINED.experiment


@pytest.mark.parametrize("what", TRAININGS | NOTHING)
def test_an_experiment_stays_the_same_whatever(what):
    assert replace(TRAINED, **(TRAININGS | NOTHING)[what]).experiment == TRAINED.experiment


def test_every_key_of_a_recipe_but_its_name_is_tried_here():
    assert set(OTHER_VALUES) == {*Recipe.__struct_fields__} - {"name"}
    assert all(getattr(QUICK, key) != value for key, value in OTHER_VALUES.items())


def test_every_field_of_the_facts_is_tried_here():
    tried = {field for changes in (METHODS | TRAININGS | NOTHING).values() for field in changes}
    assert {*TrainingFacts.__struct_fields__} - tried == {"identity", "kind", "suite", "data"} | {
        "standard_generators",  # which the data's hash tells
        "testing",  # of a model that is never trained, below
    }


@pytest.mark.parametrize("values", [{"weights": "default"}, {"precision": "bf16"}, {"input_size": 64}])
def test_a_model_that_is_never_trained_is_told_by_how_it_is_tested(values):
    testing = Testing(**({"weights": "none", "precision": "fp32"} | values))
    assert identified(replace(TESTED, testing=testing)).identity != TESTED.identity


def test_a_model_that_is_never_trained_has_one_identity_in_all_suites():
    assert identified(replace(TESTED, suite="other", data=hash_of("other"))).identity == TESTED.identity
    assert replace(TESTED, suite="other").experiment != TESTED.experiment


@pytest.mark.parametrize("changes", [{"suite": "other"}, {"train_generators": ("a",)}, {"model": code("other")}])
def test_predictions_made_elsewhere_are_told_by_name_suite_and_what_is_declared(changes):
    assert identified(replace(SCORED, **changes)).identity != SCORED.identity


@pytest.mark.parametrize("what", [*TRAININGS, "testing", "model's code"])
def test_a_fitted_baseline_is_told_by_its_code_its_samples_and_how_it_is_tested(what):
    testing = {"testing": Testing(weights="none", precision="bf16")}
    changes = METHODS | TRAININGS | {"testing": testing}
    assert identified(replace(FITTED, **changes[what])).identity != FITTED.identity
    assert (replace(FITTED, **changes[what]).experiment == FITTED.experiment) is (what in TRAININGS)


def test_what_was_trained_fitted_tested_and_scored_never_meet():
    alike = [replace(TRAINED, kind=kind, recipe=None, loss=()) for kind in ("trained", "fitted", "tested", "scored")]
    assert len({identified(one).identity for one in alike}) == 4


def test_another_seed_of_what_was_scored_is_another_training_of_its_experiment():
    other = identified(replace(SCORED, seed=1))
    assert other.identity != SCORED.identity and other.experiment == SCORED.experiment


def test_what_was_scored_before_seeds_were_asked_for_keeps_its_identity():
    before = identified(replace(SCORED, schema=2, arithmetic=2))
    assert before.identity == "723762105c2771e7a530d8c6ed551551cf583497a03327248cf4ede2b5fd2ae6"


def test_only_what_was_trained_or_fitted_here_is_learned():
    assert [one.is_learned for one in (TRAINED, FITTED, TESTED, SCORED)] == [True, True, False, False]


def test_the_code_behind_a_spec_is_its_name_distribution_version_and_source(registry):
    found = code_of(registry.model("residual-unet"))
    assert (found.name, found.distribution) == ("residual-unet", "deeploc-bench")
    assert found.version == deeploc_bench.__version__ and len(found.source) == 16


@pytest.mark.parametrize(("drawn", "budget"), [((9, 9), "full"), ((5, 4), "matched")])
def test_the_budget_is_matched_where_not_all_samples_were_trained_on(drawn, budget):
    assert replace(TRAINED, train_samples=drawn, available_samples=(9, 9)).budget == budget


@pytest.mark.parametrize(
    ("facts", "what"), [(TRAINED, "net + jaccard"), (FITTED, "net"), (TESTED, "net"), (SCORED, "net")]
)
def test_tables_name_a_model_with_its_loss_where_it_has_one(facts, what):
    assert facts.what == what


def test_only_what_is_no_baseline_and_was_not_trained_here_is_a_detector():
    floor = replace(TESTED, baseline=True)
    assert [one.is_detector for one in (TRAINED, FITTED, TESTED, floor, SCORED)] == [False, False, True, False, False]


EARLIER = identified(replace(TRAINED, recipe=replace(QUICK, epochs=10, batch_size=16)))


def test_a_training_without_parameters_keeps_its_identity_and_its_file():
    assert EARLIER.identity == "bf5e7bd6c525e01ee564f1d88c86961e45af9ec051252232cb45c509c73abe7b"
    assert b"parameters" not in to_json(EARLIER)


def test_a_recipe_that_does_not_say_whether_it_is_deterministic_is_and_keeps_its_experiment():
    values = msgspec.to_builtins(QUICK)
    assert values.pop("deterministic") is True
    assert msgspec.convert(values, Recipe) == QUICK
    assert EARLIER.experiment == "e4754ece91b3542e"


SET = identified(replace(TRAINED, loss=(replace(TERM, parameters={"gamma": 3.0, "width": 5}),)))


@pytest.mark.parametrize("facts", [TRAINED, FITTED, TESTED, SCORED, SET])
def test_facts_are_read_back_from_json(facts):
    assert parse_json(to_json(facts), TrainingFacts, "training", StoreError) == facts


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"lr": float("inf")}, "at `\\$.lr`"),
        ({"lr": 0}, "at `\\$.lr`"),
        ({"size": 31}, "int` >= 32"),
        ({"blur_sigma": 11}, "<= 10"),
        ({"epochs": 0}, ">= 1"),
        ({"colour": 1}, "unknown field `colour`"),
    ],
)
def test_a_recipe_holds_only_what_can_be_trained(values, told):
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(msgspec.to_builtins(QUICK) | values, Recipe)


def test_a_loss_weighs_more_than_nothing():
    with pytest.raises(msgspec.ValidationError, match="weight"):
        msgspec.convert(msgspec.to_builtins(TERM) | {"weight": 0}, Term)


COMPUTING = (
    "data/augment.py",
    "data/batches.py",
    "data/perturb.py",
    "training/baseline_fit.py",
    "training/build.py",
    "training/evaluate.py",
    "training/fit.py",
)
"""The files that a training's records come out of."""
HELD = (2, "e7b6732c74c2cfb8")
"""ARITHMETIC, and the digest of those files that it stands for."""


def syntax_of(node):
    """Return a syntax tree as plain lists without docstrings, the same in every version of Python."""
    if isinstance(node, list):
        return [syntax_of(one) for one in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    first = fields["body"][0] if isinstance(fields.get("body"), list) else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        fields["body"] = fields["body"][1:]
    return [type(node).__name__, *([name, syntax_of(value)] for name, value in fields.items())]


def syntax_digest(files):
    """Return the hash (16 hex) of the code in files: of their syntax trees, not of words or layout."""
    trees = [[file.name, syntax_of(ast.parse(file.read_text("utf-8")))] for file in files]
    return hashlib.sha256(json.dumps(trees).encode()).hexdigest()[:16]


def test_whoever_edits_what_computes_decides_whether_results_change():
    package = Path(deeploc_bench.__file__).parent
    found = (ARITHMETIC, syntax_digest([package / name for name in COMPUTING]))
    assert found == HELD, (
        f"{', '.join(COMPUTING)}: their code has changed since ARITHMETIC = {HELD[0]}. If results change, raise "
        f"ARITHMETIC in plan/facts.py; then put the new pair here: HELD = {found}"
    )


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ('"""Other words."""\ndef f(a):\n    """Say."""\n    return a  # why\n', True),
        ("def f(a):\n\n    return (a)\n", True),
        ("def f(a):\n    return -a\n", False),
        ("def f(b):\n    return b\n", False),
    ],
)
def test_the_digest_is_of_code_and_not_of_words(tmp_path, text, is_same):
    digests = []
    for folder, content in (("before", "def f(a):\n    return a\n"), ("after", text)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code.py").write_text(content)
        digests.append(syntax_digest([tmp_path / folder / "code.py"]))
    assert (digests[0] == digests[1]) is is_same
