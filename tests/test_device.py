"""Where a training is computed is settled by rule, written down when it starts, and taken up again when it goes on."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import save

from deeploc_bench.contract.errors import DeviceError, StoreError, TrainingFailed, UsageError
from deeploc_bench.contract.isolation import put_back, read_settings
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch, FitState
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.training.device import (
    faults_told,
    make_accelerator,
    memory_told,
    peak_bytes,
    resolve_device,
    resolve_precision,
    set_arithmetic,
    start_environment,
)
from deeploc_bench.training.engines import rehearsed
from deeploc_bench.training.workplace import Workplace

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Keep what torchrun would set and what a training settles for the whole process to the test."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    before = read_settings()
    yield
    put_back(before)


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
        (4, "cuda:9999999999", "--device cuda:9999999999: this machine has 4 CUDA devices. Use cuda:0 to cuda:3."),
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


def test_more_processes_than_gpus_are_told_how_many_to_start(gpus, monkeypatch):
    gpus(1)
    for name, value in {
        "TORCHELASTIC_RUN_ID": "none",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        resolve_device("auto")
    assert str(caught.value) == "2 processes on a machine with 1 CUDA device. Start 1 (--nproc-per-node 1)."


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


@pytest.mark.parametrize(
    ("device", "asked", "settled"), [(CPU, True, True), (CPU, False, True), (GPU, True, True), (GPU, False, False)]
)
def test_threads_and_kernels_are_settled_and_only_a_gpu_has_kernels_that_are_not_deterministic(device, asked, settled):
    set_arithmetic(1, device, is_deterministic=asked)
    cudnn = torch.backends.cudnn
    assert torch.get_num_threads() == 1 and not cudnn.allow_tf32
    found = (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
    assert found == (settled, settled, not settled)


def test_cublas_is_told_to_be_deterministic_where_the_user_has_told_it_nothing(monkeypatch):
    for told in (None, ":16:8"):
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
        if told:
            monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", told)
        set_arithmetic(1, GPU)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (told or ":4096:8")


def test_each_training_has_the_device_that_it_asks_for_whatever_the_one_before_had(monkeypatch):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    found = [make_accelerator(torch.device(name), "fp32").device.type for name in ("cpu", "meta", "cpu")]
    assert found == ["cpu", "meta", "cpu"] and os.environ["ACCELERATE_TORCH_DEVICE"] == "meta"


CUDA_SAYS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is "
    "free. Including non-PyTorch memory, this process has 78.10 GiB memory in use."
)


def test_memory_that_is_too_small_fails_a_training_with_what_to_do():
    told = r"the memory of cpu is too small \(.*\d+ bytes.*\): lower the batch size"
    with pytest.raises(TrainingFailed, match=told), memory_told(CPU, "lower the batch size"):
        torch.empty(2**60)
    told = r"the memory of cuda is too small \(CUDA out .* is free\.\): use another$"
    with pytest.raises(TrainingFailed, match=told), memory_told(GPU, "use another"):
        raise torch.OutOfMemoryError(CUDA_SAYS)


def test_where_others_wait_memory_that_is_too_small_ends_them_all(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError), memory_told(CPU, "lower the batch size"):
        torch.empty(2**60)


def test_an_error_that_has_nothing_to_do_with_memory_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shape"), memory_told(CPU, "lower the batch size"):
        torch.ones(2).view(3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine's GPU answers")
def test_a_gpu_that_does_not_answer_is_one_message():
    with pytest.raises(DeviceError) as caught, faults_told(GPU):
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later.")
    assert str(caught.value).startswith(
        "cuda does not answer any more (RuntimeError: CUDA error: unspecified launch failure). What is finished is kept"
    )


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


def test_a_training_goes_on_only_on_the_kind_of_device_that_it_was_begun_on(training, tmp_path):
    made = begin(training, tmp_path)
    store.write_environment(tmp_path, msgspec.structs.replace(made, torch_device="cuda:1", device="Abacus 2000"))
    finish_an_epoch(tmp_path)
    told = r"was begun on cuda \(Abacus 2000\), and goes on only there \(--device cuda\)\. Or delete that folder"
    with pytest.raises(UsageError, match=told):
        begin(training, tmp_path)


def test_fp16_is_trained_on_a_gpu_only(training, tmp_path):
    halved = with_precision(training, "fp16")
    for attempt in (lambda: begin(halved, tmp_path), lambda: rehearsed([(halved, [])], place_in(tmp_path))):
        with pytest.raises(UsageError, match=r"fp16 trains on a GPU only. On a CPU use --precision bf16, fp32 or auto"):
            attempt()


def place_in(folder):
    return Workplace(runs=folder, device="cpu", progress=silent, say=print)


def test_a_training_goes_on_with_as_many_processes_as_it_was_begun_by(training, tmp_path, monkeypatch):
    made = begin(training, tmp_path)
    store.write_environment(tmp_path, msgspec.structs.replace(made, processes=2))
    finish_an_epoch(tmp_path)
    with pytest.raises(UsageError, match=r"was begun by 2 processes, and goes on only with as many .*; here are 1\."):
        begin(training, tmp_path)
