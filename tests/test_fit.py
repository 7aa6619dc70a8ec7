"""Fitting: the lr of each step, the batches of each epoch, and a training that goes on as if it had never stopped."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
import torch
from conftest import Stopped, fit_until
from safetensors.torch import load, load_file, save

from deeploc_bench.contract.errors import StoreError, TrainingFailed
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.plan import store
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.training.device import make_accelerator, set_arithmetic, start_environment
from deeploc_bench.training.fit import Fit, fit, one_cycle

CPU = torch.device("cpu")
EPOCHS = 4
SETTINGS = ["epochs=4", "batch_size=4", "size=32", "lr=0.05", "schedule=constant"]
SETTINGS += ["blur_probability=0.5", "blur_sigma=1.0"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    set_arithmetic(1, CPU)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def registry():
    return load_plugins([str(Path(__file__).parent / "easy.py")])


@pytest.fixture
def trainings(registry):
    """Return a function from settings to the trainings of a small model on a suite that is learned, one a seed."""

    def make(*settings, loss="jaccard", seeds=(0,)):
        job = Job(
            suite="easy",
            models=["small"],
            losses=[loss],
            seeds=seeds,
            protocols=["same"],
            recipe="quick",
            settings=[*SETTINGS, *settings],
        )
        return [one for one in prepare(job, silent, registry).plan.trainings.values() if one.loss]

    return make


@pytest.mark.parametrize(
    ("share", "lr"),
    [(0, 0.04), (0.15, 0.52), (0.3, 1.0), (0.65, 0.5), (1.0, 0.0), (0.475, 0.8535533905932737)],
)
def test_one_cycle_climbs_for_three_tenths_and_falls_to_nothing(share, lr):
    assert one_cycle(share) == pytest.approx(lr, abs=1e-12)


def test_one_cycle_is_torchs():
    steps = 1000
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps + 1, pct_start=0.3, div_factor=25, final_div_factor=math.inf
    )
    for step in range(steps):
        assert one_cycle(step / steps) == pytest.approx(theirs.get_last_lr()[0], abs=5e-3)
        optimizer.step()
        theirs.step()


def begun(training, folder):
    return Fit(training, start_environment(training, folder, CPU, 1), CPU)


@pytest.mark.parametrize(
    ("size", "lengths"), [(4, [4, 4, 4, 4]), (5, [5, 5, 5]), (6, [6, 6, 4]), (16, [16]), (100, [16]), (1, [1] * 16)]
)
def test_a_last_batch_of_one_image_is_left_out(trainings, tmp_path, size, lengths):
    batches = begun(trainings(f"batch_size={size}")[0], tmp_path).batches(0)
    assert [len(batch) for batch in batches] == lengths
    positions = np.concatenate(batches).tolist()
    assert len(set(positions)) == len(positions) and set(positions) <= set(range(16))


def test_several_processes_leave_out_a_last_batch_of_less_than_two_images_each(trainings, tmp_path, monkeypatch):
    run = begun(trainings("batch_size=6")[0], tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert [len(batch) for batch in run.batches(0)] == [6, 6]  # and 4 of 16 images are left over


def test_the_order_of_the_samples_is_drawn_from_seed_and_epoch_alone(trainings, tmp_path):
    first, other = trainings(seeds=(0, 1))
    run = begun(first, tmp_path / "a")
    orders = [np.concatenate(one.batches(epoch)).tolist() for one, epoch in ((run, 0), (run, 1), (run, 0))]
    assert orders[0] == orders[2] != orders[1]
    assert orders[1] == np.random.default_rng([0, 1, 0]).permutation(16).tolist()
    assert np.concatenate(begun(other, tmp_path / "b").batches(0)).tolist() != orders[0]


@pytest.mark.parametrize(
    ("schedule", "shares"), [("constant", [1, 1, 1, 1]), ("one-cycle", [one_cycle(s / 16) for s in (3, 7, 11, 15)])]
)
def test_an_epoch_tells_the_lr_of_its_last_step(trainings, tmp_path, schedule, shares):
    run = begun(trainings(f"schedule={schedule}")[0], tmp_path)
    lrs = [run.epoch(epoch, lambda: None).lr for epoch in range(EPOCHS)]
    assert lrs == pytest.approx([0.05 * share for share in shares], rel=1e-12)


def kept(run, epochs, best):
    """Return the bytes of what a run keeps after an epoch."""
    with TemporaryDirectory() as folder:
        run.keep(Path(folder), epochs, best)
        return (Path(folder) / "resume.safetensors").read_bytes()


def states_of(run, count):
    """Return what each of the first epochs leaves behind, as a fit keeps it."""
    epochs, best, states = [], {}, []
    for number in range(count):
        finished = run.epoch(number, lambda: None)
        if not epochs or finished.valid_iou > max(past.valid_iou for past in epochs):
            best = {name: tensor.clone() for name, tensor in run.module.state_dict().items()}
        epochs.append(msgspec.structs.replace(finished, seconds=0.0))
        states.append(kept(run, epochs, best))
    return epochs, states


def assert_equal_states(one, other):
    first, second = load(one), load(other)
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_a_training_resumed_after_any_epoch_goes_on_as_if_never_stopped(trainings, tmp_path, optimizer, schedule):
    training = trainings("lr=1.0", f"optimizer={optimizer}", f"schedule={schedule}")[0]
    epochs, states = states_of(begun(training, tmp_path), EPOCHS)
    for done in range(1, EPOCHS):
        (tmp_path / "resume.safetensors").write_bytes(states[done - 1])
        run = begun(training, tmp_path)
        past, best = run.resume(tmp_path)
        assert past == epochs[:done]
        assert_equal_states(kept(run, past, best), states[done - 1])
        finished = msgspec.structs.replace(run.epoch(done, lambda: None), seconds=0.0)
        assert finished == epochs[done]
        if finished.valid_iou > max(one.valid_iou for one in past):
            best = run.module.state_dict()
        assert_equal_states(kept(run, [*past, finished], best), states[done])


def test_the_suite_of_these_tests_is_learned_and_its_best_epoch_is_not_always_the_last(trainings, tmp_path):
    curves = [
        [epoch.valid_iou for epoch in states_of(begun(one, tmp_path / str(place)), EPOCHS)[0]]
        for place, one in enumerate(trainings("lr=1.0", seeds=range(5)))
    ]
    assert all(curve[0] < 0.7 < max(curve) for curve in curves)
    assert {curve.index(max(curve)) for curve in curves} != {EPOCHS - 1}


@pytest.mark.parametrize("stop_after", range(1, EPOCHS))
def test_a_fit_that_was_stopped_ends_in_the_same_files(trainings, tmp_path, stop_after):
    training = trainings()[0]
    fit_until(training, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit_until(training, tmp_path / "stopped", stop_after)
    assert store.finished_epochs(tmp_path / "stopped") == stop_after
    assert not store.is_trained(tmp_path / "stopped")
    fit_until(training, tmp_path / "stopped")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]
    assert store.read_validation(tmp_path / "whole") == store.read_validation(tmp_path / "stopped")
    assert not (tmp_path / "stopped/resume.safetensors").exists()


@pytest.mark.parametrize("seed", range(4))
def test_the_model_that_is_kept_is_that_of_the_best_epoch(trainings, tmp_path, seed):
    (training,) = trainings("lr=1.0", seeds=[seed])
    fit_until(training, tmp_path / "whole")
    curve = store.read_validation(tmp_path / "whole")
    _, states = states_of(begun(training, tmp_path / "again"), EPOCHS)
    expected = load(states[curve.index(max(curve))])
    for name, tensor in load_file(tmp_path / "whole/model.safetensors").items():
        assert torch.equal(tensor, expected[f"model.{name}"]), name


def test_a_finished_fit_tells_what_it_cost(trainings, tmp_path):
    training = trainings()[0]
    fit_until(training, tmp_path)
    made = store.read_environment(tmp_path)
    assert made.parameters == (3 * 25 + 1) * 8 + 2 * 8 + 8 * 9 + 1
    assert made.wall_seconds > 0 and made.last_start_seconds >= made.wall_seconds and made.peak_memory_mib > 50


def test_observers_hear_of_each_epoch_once_and_in_order(trainings, tmp_path):
    heard = []
    fit(trainings()[0], tmp_path, device=CPU, threads=1, progress=silent, on_epoch=heard.append)
    assert [epoch.epoch for epoch in heard] == [1, 2, 3, 4]
    assert [epoch.valid_iou for epoch in heard] == store.read_validation(tmp_path)


@pytest.mark.parametrize("content", [b"", b"noise" * 50])
def test_a_damaged_state_is_one_message_with_its_cure(trainings, tmp_path, content):
    training = trainings()[0]
    (tmp_path / "resume.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"resume.safetensors is damaged .*; delete it and run again"):
        fit_until(training, tmp_path)


def test_a_state_without_its_epochs_is_damaged(trainings, tmp_path):
    run = begun(trainings()[0], tmp_path)
    store.write_tensors(tmp_path / "resume.safetensors", save, {"a": torch.zeros(1)}, {"scaler": {}})
    with pytest.raises(StoreError, match="is damaged .*required field `epochs`"):
        run.resume(tmp_path)


def test_the_scale_of_a_loss_scaler_goes_on(trainings, tmp_path):
    first, other = (begun(trainings()[0], tmp_path) for _ in range(2))
    for run in (first, other):
        run.accelerator.scaler = torch.amp.GradScaler("cpu")
    first.accelerator.scaler.scale(torch.ones(1))
    first.accelerator.scaler.update(new_scale=8.0)
    first.keep(tmp_path, [], {})
    assert other.accelerator.scaler.get_scale() != 8.0
    other.resume(tmp_path)
    assert other.accelerator.scaler.state_dict() == first.accelerator.scaler.state_dict()


@pytest.mark.parametrize("loss", ["jaccard+dice+focal+bce+tversky", "lovasz"])
def test_nothing_in_a_step_is_read_back_from_its_device(trainings, tmp_path, monkeypatch, loss):
    """On the device `meta` there is nothing to read; on a GPU, reading is waiting."""
    monkeypatch.setattr("deeploc_bench.training.fit._optimizer", lambda recipe, own: torch.optim.Adam(own))  # not fused
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: nullcontext())  # which does not know `meta`
    (training,) = trainings("flip=true", loss=loss)
    run = Fit(training, start_environment(training, tmp_path, CPU, 1), torch.device("meta"))
    assert run._step(run._read((run.batches(0)[0], [0, 0, 1])), [0, 0, 1]).is_meta
    assert len(run.plain_optimizer.state) == len(run.parameters)


@pytest.fixture
def scaled(monkeypatch):
    """Let fits on the CPU scale their loss, as those in fp16 on a GPU do."""

    def make(device, precision):
        accelerator = make_accelerator(device, precision)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
        return accelerator

    monkeypatch.setattr("deeploc_bench.training.fit.make_accelerator", make)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_first_step_that_overflows_leaves_no_trace_but_half_the_scale(trainings, tmp_path, scaled, optimizer):
    run = begun(trainings(f"optimizer={optimizer}", "batch_size=16")[0], tmp_path)
    before = [parameter.detach().clone() for parameter in run.parameters]
    hook = run.parameters[0].register_hook(lambda gradient: gradient * math.inf)
    run.epoch(0, lambda: None)
    hook.remove()
    assert all(map(torch.equal, run.parameters, before)) and run.accelerator.scaler.get_scale() == 32.0
    states = [value for state in run.plain_optimizer.state.values() for value in state.values() if value is not None]
    assert states and not any(value.any() for value in states)
    run.epoch(1, lambda: None)
    assert all(parameter.isfinite().all() for parameter in run.parameters)
    assert not torch.equal(run.parameters[0], before[0])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_fit_with_a_scaled_loss_that_was_stopped_ends_in_the_same_files(trainings, tmp_path, scaled, optimizer):
    training = trainings("lr=1.0", f"optimizer={optimizer}")[0]
    fit_until(training, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit_until(training, tmp_path / "stopped", stop_after=2)
    assert store.read_state(tmp_path / "stopped").scaler["scale"] == 256.0  # doubled in the steps 3 and 6 of 8
    fit_until(training, tmp_path / "stopped")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]


def test_a_loss_that_is_nan_fails_the_training_with_what_to_do(trainings, tmp_path):
    training = trainings(loss="nothing")[0]
    with pytest.raises(TrainingFailed, match=r"the loss is nan in epoch 1; lower the lr \(--set lr=...\) or change"):
        fit_until(training, tmp_path)
    assert not (tmp_path / "resume.safetensors").exists() and not store.is_trained(tmp_path)


def test_seeds_differ_from_their_first_weights_on(trainings, tmp_path):
    first, other = (begun(one, tmp_path / str(place)) for place, one in enumerate(trainings(seeds=(0, 1))))
    assert not torch.equal(first.module[0].weight, other.module[0].weight)


def test_torch_draws_anew_in_each_epoch_and_seed(trainings, tmp_path):
    drawn = set()
    for place, training in enumerate(trainings(seeds=(0, 1))):
        run = begun(training, tmp_path / str(place))
        for epoch in range(2):
            run.epoch(epoch, lambda: None)
            drawn.add(torch.rand(1).item())
    assert len(drawn) == 4


def test_the_lr_reaches_each_parameter(trainings, tmp_path):
    run = begun(trainings("schedule=one-cycle")[0], tmp_path)
    finished = run.epoch(0, lambda: None)
    assert {group["lr"] for group in run.plain_optimizer.param_groups} == {finished.lr}


def test_an_epoch_is_validated_on_the_validation_split(trainings, tmp_path):
    training = trainings()[0]
    (own,) = begun(training, tmp_path).valid
    assert own.ids == tuple(f"valid-{i:02}" for i in range(6))
