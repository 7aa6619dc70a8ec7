"""Baselines that fit themselves: once, deterministically, and without disturbing the trainings beside them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from boards import outline
from conftest import printed_json, records_of

from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.data.batches import Subset, as_packs
from deeploc_bench.training.baseline_fit import Batches, rehearse_fit

CPU = torch.device("cpu")
PLUGIN = """
from pathlib import Path
import os, signal
from deeploc_bench import Model, hookimpl

def build():
    import torch
    from torch import nn

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def fit(self, train, valid):
            if isinstance(train, list):
                return  # of a rehearsal
            FIT
            self.mean += torch.cat([images.mean(dim=(1, 2, 3)) for images, _ in train]).mean()

        def forward(self, images):
            return (images[:, :1] > self.mean) * 2.0 - 1

    return Mean()

@hookimpl
def deeploc_models():
    return [Model(name="mean", build=build, reference=None, pretraining="none", baseline=True)]
"""
STOPPED = """
            if not Path("stopped").exists():
                Path("stopped").touch()
                os.kill(os.getpid(), signal.SIGKILL)
"""
FAILING = """
            if min(images.min() for images, _ in train) < 20 / 255:
                raise RuntimeError("too dark")
"""


@pytest.fixture
def run(deeploc, tiny, tmp_path):
    """Run the tiny suite for one epoch, beside a baseline of which a line is given."""

    def start(line="", *flags):
        (tmp_path / "mean.py").write_text(PLUGIN.replace("            FIT\n", line))
        return deeploc("run", *tiny, "--plugin", "mean.py", "--set", "epochs=1", *flags)

    return start


def states(runs):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(runs).rglob("model.safetensors")}


def test_batches_are_of_native_size_in_a_fixed_order_and_can_be_read_again(small_pack):
    packs = [small_pack(40, size=(40, 48)), small_pack(3, size=(32, 64), seed=1)]
    batches, ticks = Batches(packs=packs, device=CPU), []
    assert [tuple(images.shape) for images, _ in batches] == [(32, 3, 40, 48), (8, 3, 40, 48), (3, 3, 32, 64)]
    first, again = list(batches), list(Batches(packs=packs, device=CPU, tick=lambda: ticks.append(1)))
    assert all(
        torch.equal(*pair) for one, other in zip(first, again, strict=True) for pair in zip(one, other, strict=True)
    )
    images, masks = first[0]
    assert (images.dtype, masks.dtype, masks.shape) == (torch.float32, torch.float32, (32, 1, 40, 48))
    assert images.min() >= 0 and images.max() <= 1 and set(masks.unique().tolist()) == {0, 1}
    assert len(batches) == len(ticks) == 3


def test_the_batches_of_a_part_are_its_own_samples(small_pack):
    import numpy as np

    pack = small_pack(6)
    ((images, masks),) = Batches(packs=as_packs(Subset(packs=((pack, np.array([1, 4])),))), device=CPU)
    ((whole, truths),) = Batches(packs=[pack], device=CPU)
    assert torch.equal(images, whole[[1, 4]]) and torch.equal(masks, truths[[1, 4]])


def rehearsal(module, registry):
    spec = Model(name="floor", build=module, reference=None, pretraining="none", baseline=True)
    model = Owned(spec=spec, plugin=registry.models["residual-unet"].plugin)
    rehearse_fit(SimpleNamespace(model=model, recipe=SimpleNamespace(size=32, weights="none")))


class Whole(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)

    def fit(self, train, valid):
        for images, masks in (*train, *valid, *train):
            assert (images.shape, masks.shape) == ((2, 3, 32, 32), (2, 1, 32, 32))


class Growing(Whole):
    def fit(self, train, valid):
        self.register_buffer("grown", torch.zeros(3))


class Raising(Whole):
    def fit(self, train, valid):
        raise ZeroDivisionError("by nothing")


class Small(Whole):
    def forward(self, images):
        return super().forward(images)[:, :, ::2]


class Nothing(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)


MISTAKES = {
    Nothing: "is a baseline that is trainable, but the Nothing that it builds has no method fit. Add fit",
    Growing: r"cannot be fitted to images \(2, 3, 32, 32\) and tested on them: RuntimeError: .*grown",
    Raising: r"cannot be fitted to images \(2, 3, 32, 32\) and tested on them: ZeroDivisionError: by nothing",
    Small: r"returned logits of shape \(2, 1, 16, 32\)",
}


@pytest.mark.parametrize("module", MISTAKES)
def test_a_mistake_of_a_baseline_is_told_when_it_is_rehearsed(module, registry):
    with pytest.raises(PluginError, match=rf"model 'floor'.*{MISTAKES[module]}"):
        rehearsal(module, registry)


def test_a_rehearsal_draws_nothing_from_the_stream_of_the_trainings(registry):
    before = torch.get_rng_state()
    rehearsal(Whole, registry)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_trainable_baseline_without_fit_is_refused_before_any_training(run, tmp_path):
    (tmp_path / "plain.py").write_text(
        PLUGIN.replace("def fit", "def learn").replace('"mean", build', '"plain", build')
    )
    done = run("", "--plugin", "plain.py")
    assert (done.returncode, "Traceback" in done.stderr, (tmp_path / "runs").exists()) == (2, False, False)
    assert "model 'plain' (plugin 'plain') is a baseline that is trainable" in done.stderr
    assert "Add fit(train, valid), or say trainable=False." in done.stderr


@pytest.mark.slow
def test_baselines_are_fitted_once_without_loss_or_recipe_and_never_counted(run, tmp_path):
    first = printed_json(run("", "--json"))
    before = states(tmp_path / "runs")
    again = printed_json(run("", "--json"))
    assert [(one["trained"], one["reused"]) for one in (first, again)] == [(2, 0), (0, 2)]
    assert (states(tmp_path / "runs"), again["cells"]) == (before, first["cells"])
    cells = [cell for cell in first["cells"] if cell["model"] == "mean"]
    assert [(c["loss"], c["recipe"], c["seed"], c["train_generators"]) for c in cells] == [
        (None, "fitted", 0, ["dark"]),
        (None, "fitted", 0, ["bright"]),
    ]
    (facts,) = (json.loads(path.read_text()) for path in (tmp_path / "runs/tiny/mean/dark").rglob("training.json"))
    assert (facts["kind"], facts["recipe"], facts["loss"], facts["train_samples"]) == ("fitted", None, [], [16])
    assert set(facts["testing"]) == {"weights", "precision", "input_size"}


@pytest.mark.slow
def test_killed_while_a_baseline_is_fitted_the_run_goes_on_and_ends_in_the_same_records(run, tmp_path):
    killed = run(STOPPED)
    assert killed.returncode < 0 and (tmp_path / "stopped").exists()
    assert not list((tmp_path / "runs/tiny/mean").rglob("model.safetensors"))
    assert run(STOPPED).returncode == 0
    assert run(STOPPED, "--runs", "whole").returncode == 0
    assert records_of(tmp_path / "runs") == records_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_fit_that_fails_is_told_and_stops_nothing_else(run):
    done = run(FAILING, "--json")
    printed = printed_json(done)
    assert (done.returncode, printed["trained"], len(printed["failed"])) == (1, 2, 1)
    assert printed["failed"][0]["train_generators"] == ["dark"]
    assert printed["failed"][0]["reason"] == "model 'mean' (plugin 'mean') cannot be fitted: RuntimeError: too dark"
    assert [c["train_generators"] for c in printed["cells"] if c["model"] == "mean"] == [["bright"]]


@pytest.mark.slow
def test_a_damaged_fit_is_one_message_and_is_made_again_once_it_is_deleted(run, tmp_path):
    assert run().returncode == 0
    before = records_of(tmp_path / "runs")
    (file,) = (tmp_path / "runs/tiny/mean/dark").rglob("model.safetensors")
    file.write_bytes(b"junk")
    (file.parent / "test-bright.csv").unlink()
    damaged = run()
    assert (damaged.returncode, "Traceback" in damaged.stderr) == (2, False)
    assert f"{file.relative_to(tmp_path)} is damaged" in damaged.stderr and "delete it and run again" in damaged.stderr
    file.unlink()
    assert run().returncode == 0
    assert records_of(tmp_path / "runs") == before


@pytest.mark.slow
def test_a_plan_says_what_is_to_be_fitted_and_what_is(run):
    planned = run("", "--dry-run").stdout
    assert planned.count("to fit, 16 samples") == 3 * 2
    assert planned.splitlines()[-1] == "2 trainings, 6 fits of baselines and 10 tests to do"
    assert run().returncode == 0
    done = run("", "--dry-run").stdout
    assert done.count("· fitted") == 3 * 2 and done.splitlines()[-1].startswith("0 trainings, 0 fits")


@pytest.mark.slow
def test_a_baseline_asked_for_by_name_has_rows_of_its_own(deeploc, tiny, tmp_path):
    protocols = ("same", "loo", "cross")
    flags = [flag for protocol in protocols for flag in ("--protocol", protocol)]
    done = deeploc("run", *tiny[:4], "--model", "local-noise", *flags)
    assert done.returncode == 0, done.stderr
    assert all(f"{protocol} · tiny · local-noise · fitted · seed 0" in done.stdout for protocol in protocols)
    assert done.stdout.endswith("0 trained, 0 reused, 0 failed · runs\n")
    assert deeploc("results").stdout in done.stdout


@pytest.mark.slow
def test_images_can_be_predicted_by_a_fitted_baseline(run, deeploc, tmp_path):
    from PIL import Image

    assert run().returncode == 0
    Image.new("RGB", (50, 40), (200, 10, 10)).save(tmp_path / "red.png")
    (folder,) = (tmp_path / "runs/tiny/local-noise/dark").iterdir()
    done = deeploc("predict", folder, "red.png", "-o", "predicted")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "predicted/heatmaps/red.png").exists()
    (folder / "model.safetensors").unlink()
    assert "is not finished; run its command again first" in deeploc("predict", folder, "red.png", "-o", "b").stderr


@pytest.mark.slow
def test_a_fitted_baseline_can_be_submitted_and_is_verified(run, deeploc, tmp_path):
    assert run("", "--protocol", "loo", "--protocol", "same").returncode == 0
    done = deeploc("submit", "local-noise", "--suite", "tiny", "--contact", "me", "-o", "entry.json")
    assert done.returncode == 0, done.stderr
    entry = json.loads((tmp_path / "entry.json").read_text())
    assert (entry["loss"], entry["recipe"], entry["seeds"], entry["baseline"]) == ([], None, [0], True)
    assert (entry["loss_expression"], entry["division"]) == ("fitted", "open")
    outline(tmp_path / "leaderboard", "tiny", ("bright", "dark"), authentic=False)
    assert deeploc("verify", "entry.json").returncode == 0
