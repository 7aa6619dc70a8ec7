"""Training on a GPU beside a bare loop, and what deterministic kernels cost; ratios are read from one run.

Run with: pytest tests/benchmarks/test_gpu.py --benchmark-only -o addopts= -s

DEEPLOC_GPU_TESTS=cpu tries the benchmark itself on a CPU, with small images and models; its numbers say nothing.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.augment import to_float
from deeploc_bench.data.batches import as_packs, read_batch
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.training.device import peak_bytes, set_arithmetic, start_environment, working_on
from deeploc_bench.training.evaluate import AUTOCAST_DTYPES
from deeploc_bench.training.fit import Fit

DEVICE = torch.device(os.environ.get("DEEPLOC_GPU_TESTS", "cuda"))
IS_GPU = DEVICE.type == "cuda"
if IS_GPU and not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

ROUNDS, IMAGES, SIDE, ENCODER = (9, 512, 256, "resnet50") if IS_GPU else (2, 16, 64, "resnet18")


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """Return a function from a model and settings to its training by the poster's recipe, begun from scratch."""
    monkeypatch.setenv("NOISE_SIDE", str(SIDE))
    monkeypatch.setenv("NOISE_TRAIN", str(IMAGES))
    registry = load_plugins([str(Path(__file__).parent / "noise.py")])

    def begin(model, *settings):
        sizes = ("weights=none", f"size={SIDE}", "lr=1e-4", *settings)
        job = Job(suite="noise", models=[model], protocols=["same"], recipe="poster", settings=sizes)
        training = next(one for one in prepare(job, silent, registry).plan.trainings.values() if one.loss)
        return Fit(training, start_environment(training, tmp_path, DEVICE, torch.get_num_threads()), DEVICE)

    with working_on(DEVICE):
        yield begin


def seconds_of(do):
    started = time.perf_counter()
    do()  # which ends with a number that is read back
    return time.perf_counter() - started


def bare(fit):
    """Return an epoch of a loop with nothing around it: all images lie on the device, and nothing is validated."""
    (train,) = as_packs(fit.training.train)
    images, masks = (torch.from_numpy(part).to(DEVICE) for part in read_batch(train, np.arange(len(train))))
    dtype = AUTOCAST_DTYPES.get(fit.precision)

    def epoch():
        fit.module.train()
        total = torch.zeros((), device=DEVICE)
        for batch in torch.randperm(len(images)).split(16):
            chosen = batch.to(DEVICE)
            with torch.autocast(DEVICE.type, dtype=dtype, enabled=dtype is not None):
                logits = fit.module(to_float(images[chosen])).float()
            with torch.autocast(DEVICE.type, enabled=False):
                probs, truth = logits.sigmoid(), masks[chosen].float()[:, None]
                overlap = (probs * truth).sum()
                loss = 1 - overlap / (probs.sum() + truth.sum() - overlap)
            loss.backward()
            fit.plain_optimizer.step()
            fit.plain_optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        return float(total)

    return epoch


def steps(fit):
    """Return an epoch of the harness without its validation."""

    def epoch():
        fit.loss.train()
        total = torch.zeros((), device=DEVICE)
        for number, batch in enumerate(fit.batches(0)):
            seed = [0, 0, number + 1]
            total += fit._step(fit._read((batch, seed)), seed)
        return float(total)

    return epoch


def compared(benchmark, capsys, what, one, other):
    """Benchmark `one` in turns with `other`; prints and returns the ratio of their medians."""
    for do in (one, other):
        do()  # kernels are chosen, and memory is taken, at their first use
    others = []
    benchmark.pedantic(one, setup=lambda: others.append(seconds_of(other)), rounds=ROUNDS)
    if not benchmark.stats:
        return
    median = statistics.median(benchmark.stats.stats.data)
    ratio, rate = median / statistics.median(others), IMAGES / median
    about = {"ratio": ratio, "images_per_second": rate, "peak_memory_mib": peak_bytes(DEVICE) / 2**20}
    benchmark.extra_info.update(about, device=torch.cuda.get_device_name(DEVICE) if IS_GPU else "cpu")
    with capsys.disabled():
        print(f"\n{what}: {rate:.1f} images/s, {ratio:.3f} of the time (medians of {ROUNDS} that took turns)")


@pytest.mark.parametrize("blur", ["0", "0.5"])
def test_steps_beside_a_bare_loop(benchmark, capsys, fitted, blur):
    benchmark.group = f"an epoch of steps, batch 16, {SIDE} x {SIDE}"
    fit = fitted(f"unetplusplus-{ENCODER}", f"blur_probability={blur}")
    compared(benchmark, capsys, f"blur p = {blur}, {fit.precision}, harness / bare loop", steps(fit), bare(fit))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["unetplusplus", "deeplabv3plus"])  # nearest and bilinear upsampling
def test_deterministic_kernels_beside_the_fastest(benchmark, capsys, fitted, model, precision):
    benchmark.group = f"deterministic kernels, batch 16, {SIDE} x {SIDE}"
    fit = fitted(f"{model}-{ENCODER}", f"precision={precision}")

    def epoch(is_deterministic):
        def do():
            set_arithmetic(torch.get_num_threads(), DEVICE, is_deterministic=is_deterministic)
            return steps(fit)()

        return do

    compared(benchmark, capsys, f"{model}, {precision}, deterministic / fastest", epoch(True), epoch(False))
