"""Recipes: where each value comes from, how a changed one is named, and what may be ranked beside what."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deeploc_bench.contract.errors import RecipeError
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan import recipe as recipes
from deeploc_bench.plan.facts import Testing
from deeploc_bench.plan.recipe import (
    changes,
    division,
    label,
    load_recipe,
    named_recipes,
    parse_settings,
    resolve,
)

QUICK, POSTER = load_recipe("quick"), load_recipe("poster")


def model(pretraining="imagenet", **recipe):
    return Model(name="net", build=object, reference=None, pretraining=pretraining, recipe=recipe)


def resolved(*settings, recipe=POSTER, **overrides):
    return resolve(recipe, model(**overrides), parse_settings(settings))


def test_the_posters_values_are_those_that_it_states():
    stated = (POSTER.epochs, POSTER.lr, POSTER.blur_probability, POSTER.blur_sigma, POSTER.schedule, POSTER.weights)
    assert stated == (15, 3e-5, 0.5, 3.0, "constant", "default")


@pytest.mark.parametrize(
    ("overrides", "settings", "lr"),
    [
        ({}, [], 3e-5),
        ({"lr": 1e-3}, [], 1e-3),
        ({}, ["lr=1e-2"], 1e-2),
        ({"lr": 1e-3}, ["lr=1e-2"], 1e-2),
        ({"lr": 1e-3}, ["lr=1e-2", "lr=0.5"], 0.5),
        ({"lr": 1e-3}, ["epochs=3"], 1e-3),
    ],
)
def test_a_recipe_gives_way_to_the_models_own_values_and_these_to_those_set(overrides, settings, lr):
    assert resolved(*settings, **overrides).lr == lr


def test_what_nobody_changes_is_the_recipes():
    assert resolved("lr=1e-2", optimizer="sgd") == replace(POSTER, lr=1e-2, optimizer="sgd")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr=1e-4", 1e-4),
        ("epochs=3", 3),
        ("flip=true", True),
        ("optimizer=sgd", "sgd"),
        ('optimizer="sgd"', "sgd"),
        ("weights=a=b.safetensors", "a=b.safetensors"),
        ("precision=bf16", "bf16"),
    ],
)
def test_a_setting_is_a_number_a_truth_or_else_plain_text(setting, value):
    assert parse_settings([setting]) == {setting.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("lr", "--set 'lr' is not KEY=VALUE. Keys: "),
        ("learning_rate=1", "unknown recipe key 'learning_rate'."),
        ("epoch=1", "unknown recipe key 'epoch'. Did you mean 'epochs'? Known: batch_size, "),
        ("name=mine", "unknown recipe key 'name'."),
        ("lr=fast", "recipe poster for model net: key 'lr' is 'fast'; expected a finite number above 0"),
        ("lr=nan", "key 'lr' is nan; expected a finite number above 0"),
        ("lr=inf", "key 'lr' is inf; expected a finite number above 0"),
        ("epochs=0", "key 'epochs' is 0; expected a whole number >= 1"),
        ("epochs=1.5", "key 'epochs' is 1.5; expected a whole number"),
        ("size=16", "key 'size' is 16; expected a whole number >= 32"),
        ("flip=1", "key 'flip' is 1; expected true or false"),
        ("deterministic=no", "key 'deterministic' is 'no'; expected true or false"),
        ("fit=stretch", "key 'fit' is 'stretch'; expected one of crop, resize"),
        ("blur_probability=2", "key 'blur_probability' is 2; expected a number <= 1.0"),
        ("weights=nowhere.safetensors", "weights='nowhere.safetensors': there is no such file. Allowed: default, none"),
    ],
)
def test_a_bad_setting_is_told_with_what_is_allowed(setting, told):
    with pytest.raises(RecipeError) as caught:
        resolved(setting)
    assert told in str(caught.value)


def test_a_models_bad_override_is_told_with_the_model():
    with pytest.raises(RecipeError, match="recipe poster for model net: key 'lr' is -1; expected a finite number"):
        resolved(lr=-1)


@pytest.mark.parametrize("weights", ["default", "none", "some.safetensors"])
def test_a_model_from_scratch_takes_no_weights_whatever_is_set(weights):
    assert resolved(f"weights={weights}", pretraining="none").weights == "none"


@pytest.mark.parametrize(("own", "expected"), [({}, None), ({"input_size": 96}, 96)])
def test_a_baseline_keeps_its_own_weights_and_input_size_and_is_the_same_beside_every_row(own, expected):
    asked = load_recipe("poster"), {"input_size": 64, "weights": "none", "precision": "bf16"}
    spec = Model(name="floor", build=object, reference=None, pretraining="imagenet", baseline=True, recipe=own)
    found = resolve(replace(asked[0], input_size=32), spec, asked[1])
    assert (found.input_size, found.weights, found.precision) == (expected, "default", "bf16")


def test_a_file_of_weights_is_taken_where_it_is(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert resolved(f"weights={tmp_path}/w.safetensors").weights == f"{tmp_path}/w.safetensors"


def test_a_recipe_file_is_called_after_itself(tmp_path):
    keys = (f"{key} = {value!r}" for key, value in (("epochs", 4), ("lr", 0.5), ("optimizer", "sgd"), ("size", 64)))
    rest = "schedule='constant'\nbatch_size=4\nfit='crop'\nflip=false\nblur_probability=0\nblur_sigma=0\n"
    (tmp_path / "mine.toml").write_text("\n".join(keys) + f"\n{rest}weights='none'\nprecision='fp32'\n")
    found = load_recipe(str(tmp_path / "mine.toml"))
    assert (found.name, found.epochs, found.lr, label(found)) == ("mine", 4, 0.5, "mine")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("postr", r"unknown recipe 'postr'. Did you mean 'poster'\? Known: poster, quick. Or give a .toml file."),
        ("nowhere.toml", "recipe nowhere.toml: No such file or directory"),
    ],
)
def test_an_unknown_recipe_is_told(name, told):
    with pytest.raises(RecipeError, match=told):
        load_recipe(name)


def test_a_recipe_file_that_lacks_a_key_says_which(tmp_path):
    (tmp_path / "half.toml").write_text("epochs = 3\n")
    with pytest.raises(RecipeError, match=rf"recipe {tmp_path}/half.toml: the key '\w+' is missing"):
        load_recipe(str(tmp_path / "half.toml"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "poster"),
        (["epochs=15"], "poster"),
        (["epochs=3", "lr=1e-3"], "poster, epochs=3, lr=0.001"),
        (["lr=1e-3", "epochs=3"], "poster, epochs=3, lr=0.001"),
        (["weights=none"], "poster, weights=none"),
        (["deterministic=false"], "poster, deterministic=false"),
    ],
)
def test_a_label_is_the_recipes_name_and_all_in_which_it_was_changed(settings, words):
    assert label(resolved(*settings)) == words


def test_what_a_label_says_can_be_set():
    changed = resolved("flip=true", "deterministic=false", "lr=1e-3")
    assert resolved(*label(changed).split(", ")[1:]) == changed


def test_weights_of_a_file_are_a_change():
    assert changes(replace(QUICK, weights="file")) == {"weights": "file"}


def test_a_recipe_file_has_no_changes():
    assert changes(replace(QUICK, name="mine", epochs=99)) == {}


@pytest.mark.parametrize(
    ("recipe", "pretraining", "found"),
    [
        (POSTER, "imagenet", "closed"),
        (POSTER, "none", "closed"),
        (QUICK, "none", "closed"),
        (POSTER, None, "open"),
        (None, "imagenet", "open"),
        (replace(POSTER, optimizer="sgd", lr=1.0, batch_size=2, input_size=64), "imagenet", "closed"),
        (replace(POSTER, weights="none"), "none", "closed"),
        (replace(POSTER, weights="file"), "imagenet", "open"),
        (replace(POSTER, epochs=16), "imagenet", "open"),
        (replace(POSTER, flip=True), "imagenet", "open"),
        (replace(POSTER, name="mine"), "imagenet", "open"),
    ],
)
def test_a_division_is_decided_by_recipe_and_pretraining_alone(recipe, pretraining, found):
    assert division(recipe, pretraining) == found


OTHER = {"epochs": 2, "schedule": "one-cycle", "size": 64, "fit": "resize", "flip": True, "deterministic": False}


@pytest.mark.parametrize("key", [*OTHER, "blur_probability", "blur_sigma"])
def test_every_other_change_opens_the_division(key):
    other = OTHER.get(key, 0.25)
    assert division(replace(POSTER, **{key: other}), "imagenet") == "open"


def test_a_model_that_is_never_trained_depends_on_weights_precision_and_input_size_alone():
    expected = Testing(weights="default", precision="auto", input_size=64)
    assert recipes.testing_of(replace(POSTER, input_size=64)) == expected


def test_the_named_recipes_are_those_of_the_folder():
    assert list(named_recipes()) == ["poster", "quick"]
