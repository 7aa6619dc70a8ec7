"""A plan makes each training once, whatever protocols share it, and hashes each file once."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import pytest

from deeploc_bench.contract.errors import RecipeError, UsageError
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import AUTHENTIC, Model
from deeploc_bench.data.perturb import parse_perturbation
from deeploc_bench.data.suites import Generator, Suite
from deeploc_bench.plan import store
from deeploc_bench.plan.losses import parse_loss
from deeploc_bench.plan.plan import Request, make_plan, make_test_plan
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.plan.recipe import load_recipe
from deeploc_bench.plan.store import Tested

STANDARD = ("a", "b", "c", "d")


@pytest.fixture
def suite(small_pack):
    """A suite of four standard generators, a test-only one and authentic images."""
    sizes = {"train": 6, "valid": 3, "test": 4}
    made = {
        name: {
            split: small_pack(count, source=f"{split}-photo", seed=10 * place + turn)
            for turn, (split, count) in enumerate(sizes.items())
        }
        for place, name in enumerate(STANDARD)
    }
    test_only = {
        name: {"test": small_pack(4, source="test-photo", seed=seed)} for name, seed in ((AUTHENTIC, 90), ("x", 91))
    }
    generators = [Generator(name=name, role="standard", splits=splits) for name, splits in made.items()]
    generators += [Generator(name=name, role="test-only", splits=splits) for name, splits in test_only.items()]
    return Suite(name="made", generators={generator.name: generator for generator in generators})


def owned(registry, name, **changes):
    plugin = registry.models["residual-unet"].plugin
    spec = {"name": name, "build": object, "reference": None, "pretraining": "imagenet"} | changes
    return Owned(spec=Model(**spec), plugin=plugin)


@pytest.fixture
def ask(registry):
    """Return a function from what is asked for to a request."""

    def make(*models, **asked):
        names = asked.pop("losses", ["jaccard"])
        values = {
            "protocols": ("loo",),
            "budget": "full",
            "models": models or [owned(registry, "net")],
            "losses": [parse_loss(name, registry) for name in names],
            "recipe": load_recipe("quick"),
        }
        return Request(**(values | asked))

    return make


def trained_on(plan):
    return sorted(training.facts.train_generators for training in plan.trainings.values())


def test_same_loo_and_cross_of_four_generators_are_eight_trainings(suite, ask):
    plan = make_plan(suite, ask(protocols=("same", "loo", "cross")))
    without = [tuple(name for name in STANDARD if name != left_out) for left_out in STANDARD]
    assert trained_on(plan) == sorted([*((name,) for name in STANDARD), *without])
    assert Counter(cell.protocol for cell in plan.cells) == {"same": 8, "loo": 8, "cross": 20}


def test_the_facts_of_each_training_say_by_which_method_a_generator_dataset_is_made(suite, ask):
    made = {**suite.generators, "x": replace(suite.generators["x"], method="a")}
    plan, before = make_plan(replace(suite, generators=made), ask()), make_plan(suite, ask())
    assert [training.facts.methods for training in plan.trainings.values()] == 4 * [{"x": "a"}]
    assert list(plan.trainings) == list(before.trainings)


def test_every_cell_reads_the_training_of_its_pair(suite, ask):
    plan = make_plan(suite, ask(protocols=("same", "loo", "cross")))
    for cell in plan.cells:
        assert plan.trainings[cell.identity].facts.train_generators == cell.pair.train_generators
        assert cell.tested == Tested(generator=cell.pair.test_generator)


def test_a_training_is_tested_once_on_all_that_its_cells_need_and_on_authentic_images(suite, ask):
    plan = make_plan(suite, ask(protocols=("same", "loo")))
    names = {plan.trainings[i].facts.train_generators: [one.name for one in found] for i, found in plan.tests.items()}
    assert names["a",] == ["a", AUTHENTIC, "x"] and names["b", "c", "d"] == ["a", AUTHENTIC, "x"]


def test_perturbed_test_sets_stand_beside_the_clean_ones_but_of_authentic_images(suite, ask):
    plan = make_plan(suite, ask(protocols=("same",), perturbations=[parse_perturbation("jpeg:75")]))
    names = {plan.trainings[i].facts.train_generators: [one.name for one in found] for i, found in plan.tests.items()}
    assert names["a",] == ["a", "a@jpeg-75", AUTHENTIC, "x", "x@jpeg-75"]
    assert sum(cell.tested.perturbation is not None for cell in plan.cells) == len(plan.cells) / 2


def test_models_losses_and_seeds_are_multiplied(suite, ask, registry):
    models = [owned(registry, "net"), owned(registry, "other")]
    plan = make_plan(suite, ask(*models, losses=["jaccard", "0.5*dice"], seeds=(0, 1, 2)))
    assert len(plan.trainings) == 2 * 2 * 3 * 4
    assert Counter(one.seed for one in plan.trainings.values()) == {0: 16, 1: 16, 2: 16}


def test_a_model_that_is_never_trained_is_tested_once_for_all_cells(suite, ask, registry):
    plan = make_plan(suite, ask(owned(registry, "detector", trainable=False), protocols=("same", "loo"), seeds=(0, 1)))
    (training,) = plan.trainings.values()
    assert (training.loss, training.facts.kind, training.facts.train_generators) == (None, "tested", ())
    assert [one.name for one in plan.tests[training.facts.identity]] == ["a", AUTHENTIC, "b", "c", "d", "x"]


def test_a_baseline_that_fits_itself_is_fitted_once_a_set_of_generators_without_loss_recipe_and_seeds(
    suite, ask, registry
):
    floor = owned(registry, "floor", baseline=True)
    plan = make_plan(suite, ask(floor, protocols=("same", "loo"), losses=["jaccard", "dice"], seeds=(1, 2)))
    assert len(plan.trainings) == len(set(trained_on(plan))) == 8
    for training in plan.trainings.values():
        facts = training.facts
        assert (facts.kind, facts.seed, facts.loss, facts.loss_expression, facts.recipe) == (
            "fitted",
            0,
            (),
            None,
            None,
        )
        assert (facts.train, facts.valid) == (training.train.fingerprint, training.valid.fingerprint)
        assert training.place.startswith(f"made/floor/{'+'.join(facts.train_generators)}/seed0-")


def test_a_baseline_that_fits_itself_has_the_budget_of_the_run(suite, ask, registry):
    plan = make_plan(suite, ask(owned(registry, "floor", baseline=True), protocols=("same", "loo"), budget="matched"))
    sizes = {len(one.facts.train_generators): sum(one.facts.train_samples) for one in plan.trainings.values()}
    assert sizes == {1: 6, 3: 6} and {one.facts.budget for one in plan.trainings.values()} == {"full", "matched"}


def test_a_matched_budget_changes_leave_one_out_alone(suite, ask):
    plan = make_plan(suite, ask(protocols=("same", "loo"), budget="matched"))
    assert {(cell.protocol, cell.budget) for cell in plan.cells} == {("same", "full"), ("loo", "matched")}
    sizes = {len(one.facts.train_generators): sum(one.facts.train_samples) for one in plan.trainings.values()}
    assert sizes == {1: 6, 3: 6}
    assert {one.facts.budget for one in plan.trainings.values()} == {"full", "matched"}


def test_training_and_validation_samples_are_those_of_the_train_generators_alone(suite, ask):
    plan = make_plan(suite, ask(protocols=("loo",)))
    for training in plan.trainings.values():
        names = training.facts.train_generators
        assert [pack for pack, _ in training.train.packs] == [suite.generators[name].splits["train"] for name in names]
        assert [pack for pack, _ in training.valid.packs] == [suite.generators[name].splits["valid"] for name in names]


def test_facts_tell_the_hashes_of_the_data(suite, ask):
    plan = make_plan(suite, ask(protocols=("same",)))
    (facts,) = [one.facts for one in plan.trainings.values() if one.facts.train_generators == ("b",)]
    assert facts.train == suite.generators["b"].splits["train"].fingerprint
    assert facts.test_data == {n: one.splits["test"].fingerprint for n, one in suite.generators.items()}
    assert (facts.fingerprint, facts.data) == (suite.fingerprint, suite.standard_fingerprint)
    assert facts.standard_generators == STANDARD


def test_a_grown_suite_leaves_its_trainings_what_they_were(suite, ask):
    fewer = Suite(name="made", generators={n: one for n, one in suite.generators.items() if n not in (AUTHENTIC, "x")})
    assert list(make_plan(fewer, ask()).trainings) == list(make_plan(suite, ask()).trainings)


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed, each time that one is."""
    names, plain = [], hashlib.file_digest

    def counting(file, kind):
        names.append(file.name)
        return plain(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


def test_a_weights_file_is_hashed_once_however_many_cells(suite, ask, registry, tmp_path, hashed):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    models = [owned(registry, "net"), owned(registry, "other")]
    asked = {"protocols": ("same", "loo", "cross"), "seeds": (0, 1), "losses": ["jaccard", "dice"]}
    plan = make_plan(suite, ask(*models, settings={"weights": f"{tmp_path}/w.safetensors"}, **asked))
    assert len(plan.trainings) == 64 and hashed == [f"{tmp_path}/w.safetensors"]
    assert {one.facts.weights for one in plan.trainings.values()} == {hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize(("name", "content", "is_same"), [("v", b"weights", True), ("w", b"others", False)])
def test_weights_count_by_their_content_wherever_they_lie(suite, ask, tmp_path, name, content, is_same):
    found = []
    for folder, file, text in (("here", "w", b"weights"), ("there", name, content)):
        path = tmp_path / folder / f"{file}.safetensors"
        path.parent.mkdir()
        path.write_bytes(text)
        found.append(make_plan(suite, ask(settings={"weights": str(path)})))
    assert (list(found[0].trainings) == list(found[1].trainings)) is is_same
    facts = next(iter(found[0].trainings.values())).facts
    assert (facts.recipe.weights, facts.pretraining, str(tmp_path) in str(facts)) == ("file", "imagenet", False)


def test_a_weights_file_reaches_only_the_models_that_take_weights(suite, ask, registry, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    models = [
        owned(registry, "net"),
        owned(registry, "scratch", pretraining="none"),
        registry.models["all-manipulated"],
    ]
    plan = make_plan(suite, ask(*models, settings={"weights": f"{tmp_path}/w.safetensors"}))
    found = {one.facts.model.name: (one.recipe.weights, one.facts.weights) for one in plan.trainings.values()}
    assert found["scratch"] == found["all-manipulated"] == ("none", None)
    assert found["net"][1] is not None
    plain = make_plan(suite, ask(models[1], models[2]))
    assert set(plain.trainings) < set(plan.trainings)


@pytest.mark.parametrize("weights", ["none", "file"])
def test_a_baseline_that_takes_weights_is_the_same_whatever_is_set(suite, ask, registry, tmp_path, weights):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    models = [owned(registry, "net"), owned(registry, "floor", baseline=True)]
    settings = {"weights": f"{tmp_path}/w.safetensors" if weights == "file" else "none"}
    changed, plain = (make_plan(suite, ask(*models, recipe=load_recipe("poster"), settings=s)) for s in (settings, {}))
    assert {plan.trainings[i].facts.model.name for plan in (changed, plain) for i in plan.trainings} == {"net", "floor"}
    kept = set(plain.trainings) & set(changed.trainings)
    assert {plain.trainings[identity].facts.model.name for identity in kept} == {"floor"}


def test_a_weights_file_that_is_not_there_is_refused(suite, ask):
    with pytest.raises(RecipeError, match="weights='nowhere.safetensors': there is no such file"):
        make_plan(suite, ask(settings={"weights": "nowhere.safetensors"}))


@pytest.mark.parametrize(
    ("pretraining", "weights", "recorded"),
    [("imagenet", "default", "imagenet"), ("imagenet", "none", "none"), (None, "default", None), (None, "none", None)],
)
def test_what_is_recorded_of_the_pretraining_is_what_is_known(suite, ask, registry, pretraining, weights, recorded):
    plan = make_plan(suite, ask(owned(registry, "net", pretraining=pretraining), settings={"weights": weights}))
    assert {one.facts.pretraining for one in plan.trainings.values()} == {recorded}


def test_each_model_has_its_own_recipe(suite, ask, registry):
    models = [owned(registry, "net", recipe={"lr": 0.5}), owned(registry, "other")]
    plan = make_plan(suite, ask(*models, settings={"epochs": 2}))
    found = {one.facts.model.name: (one.recipe.lr, one.recipe.epochs) for one in plan.trainings.values()}
    assert found == {"net": (0.5, 2), "other": (0.003, 2)}


def test_folders_of_different_trainings_never_meet(suite, ask, registry):
    models = [owned(registry, "net"), owned(registry, "detector", trainable=False)]
    losses = ["jaccard", "0.5*dice+0.5*focal"]
    plan = make_plan(suite, ask(*models, protocols=("same", "loo"), losses=losses, seeds=(0, 1)))
    places = [training.place for training in plan.trainings.values()]
    assert len(set(places)) == len(places) == 33
    assert any(place.startswith("made/net+0.5xdice+0.5xfocal/b+c+d/seed1-") for place in places)
    assert any(place.startswith("made/detector/untrained/seed0-") for place in places)


@pytest.mark.parametrize(("facts", "title"), [("net", "net + jaccard on b+c+d seed 1"), ("detector", "detector")])
def test_a_training_has_a_title_for_its_progress_bar(suite, ask, registry, facts, title):
    model = owned(registry, facts, trainable=facts == "net")
    assert title in {one.title for one in make_plan(suite, ask(model, seeds=(1,))).trainings.values()}


def test_one_standard_generator_cannot_be_left_out(suite, ask):
    alone = Suite(name="made", generators={"a": suite.generators["a"]})
    with pytest.raises(UsageError, match="needs a suite of two standard generators or more; use --protocol same"):
        make_plan(alone, ask())


def test_models_that_are_never_trained_can_be_tested_alone(suite, ask, registry):
    models = [owned(registry, "net"), owned(registry, "detector", trainable=False)]
    plan = make_test_plan(suite, ask(*models), [Pair(train_generators=("a",), test_generator="b")])
    (training,) = plan.trainings.values()
    assert plan.tests == {training.facts.identity: (Tested(generator="b"),)} and plan.cells == ()
    assert training.facts.identity in make_plan(suite, ask(*models)).trainings


@pytest.mark.parametrize("generators", [("a", "c"), ()])
def test_baselines_can_be_fitted_to_be_tested_alone_where_there_is_something_to_fit_them_on(
    suite, ask, registry, generators
):
    models = [owned(registry, "net"), owned(registry, "floor", baseline=True)]
    plan = make_test_plan(suite, ask(*models), [Pair(train_generators=generators, test_generator="b")])
    assert [(t.model.spec.name, t.facts.train_generators) for t in plan.trainings.values()] == (
        [("floor", generators)] if generators else []
    )


def test_a_place_is_the_slug_of_its_facts(suite, ask):
    (training,) = [
        one
        for one in make_plan(suite, ask(protocols=("same",))).trainings.values()
        if one.facts.train_generators == ("a",)
    ]
    assert store.place_of(training.facts) == f"made/net+jaccard/a/seed0-{training.facts.identity[:8]}"
