"""Models with a loss of their own, losses with parameters, and detectors that were trained elsewhere."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Stopped, environment, fit_until, run_deeploc
from safetensors.torch import load_file, save_file
from torch import nn

from deeploc_bench.contract.errors import PluginError, RecipeError, WeightsError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.specs import Loss, Model
from deeploc_bench.data.suites import silent
from deeploc_bench.leaderboard.collect import Declaration, Selection, collect
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.results.cells import planned_cells, read_cells
from deeploc_bench.results.tables import score_tables
from deeploc_bench.testing import assert_conforms
from deeploc_bench.training.build import TrainingLoss, build_loss
from deeploc_bench.training.engines import run_local
from deeploc_bench.training.rehearsal import rehearse
from deeploc_bench.training.workplace import Workplace

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/models.md").read_text("utf-8")
EDGE_NET, SOFT_BCE, DETECTOR = re.findall(r"```python[^\n]*\n(.*?)```", PAGE, re.DOTALL)
CPU = torch.device("cpu")


@pytest.fixture
def plugins(tmp_path):
    """Return the files of the page's plugins, and that of the tiny suite; the detector has weights."""
    named = {"edge_net": EDGE_NET, "soft_bce": SOFT_BCE, "detector": DETECTOR}
    for name, text in named.items():
        (tmp_path / f"{name}.py").write_text(text)
    write_weights(tmp_path, seed=0)
    return [str(TESTS / "tiny.py"), *(str(tmp_path / f"{name}.py") for name in named)]


def write_weights(folder, seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    save_file(module.state_dict(), folder / "detector.safetensors")


@pytest.fixture
def prepared(plugins):
    """Return a function from a job on the tiny suite to what is prepared for it."""
    registry = load_plugins(plugins)

    def make(**asked):
        settings = ["epochs=2", *asked.pop("settings", ())]
        return prepare(Job(suite="tiny", recipe="quick", settings=settings, **asked), silent, registry)

    return make


@pytest.fixture
def training(prepared):
    """Return a function from a loss, and recipe settings, to the training of the edge net on one generator."""

    def make(loss, *settings, model="edge-net"):
        job = {"models": [model], "losses": [loss], "protocols": ["same"], "settings": settings}
        return next(one for one in prepared(**job).plan.trainings.values() if one.loss)

    return make


def fitted(training, folder, stop_after=None):
    fit_until(training, folder, stop_after)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("loss", ["own", "own+0.5*dice"])
def test_an_edge_branch_is_trained_by_the_models_own_loss_and_goes_on_after_a_stop(training, tmp_path, loss, precision):
    one = training(loss, f"precision={precision}")
    rehearse(one)
    whole = fitted(one, tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(one, tmp_path / "stopped", 1)
    fitted(one, tmp_path / "stopped")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]
    without = fitted(training("dice", f"precision={precision}"), tmp_path / "without")
    assert not torch.equal(whole["edge_head.weight"], without["edge_head.weight"])


def test_the_models_own_loss_is_a_term_of_the_sum_in_its_precision_and_the_others_are_float32(training):
    one = training("2*own+0.5*dice")
    module, masks = HasOwn(), torch.ones(2, 1, 32, 32)
    loss = TrainingLoss(module, one.model, one.loss, None)
    dice, seen = loss.terms[1][1], []
    loss.terms[1] = (0.5, lambda logits, masks: dice(seen.append(logits) or logits, masks))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(torch.rand(2, 3, 32, 32), masks)
    assert module.types == [torch.bfloat16] and seen[0].dtype == value.dtype == torch.float32
    assert value.item() == pytest.approx(2 * 0.75 + 0.5 * dice(seen[0], masks).item())


class HasOwn(nn.Module):
    """A localizer that keeps what its own loss was given."""

    def __init__(self):
        super().__init__()
        self.layer, self.types, self.given = nn.Conv2d(3, 1, 1), [], []

    def forward(self, images):
        return self.layer(images)

    def training_loss(self, images, masks):
        self.types.append(self(images).dtype)
        self.given.append((images.shape, masks.shape, masks.unique().tolist()))
        return torch.tensor(0.75)


def test_the_models_own_loss_gets_images_and_masks_of_its_input_size(training):
    one, module = training("own"), HasOwn()
    masks = (torch.rand(2, 1, 50, 40) > 0.5).float()
    TrainingLoss(module, one.model, one.loss, 32)(torch.rand(2, 3, 50, 40), masks)
    assert module.given == [((2, 3, 32, 32), (2, 1, 32, 32), [0.0, 1.0])]


def test_the_models_own_loss_is_the_models_code(training):
    facts = training("own+0.5*dice").facts
    assert [(term.name, term.weight) for term in facts.loss] == [("own", 1.0), ("dice", 0.5)]
    assert facts.loss[0].source == facts.model.source != facts.loss[1].source


def test_a_model_without_a_loss_of_its_own_is_refused_before_any_training(prepared, tmp_path):
    job = prepared(models=["residual-unet"], losses=["own"])
    said = []
    place = Workplace(runs=tmp_path / "runs", device="cpu", progress=silent, say=said.append)
    with pytest.raises(PluginError, match=r"model 'residual-unet' .* has no loss of its own, which 'own' asks for"):
        run_local(job, place)
    assert not list((tmp_path / "runs").rglob("model.safetensors"))


def test_parameters_are_part_of_what_identifies_a_training_and_a_default_written_out_is_none(training):
    plain, same, other = (training(f"soft-bce{text}").facts for text in ("", "(width=5,floor=0)", "(width=3)"))
    assert same.identity == plain.identity != other.identity
    assert (plain.loss[0].parameters, other.loss[0].parameters) == ({}, {"width": 3})
    assert other.what == "edge-net + soft-bce(width=3)"


def test_a_loss_with_parameters_trains_as_it_was_asked_for(training, tmp_path):
    results = [fitted(training(loss), tmp_path / loss) for loss in ("soft-bce", "soft-bce(width=9)")]
    assert not torch.equal(results[0]["mask_head.weight"], results[1]["mask_head.weight"])


def test_a_loss_moves_to_the_device_with_its_tensors(training):
    (term,) = training("soft-bce(width=3)").loss.terms
    kernel = build_loss(term, torch.device("meta")).kernel
    assert (kernel.shape, kernel.device.type) == ((1, 1, 3, 3), "meta")


def test_the_plugins_of_the_page_are_sound(training, plugins):
    rehearse(training("soft-bce(width=3,floor=0.01)+own"))
    for name in ("edge-net", "soft-bce", "detector"):
        assert_conforms(name, registry=load_plugins(plugins))


def run_detector(prepared, runs):
    """Test the detector by `loo`; returns its cells."""
    job = prepared(models=["detector"])
    run_local(job, Workplace(runs=runs, device="cpu", progress=silent, say=print))
    return [cell for cell in planned_cells(runs, job.plan) if cell.facts.is_detector]


def test_other_bytes_under_the_path_of_a_detectors_weights_are_another_experiment(prepared, tmp_path):
    before = run_detector(prepared, tmp_path / "runs")
    assert {cell.facts.identity for cell in run_detector(prepared, tmp_path / "runs")} == {before[0].facts.identity}
    write_weights(tmp_path, seed=1)
    after = run_detector(prepared, tmp_path / "runs")
    assert after[0].facts.experiment != before[0].facts.experiment
    assert after[0].records.preds != before[0].records.preds
    assert {cell.facts.experiment for cell in read_cells(tmp_path / "runs") if cell.facts.is_detector} == {
        after[0].facts.experiment,
        before[0].facts.experiment,
    }


def test_a_detector_is_tested_told_of_and_submitted_with_what_it_declares(prepared, tmp_path):
    cells = run_detector(prepared, tmp_path / "runs")
    (table,) = score_tables(cells)
    assert table.caption.startswith("loo · tiny · detector · trained elsewhere: ldm · ")
    assert [line[:2] for line in table.lines] == [("ldm", "bright"), ("ldm", "dark"), ("mean", "")]
    declaration = Declaration(name="entry", contact="me", date=datetime.date(2026, 1, 31))
    found = collect(tmp_path / "runs", Selection(suite="tiny", model="detector"), declaration)
    assert (found.model.trained_on, found.model.weights) == (("ldm",), cells[0].facts.weights)
    assert (found.pretraining, found.division, found.claims.same) == ("imagenet", "open", None)


def test_a_weights_file_that_is_not_there_is_one_error(prepared, tmp_path):
    (tmp_path / "detector.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model 'detector': its weights file .*detector.safetensors is not there"):
        prepared(models=["detector"])


def test_a_detector_takes_no_other_weights_than_its_own(prepared):
    with pytest.raises(RecipeError, match="'detector' takes no weights file"):
        prepared(models=["detector"], settings=["weights=/etc/hostname"])


@pytest.mark.slow
def test_predict_refuses_a_detector_whose_weights_have_changed(prepared, plugins, tmp_path):
    (first, *_) = run_detector(prepared, tmp_path / "runs")
    write_weights(tmp_path, seed=1)
    image = next(first.folder.glob("examples/*.png"))
    done = run_deeploc(tmp_path, "predict", first.folder, image, "-o", "out", "--plugin", plugins[-1])
    assert done.returncode == 2 and "has changed since" in done.stderr and not (tmp_path / "out").exists()


ABOUT = {"name": "net", "build": object, "reference": None, "pretraining": "none"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": Path("/w")}, "model 'net' declares weights, which only a detector has"),
        ({"trained_on": ()}, "model 'net' declares trained_on, which only a detector has"),
        ({"trained_on": ("a",), "trainable": False, "baseline": True}, "declares trained_on, which only a detector"),
        ({"weights": "w.pt", "trainable": False}, "has weights 'w.pt'; expected an absolute path"),
        ({"weights": 3, "trainable": False}, "has weights 3; expected an absolute path"),
        ({"trained_on": "lama", "trainable": False}, "has trained_on 'lama'; expected a list of generators"),
        ({"trained_on": 3, "trainable": False}, "has trained_on 3; expected a list of generators"),
        ({"trained_on": ["LaMa"], "trainable": False}, "trained_on of model 'net' is 'LaMa'; expected lower-case"),
    ],
)
def test_a_model_that_declares_what_is_not_its_own_is_refused(changes, message):
    with pytest.raises(PluginError, match=message):
        Model(**ABOUT | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "own"}, "a loss is called 'own', which stands for a model's own training_loss; rename it"),
        ({"parameters": ["gamma"]}, r"has parameters \['gamma'\]; expected names and defaults"),
        ({"parameters": {"Gamma": 2}}, "a parameter of loss 'mine' is 'Gamma'; expected lower-case"),
        ({"parameters": {"gamma": "2"}}, "parameter 'gamma' of loss 'mine' has the default '2'; expected a number"),
        ({"parameters": {"gamma": True}}, "has the default True; expected a number"),
        ({"parameters": {"gamma": float("nan")}}, "has the default nan; expected a number"),
    ],
)
def test_a_loss_that_declares_what_no_expression_can_set_is_refused(changes, message):
    with pytest.raises(PluginError, match=message):
        Loss(**{"name": "mine", "build": object} | changes)


@pytest.mark.slow
def test_the_models_own_loss_is_trained_by_two_processes(plugins, tmp_path):
    flags = ["--plugin", plugins[0], "--plugin", plugins[1], "--suite", "tiny", "--model", "edge-net", "--loss", "own"]
    flags += ["--recipe", "quick", "--set", "epochs=1", "--threads", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["deeploc_bench", "run", *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 trained, 0 reused, 0 failed" in done.stdout


def test_what_a_detector_has_seen_is_not_declared_by_saying_nothing(plugins, tmp_path):
    silence = DETECTOR.replace('        trained_on=["ldm"],\n', "").replace('"imagenet"', '"none"')
    (tmp_path / "detector.py").write_text(silence)
    job = Job(suite="tiny", models=["detector"], recipe="quick")
    plan = prepare(job, silent, load_plugins(plugins)).plan
    (facts,) = (one.facts for one in plan.trainings.values() if one.facts.is_detector)
    assert (facts.trained_on, facts.pretraining) == (None, None) and facts.weights
