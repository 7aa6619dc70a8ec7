"""What would fail hours later, or pass unseen with a plausible number, is told in seconds, with what to change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from broken_models import LOSSES, MODELS, SOUND, WithOwn, Wrapped, net
from torch import nn

from deeploc_bench.conformance.checking import check, with_specs
from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.owned import Owned, Plugin
from deeploc_bench.contract.specs import Loss, Model
from deeploc_bench.plan.losses import WeightedLoss, parse_loss
from deeploc_bench.testing import assert_conforms, registry_of, tiny_suite
from deeploc_bench.training.loss_checks import SUM_CHECKS, TERM_CHECKS
from deeploc_bench.training.rehearsal import LOGIT_CHECKS, found_by
from deeploc_bench.training.step_checks import STEP_CHECKS, Step
from deeploc_bench.training.trial import LossTrial, ModelTrial, made

LATE = {"seeds", "surroundings", "learns"}
"""Checks that only `check` makes, not every run."""


def model_of(build):
    return Model(name="net", build=build, reference=None, pretraining="none")


def trial_of(build, registry, **asked):
    plugin = Plugin(name="mine", distribution=None, version=None, module=None)
    owned = Owned(spec=model_of(build), plugin=plugin)
    return ModelTrial(model=owned, loss=parse_loss("jaccard", registry), **asked)


QUICK = {what for what, case in MODELS.items() if case[2] == "warning" or case[1] in LATE}
ALL = [pytest.param(what, marks=() if what in QUICK else pytest.mark.slow) for what in MODELS]


@pytest.mark.parametrize("what", ALL)
def test_a_mistake_in_a_model_is_told_by_what_to_change(what, registry):
    build, name, level, words = MODELS[what]
    (checked,) = check(model_of(build), registry=registry)
    failed = [result for result in checked.results if result.level != "ok"]
    assert [(result.check, result.level) for result in failed] == [(name, level)], checked.text
    assert words in checked.text and "model 'net' (plugin 'here')" in checked.text
    assert checked.is_ok == (level == "warning")


RUN = {what: case for what, case in MODELS.items() if case[1] not in LATE}


@pytest.mark.parametrize("what", RUN)
def test_a_run_finds_the_same_before_it_trains(what, registry):
    build, _, _, words = RUN[what]
    trial = replace(
        trial_of(build, registry, sizes=[(33, 47)]), loss=parse_loss("own" if "own" in what else "jaccard", registry)
    )
    try:
        found = found_by(made(LOGIT_CHECKS, trial)) or found_by(made(STEP_CHECKS, Step(trial)))
    except PluginError as error:
        found = [error]
    assert words in "\n".join(map(str, found))


@pytest.mark.parametrize("what", SOUND)
def test_a_sound_model_passes_and_the_random_stream_is_left_alone(what, registry):
    before = torch.random.get_rng_state()
    (checked,) = check(model_of(SOUND[what]), registry=registry)
    assert {result.level for result in checked.results} == {"ok"}, checked.text
    assert len(checked.results) > 15
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("what", LOSSES)
def test_a_mistake_in_a_loss_is_told_by_what_to_change(what, registry):
    build, name, words = LOSSES[what]
    (checked,) = check(Loss(name="mine", build=build), registry=registry)
    failed = [result for result in checked.results if result.level != "ok"]
    assert [result.check for result in failed] == [name], checked.text
    assert words in checked.text and "loss 'mine' (plugin 'here')" in checked.text
    assert checked.is_ok == (name == "tensors")


OWN = {
    "none": (net, "has no loss of its own, which 'own' asks for; give its module a method training_loss"),
    "one of each pixel": (lambda logits, masks: logits * masks, r"of shape \(2, 1, 64, 64\); expected a scalar"),
    "a number": (lambda logits, masks: 0.5, "returned float; expected a scalar"),
    "a whole number": (lambda logits, masks: masks.sum().long(), r"returned torch.int64 of shape \(\)"),
}


@pytest.mark.parametrize("what", OWN)
def test_a_loss_of_the_models_own_is_a_scalar(what, registry):
    value, words = OWN[what]
    build = net if value is net else lambda: WithOwn(lambda module, images: module.body(images), value=value)
    trial = replace(trial_of(build, registry), loss=parse_loss("own", registry))
    with pytest.raises(PluginError, match=words):
        list(made(STEP_CHECKS, Step(trial)))


def test_every_listed_loss_is_sound(registry):
    for name, owned in registry.losses.items():
        trial = LossTrial(terms=[WeightedLoss(weight=1.0, loss=owned)])
        assert [found for _, found in made((*TERM_CHECKS, *SUM_CHECKS), trial) if found] == [], name


def test_a_model_of_one_size_is_sound_at_that_size(registry):
    grid = nn.Parameter(torch.randn(1, 1, 96, 96))
    fixed = Wrapped(lambda module, images: module.body(images) + module.grid, grid=grid)
    trial = trial_of(lambda: fixed, registry, side=96)
    assert found_by(made(LOGIT_CHECKS, trial)) == []
    assert found_by(made(STEP_CHECKS, Step(trial))) == []
    assert found_by(made(LOGIT_CHECKS, trial_of(lambda: fixed, registry, input_size=96, sizes=[(64, 64)]))) == []


def test_a_step_is_tried_in_the_precision_of_the_training(registry):
    def strict(module, images):
        logits = module.body(images)
        if logits.dtype != torch.float32:
            raise TypeError("float32 only")
        return logits

    for precision, words in (("fp32", ""), ("bf16", "a step of training in bf16 with loss 'jaccard': TypeError")):
        found = found_by(made(STEP_CHECKS, Step(trial_of(lambda: Wrapped(strict), registry, precision=precision))))
        assert words in "".join(map(str, found)) and bool(found) == bool(words)


HELPER = "def build():\n    from torch import nn\n    return nn.Conv2d(3, 1, 1)\n"
OUTSIDE = '''"""A model whose layers, and whose constants, lie elsewhere."""
import json, sys
sys.path.insert(0, {folder!r})
from strange_layers import build as make
from deeploc_bench import Model, hookimpl

def build():
    with open({file!r}) as file:
        json.load(file)
    return make()

@hookimpl
def deeploc_models():
    return [Model(name="scattered", build=build, reference=None, pretraining="none")]
'''


def test_code_and_files_that_no_identity_knows_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "strange_layers.py").write_text(HELPER)
    (elsewhere / "constants.json").write_text("[1]")
    (tmp_path / "scattered.py").write_text(
        OUTSIDE.format(folder=str(elsewhere), file=str(elsewhere / "constants.json"))
    )
    _, checked = check(str(tmp_path / "scattered.py"))
    (found,) = [result for result in checked.results if not result.is_ok]
    imported, read = map(str, found.findings)
    assert (found.check, "strange_layers.py, which is not part of its code's hash" in imported) == (
        "surroundings",
        True,
    )
    assert "constants.json in build, which is not part of its identity" in read


def test_assert_conforms_raises_what_check_prints(registry):
    assert_conforms(model_of(net))
    stripes, *others = tiny_suite()
    assert_conforms(stripes, registry=registry_of(stripes, *others))
    with pytest.raises(AssertionError, match="FAILED  logits .* return logits, without sigmoid"):
        assert_conforms(model_of(lambda: net(nn.Sigmoid())))


def test_a_spec_may_not_be_called_as_another_is(registry):
    with pytest.raises(PluginError, match="'residual-unet' is the name of an installed plugin's"):
        with_specs(registry, [Model(name="residual-unet", build=net, reference=None, pretraining="none")])


def test_a_registry_of_specs_has_no_installed_plugin(bare_registry):
    assert (bare_registry.models, bare_registry.losses, bare_registry.datasets) == ({}, {}, ())
    made_of = registry_of(*tiny_suite(), model_of(net), "deeploc_bench_plugins.losses")
    assert (list(made_of.models), "dice" in made_of.losses, len(made_of.suite("tiny"))) == (["net"], True, 4)


def reference_models():
    from deeploc_bench.contract.loading import load_plugins

    return sorted(load_plugins().models)


@pytest.mark.slow
@pytest.mark.parametrize("name", reference_models())
def test_every_reference_model_conforms(name):
    assert_conforms(name)


@pytest.mark.slow
def test_every_reference_loss_and_suite_conforms(registry):
    for name in [*registry.losses, "photos"]:
        assert_conforms(name)
