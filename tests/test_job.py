"""A job takes its defaults from its suite, and refuses what cannot be meant before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import dolos_tree

from deeploc_bench.contract.errors import DataError, RecipeError, UsageError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.data.survey import load_sound
from deeploc_bench.plan.job import Job, prepare, prepare_baselines
from deeploc_bench.plan.protocols import Pair

TINY = Path(__file__).parent / "tiny.py"
PRETRAINED = """
from deeploc_bench import Model, hookimpl

@hookimpl
def deeploc_models():
    about = {"build": object, "reference": None, "pretraining": "imagenet"}
    floor = Model(name="floor", baseline=True, trainable=False, **about)
    return [floor, Model(name="pretrained", recipe={"lr": 0.5}, **about)]
"""


@pytest.fixture(scope="module")
def tiny_registry(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "pretrained.py"
    file.write_text(PRETRAINED)
    return load_plugins([str(TINY), str(file)])


@pytest.fixture
def plan(tiny_registry):
    """Return a function from a job on the tiny suite to its plan's trainings that are trained."""

    def make(**asked):
        prepared = prepare(Job(**({"suite": "tiny", "models": ["residual-unet"]} | asked)), silent, tiny_registry)
        return [one for one in prepared.plan.trainings.values() if one.loss]

    return make


@pytest.fixture(scope="module")
def dolos(tmp_path_factory):
    return dolos_tree(tmp_path_factory.mktemp("dolos"), counts=(2, 2, 2))


@pytest.fixture(autouse=True)
def packed_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEEPLOC_DATA", raising=False)


@pytest.fixture(scope="module")
def photos(registry):
    return prepare(Job(), silent, registry)


def test_the_embedded_suite_has_its_own_model_and_recipe(photos):
    trained = [one for one in photos.plan.trainings.values() if one.loss]
    assert {one.model.spec.name for one in trained} == {"residual-unet"}
    assert {(one.recipe.name, one.loss.text, one.seed) for one in trained} == {("quick", "jaccard", 0)}
    assert {(cell.protocol, cell.budget) for cell in photos.plan.cells} == {("loo", "full")}
    assert (photos.suite.name, photos.suite.data) == ("photos", None)


def test_baselines_stand_beside_every_run(photos, registry):
    found = {one.model.spec.name for one in photos.plan.trainings.values() if not one.loss}
    assert found == set(registry.baselines) and {"all-manipulated", "local-noise", "position-prior"} <= found


def test_another_suite_has_the_posters_best_model_and_recipe(registry, dolos):
    prepared = prepare(Job(suite="dolos", data=str(dolos)), silent, registry)
    trained = [one for one in prepared.plan.trainings.values() if one.loss]
    found = {(one.model.spec.name, one.loss.text, one.recipe.name) for one in trained}
    assert found == {("unetplusplus-resnet50", "jaccard", "poster")} and len(trained) == 4


def test_what_is_asked_for_goes_before_the_suites_defaults(plan):
    found = plan(recipe="poster", losses=["dice"], seeds=[3], protocols=["same"], models=["pretrained"])
    assert {(one.model.spec.name, one.recipe.name, one.loss.text, one.seed) for one in found} == {
        ("pretrained", "poster", "dice", 3)
    }
    assert {one.recipe.lr for one in found} == {0.5}


def test_what_is_asked_for_twice_is_done_once(plan):
    assert len(plan(models=["residual-unet"] * 2, losses=["jaccard"] * 2, seeds=[0, 0], protocols=["loo", "loo"])) == 2


def test_a_baseline_that_is_asked_for_stands_once(tiny_registry):
    prepared = prepare(Job(suite="tiny", models=["all-manipulated"]), silent, tiny_registry)
    assert {one.model.spec.name for one in prepared.plan.trainings.values()} == set(tiny_registry.baselines)
    assert len(set(prepared.plan.cells)) == len(prepared.plan.cells)


def test_data_of_the_environment_does_not_disturb_a_suite_that_needs_none(registry, monkeypatch, photos):
    monkeypatch.setenv("DEEPLOC_DATA", "/nowhere")
    found = prepare(Job(), silent, registry)
    assert list(found.plan.trainings) == list(photos.plan.trainings)


def test_data_of_the_environment_serves_a_suite_that_needs_some(registry, monkeypatch, dolos):
    monkeypatch.setenv("DEEPLOC_DATA", str(dolos))
    prepared = prepare(Job(suite="dolos"), silent, registry)
    assert prepared.suite.data == dolos and prepared.job.data == str(dolos)


def test_a_flag_goes_before_the_environment(registry, monkeypatch, dolos):
    monkeypatch.setenv("DEEPLOC_DATA", "/nowhere")
    assert prepare(Job(suite="dolos", data=str(dolos)), silent, registry).suite.data == dolos


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"suite": "dolos"}, r"suite 'dolos' needs --data PATH \(or DEEPLOC_DATA\): "),
        ({"suite": "dolos", "data": "/nowhere"}, r"--data /nowhere: there is no such folder. Give .*"),
        (
            {"suite": "coverage", "data": "."},
            "suite 'coverage' is tested only: it has no standard generator to train on. ",
        ),
        ({"data": "."}, "suite 'photos' takes no --data: its images come with the plugin. Leave the flag out."),
        ({"suite": "photo"}, r"unknown suite 'photo'. Did you mean 'photos'\?"),
        ({"protocols": ["lou"]}, r"unknown protocol 'lou'. Did you mean 'loo'\? Known: cross, lodo, loo, same."),
        ({"budget": "half"}, "unknown budget 'half'. Known: full, matched."),
        ({"models": ["residual"]}, r"unknown model 'residual'. Did you mean 'residual-unet'\?"),
        ({"losses": ["jacard"]}, r"unknown loss 'jacard'. Did you mean 'jaccard'\?"),
        ({"recipe": "fast"}, "unknown recipe 'fast'."),
        ({"settings": ["epoch=1"]}, r"unknown recipe key 'epoch'. Did you mean 'epochs'\?"),
        ({"perturbations": ["jpg:75"]}, r"unknown kind 'jpg'. Did you mean 'jpeg'\?"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_cure(registry, asked, told):
    with pytest.raises(UsageError, match=told):
        prepare(Job(**asked), silent, registry)


def test_data_that_holds_no_such_suite_is_refused(registry, tmp_path):
    with pytest.raises(DataError, match=rf"(?s)suite 'dolos': 6 errors in its data; .*lama .*: {tmp_path} holds no"):
        prepare(Job(suite="dolos", data=str(tmp_path)), silent, registry)


@pytest.mark.parametrize("name", ["residual-unet", "floor"])
def test_a_weights_file_that_no_model_takes_is_refused_with_the_cure(plan, name, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    with pytest.raises(RecipeError, match=f"'{name}' takes no weights file. Leave --set weights out"):
        plan(models=[name], settings=[f"weights={tmp_path}/w.safetensors"])


def test_a_weights_file_is_for_the_models_that_take_it(plan, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    found = plan(models=["residual-unet", "pretrained"], settings=[f"weights={tmp_path}/w.safetensors"])
    assert {(one.model.spec.name, one.recipe.weights != "none") for one in found} == {
        ("residual-unet", False),
        ("pretrained", True),
    }


def baselines(registry, generator, trained_on=()):
    suite, _ = load_sound(registry.suite("tiny"), data=None, progress=silent)
    pair = Pair(train_generators=tuple(trained_on), test_generator=generator)
    return prepare_baselines(Job(suite="tiny"), registry, suite, [pair])


def test_baselines_can_be_tested_on_one_generator_alone(tiny_registry):
    prepared = baselines(tiny_registry, "dark")
    assert {one.model.spec.name for one in prepared.plan.trainings.values()} == set(tiny_registry.baselines)
    assert [[one.name for one in tests] for tests in prepared.plan.tests.values()] == [["dark"]] * len(
        tiny_registry.baselines
    )


@pytest.mark.parametrize(
    ("trained_on", "fitted"), [([], ("bright",)), (["dark"], ("dark",)), (["bright", "dark"], ("bright", "dark"))]
)
def test_baselines_of_a_score_are_fitted_on_what_is_declared_or_on_all_but_the_tested(
    tiny_registry, trained_on, fitted
):
    found = {
        one.model.spec.name: one.facts.train_generators
        for one in baselines(tiny_registry, "dark", trained_on).plan.trainings.values()
    }
    assert found["all-manipulated"] == () and found["local-noise"] == found["position-prior"] == fitted
