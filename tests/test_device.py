"""Where a training is computed is settled by rule, written down when it starts, and taken up again when it goes on."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import save

from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch, FitState
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.training.device import (
    peak_bytes,
    resolve_device,
    resolve_precision,
    set_arithmetic,
    start_environment,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Keep what torchrun would set and what a training settles for the whole process to the test."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that gives the machine as many GPUs, with bf16 or without."""

    def give(count, bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 and not including_emulation
        )

    return give


@pytest.mark.parametrize(
    ("count", "asked", "found"),
    [(0, "auto", "cpu"), (1, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda", "cuda"), (2, "cuda:1", "cuda:1")],
)
def test_the_device_is_the_one_asked_for_or_the_best(gpus, count, asked, found):
    gpus(count)
    assert resolve_device(asked) == torch.device(found)


@pytest.mark.parametrize(
    ("count", "asked", "told"),
    [
        (0, "cuda", "--device cuda: this machine has no CUDA device that torch can use. Use --device cpu."),
        (0, "cuda:0", "--device cuda:0: this machine has no CUDA device that torch can use. Use --device cpu."),
        (1, "cuda:1", "--device cuda:1: this machine has 1 CUDA device. Use cuda:0."),
        (4, "cuda:7", "--device cuda:7: this machine has 4 CUDA devices. Use cuda:0 to cuda:3."),
    ],
)
def test_a_device_that_is_not_there_is_told_with_those_that_are(gpus, count, asked, told):
    gpus(count)
    with pytest.raises(UsageError) as caught:
        resolve_device(asked)
    assert str(caught.value) == told


def test_each_of_several_processes_has_its_own_device(gpus, monkeypatch):
    gpus(2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="--device cuda:0: each of 2 processes has its own. Use --device cuda."):
        resolve_device("cuda:0")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_named_is_taken(precision):
    assert resolve_precision(precision, CPU) == precision


@pytest.mark.parametrize(
    ("able", "precision"),
    [
        ({}, "fp32"),
        ({"avx512_f": True, "avx2": True}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        ({"amx_bf16": False}, "fp32"),
    ],
)
def test_a_cpu_computes_in_bf16_where_its_hardware_does(monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert resolve_precision("auto", CPU) == precision


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_computes_in_bf16_where_its_hardware_does(gpus, bf16, precision):
    gpus(1, bf16)
    assert resolve_precision("auto", torch.device("cuda")) == precision


def test_threads_and_deterministic_kernels_are_settled_for_the_process():
    set_arithmetic(1, CPU)
    assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()


def test_the_peak_of_memory_holds_what_this_process_has_in_use():
    held = np.ones(30 * 2**20, np.uint8)
    assert peak_bytes(CPU) > held.nbytes


@pytest.fixture(scope="module")
def training():
    """A training on the tiny suite, never done."""
    registry = load_plugins([str(Path(__file__).parent / "tiny.py")])
    job = Job(suite="tiny", models=["residual-unet"], protocols=["same"], recipe="quick")
    return next(iter(prepare(job, silent, registry).plan.trainings.values()))


def with_precision(training, precision):
    return replace(training, recipe=msgspec.structs.replace(training.recipe, precision=precision))


def begin(training, folder, threads=1):
    return start_environment(training, folder, CPU, threads)


def finish_an_epoch(folder):
    epoch = Epoch(epoch=1, loss=0.5, valid_iou=0.5, lr=0.1, seconds=1.0)
    store.write_tensors(folder / "resume.safetensors", save, {"a": np.zeros(1)}, FitState(epochs=(epoch,)))


def test_an_environment_is_written_when_a_training_starts(training, tmp_path):
    made = begin(training, tmp_path)
    assert store.read_environment(tmp_path) == made
    assert (made.torch_device, made.precision, made.threads, made.processes) == ("cpu", "fp32", 1, 1)
    assert made.device and made.versions["torch"] == version("torch")
    assert {"deeploc-bench", "accelerate", "numpy", "pillow", "segmentation_models_pytorch"} <= set(made.versions)


def test_what_was_settled_is_taken_up_again_after_an_epoch(training, tmp_path):
    made = begin(with_precision(training, "bf16"), tmp_path, threads=2)
    finish_an_epoch(tmp_path)
    assert begin(with_precision(training, "fp32"), tmp_path, threads=1) == made
    assert (made.precision, torch.get_num_threads()) == ("bf16", 2)


def test_what_was_settled_before_the_first_epoch_is_settled_anew(training, tmp_path):
    begin(with_precision(training, "bf16"), tmp_path, threads=2)
    made = begin(with_precision(training, "fp32"), tmp_path, threads=1)
    assert (made.precision, made.threads) == ("fp32", 1) and store.read_environment(tmp_path) == made


@pytest.mark.parametrize("damage", ["missing", "empty", "lacking"])
def test_a_half_done_training_whose_environment_is_lost_does_not_go_on(training, tmp_path, damage):
    made = begin(training, tmp_path)
    finish_an_epoch(tmp_path)
    file = tmp_path / "environment.json"
    if damage == "missing":
        file.unlink()
    else:
        lacking = {key: value for key, value in msgspec.to_builtins(made).items() if key != "threads"}
        file.write_bytes(b"" if damage == "empty" else msgspec.json.encode(lacking))
    with pytest.raises(StoreError) as caught:
        begin(training, tmp_path)
    assert f"environment {file}" in str(caught.value)
    assert f"What the arithmetic of {tmp_path} was is lost; delete it and run again." in str(caught.value)


def test_a_training_goes_on_with_as_many_processes_as_it_was_begun_by(training, tmp_path, monkeypatch):
    made = begin(training, tmp_path)
    store.write_environment(tmp_path, msgspec.structs.replace(made, processes=2))
    finish_an_epoch(tmp_path)
    with pytest.raises(UsageError, match=r"was begun by 2 processes, and goes on only with as many .*; here are 1\."):
        begin(training, tmp_path)
