"""Training on a GPU: deterministic, in each precision resumed as if never stopped, and a step waits for nothing."""

from __future__ import annotations

import math

import pytest
import torch
from cards import BLUR, DEVICE, IS_GPU, LEFT, on_gpus, on_two_gpus, trainings, waits
from conftest import Stopped, fit_until

from deeploc_bench.contract.errors import TrainingFailed
from deeploc_bench.contract.isolation import put_back, read_settings
from deeploc_bench.plan import store
from deeploc_bench.training.device import make_accelerator, start_environment, working_on
from deeploc_bench.training.fit import Fit

PRECISIONS = ["fp32", "bf16", "fp16"]
SMALL = ("batch_size=4", "size=32", "lr=0.05", "schedule=constant", "epochs=4", *BLUR)


@pytest.fixture(autouse=True)
def settled():
    before = read_settings()
    yield
    put_back(before)


@pytest.fixture(autouse=True)
def scaled_on_a_cpu(monkeypatch):
    """Scale the loss of fp16 on a CPU, too, where these tests are tried there."""

    def make(device, precision):
        accelerator = make_accelerator(device, precision)
        accelerator.scaler = torch.amp.GradScaler("cpu") if precision == "fp16" else None
        return accelerator

    if not IS_GPU:
        monkeypatch.setattr("deeploc_bench.training.fit.make_accelerator", make)
        monkeypatch.setattr("deeploc_bench.training.device.check_precision", lambda precision, device: None)


def begun(training, folder):
    return Fit(training, start_environment(training, folder, DEVICE, 1), DEVICE)


def outcome_of(folder):
    """Return all that a finished fit leaves but its times: the model, and each epoch's loss, IoU and lr."""
    rows = [row.rpartition(",")[0] for row in (folder / "epochs.csv").read_text().splitlines()]
    return (folder / "model.safetensors").read_bytes(), rows


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_fit_that_was_stopped_ends_in_the_same_files(tmp_path, precision, optimizer):
    (training,) = trainings(*SMALL, f"precision={precision}", f"optimizer={optimizer}")
    fit_until(training, tmp_path / "whole", device=DEVICE)
    with pytest.raises(Stopped):
        fit_until(training, tmp_path / "stopped", 2, DEVICE)
    assert bool(store.read_state(tmp_path / "stopped").scaler) is (precision == "fp16")
    fit_until(training, tmp_path / "stopped", device=DEVICE)
    assert outcome_of(tmp_path / "stopped") == outcome_of(tmp_path / "whole")


# nearest, bilinear and transposed upsampling, pooling to several sizes
@pytest.mark.parametrize("model", ["unet-resnet18", "deeplabv3plus-resnet18", "linknet-resnet18", "fpn-resnet18"])
def test_a_fit_done_twice_ends_in_the_same_files(tmp_path, model):
    (training,) = trainings(*SMALL, "size=64", "epochs=2", models=[model])
    for name in ("one", "other"):
        fit_until(training, tmp_path / name, device=DEVICE)
    assert outcome_of(tmp_path / "one") == outcome_of(tmp_path / "other")


def test_kernels_that_are_not_deterministic_are_there_for_whom_they_are_asked_for(tmp_path):
    (training,) = trainings(*SMALL, "deterministic=false")
    fit_until(training, tmp_path, device=DEVICE)
    assert max(store.read_validation(tmp_path)) > 0.5
    assert torch.are_deterministic_algorithms_enabled() is not IS_GPU
    assert torch.backends.cudnn.benchmark is IS_GPU


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_first_step_that_overflows_leaves_no_trace_but_a_lower_scale(tmp_path, optimizer):
    (training,) = trainings(*SMALL, "batch_size=16", "precision=fp16", f"optimizer={optimizer}")
    run = begun(training, tmp_path)
    before = [parameter.detach().clone() for parameter in run.parameters]
    scale = run.accelerator.scaler.get_scale()
    hook = run.parameters[0].register_hook(lambda gradient: gradient * math.inf)
    run.epoch(0, lambda: None)
    hook.remove()
    assert all(map(torch.equal, run.parameters, before)) and run.accelerator.scaler.get_scale() == scale / 2
    states = [value for state in run.plain_optimizer.state.values() for value in state.values() if value is not None]
    assert states and not any(value.any() for value in states)
    for epoch in range(1, 4):
        run.epoch(epoch, lambda: None)
    assert all(parameter.isfinite().all() for parameter in run.parameters)


@on_gpus
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("deterministic", ["true", "false"])
def test_a_step_waits_for_nothing(tmp_path, precision, deterministic):
    counts = []
    for size in (8, 2):  # two steps an epoch, or eight
        settings = ("flip=true", f"batch_size={size}", f"precision={precision}", f"deterministic={deterministic}")
        (training,) = trainings(*SMALL, *settings)
        run = begun(training, tmp_path / str(size))
        run.epoch(0, lambda: None)  # what is made at its first use may wait
        assert len(run.batches(1)) == 16 // size
        counts.append(waits(lambda run=run: run.epoch(1, lambda: None)))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parameters_and_states_lie_where_they_are_trained(tmp_path, precision):
    (training,) = trainings(*SMALL, f"precision={precision}")
    with pytest.raises(Stopped):
        fit_until(training, tmp_path, 1, DEVICE)
    run = begun(training, tmp_path)
    run.resume(tmp_path)
    run.epoch(1, lambda: None)
    states = [value for state in run.plain_optimizer.state.values() for value in state.values()]
    places = {tensor.device.type for tensor in (*run.module.state_dict().values(), *states) if tensor.dim()}
    assert places == {DEVICE.type}


def test_an_environment_names_what_computes(tmp_path):
    (training,) = trainings()
    made = start_environment(training, tmp_path, DEVICE, 1)
    names = {"cuda", "cudnn", "nvidia-driver"} if IS_GPU and not torch.version.hip else set()
    assert names <= set(made.versions) and made.torch_device == str(DEVICE)
    assert not IS_GPU or made.device == torch.cuda.get_device_name(DEVICE)


@on_gpus
def test_each_training_tells_its_own_peak_of_memory_and_leaves_nothing_behind(tmp_path):
    large = trainings("size=256", "epochs=1", models=["unet-resnet18"])
    small = trainings("size=32", "epochs=1")
    peaks = []
    for place, training in enumerate([*large, *small]):
        with working_on(DEVICE):
            fit_until(training, tmp_path / str(place), device=DEVICE)
        peaks.append(store.read_environment(tmp_path / str(place)).peak_memory_mib)
    assert peaks[0] > 10 * peaks[1] > 0
    with working_on(DEVICE):
        assert torch.cuda.memory_allocated(DEVICE) < LEFT


class Greedy(torch.nn.Module):
    """Takes more memory than any machine has, but for the two images that it is tried with."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 1)

    def forward(self, images):
        if len(images) > 2:
            self.held = torch.ones(3 * LEFT, dtype=torch.uint8, device=images.device)
            torch.empty(2**60, device=images.device)
        return self.layer(images)


GREEDY = '''"""A model that takes too much memory."""
from deeploc_bench import Model, hookimpl

def build():
    from test_gpu_training import Greedy
    return Greedy()

@hookimpl
def deeploc_models():
    return [Model(name="greedy", build=build, reference=None, pretraining="none")]
'''


def test_a_model_that_takes_too_much_memory_fails_alone_and_the_next_has_all_of_it(tmp_path):
    (tmp_path / "greedy.py").write_text(GREEDY)
    greedy, small = trainings(*SMALL, plugins=[tmp_path / "greedy.py"], models=["greedy", "small"])
    told = rf"the memory of {DEVICE} is too small .*: lower the batch size, --set batch_size=2"
    with pytest.raises(TrainingFailed, match=told), working_on(DEVICE):
        fit_until(greedy, tmp_path / "greedy", device=DEVICE)
    with working_on(DEVICE):
        assert not IS_GPU or torch.cuda.memory_allocated(DEVICE) < LEFT
        fit_until(small, tmp_path / "small", device=DEVICE)
    assert store.is_trained(tmp_path / "small")


@on_two_gpus
def test_a_gpu_that_is_named_is_the_only_one_that_is_used(tmp_path):
    (training,) = trainings(*SMALL)
    with working_on(torch.device("cuda:1")):
        assert torch.cuda.current_device() == 1
        torch.cuda.reset_peak_memory_stats(0)
        fit_until(training, tmp_path, device="cuda:1")
        assert torch.cuda.max_memory_allocated(0) == torch.cuda.memory_allocated(0)
        assert torch.cuda.max_memory_allocated(1) > torch.cuda.memory_allocated(1)
    assert store.read_environment(tmp_path).torch_device == "cuda:1"
