"""The harness beside straightforward PyTorch, on the same data and models; ratios are read from one run.

Run with: pytest tests/benchmarks --benchmark-only -o addopts=
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.augment import to_float
from deeploc_bench.data.batches import as_packs, evaluation_batches, read_batch
from deeploc_bench.data.packs import pack
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.facts import TrainingEnvironment
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.scoring.metrics import image_ious
from deeploc_bench.training.evaluate import Localizer, evaluate, validation_iou
from deeploc_bench.training.fit import Fit

ENVIRONMENT = TrainingEnvironment(
    device="cpu",
    torch_device="cpu",
    precision="fp32",
    threads=torch.get_num_threads(),
    processes=1,
    versions={},
    python="3",
    platform="here",
)


@pytest.fixture(scope="module")
def training():
    prepared = prepare(Job(protocols=("same",), settings=("flip=false",)), silent)
    return next(training for training in prepared.plan.trainings.values() if training.loss)


@torch.inference_mode()
def image_by_image(localizer, packed):
    """Count as a script does that is written in an afternoon: the same scores, without hashes of what was predicted."""
    ious = []
    for part in evaluation_batches(packed):
        images, masks = read_batch(packed, part)
        heatmaps = torch.sigmoid(localizer.module(to_float(torch.from_numpy(images))))[:, 0].numpy()
        for heatmap, mask in zip(heatmaps, masks, strict=True):
            pred_mask = heatmap > 0.5
            tp, union = (pred_mask & mask).sum(), (pred_mask | mask).sum()
            np.histogram(heatmap[mask], bins=256, range=(0, 1))
            np.histogram(heatmap[~mask], bins=256, range=(0, 1))
            ious.append(tp / union if union else 1.0)
    return np.array(ious)


@torch.inference_mode()
def forward(module, batches):
    for pixels in batches:
        module(pixels)


def discs(count, side):
    """Samples of noise whose masks are discs."""
    random = np.random.default_rng(0)
    rows, columns = np.indices((side, side))
    samples = []
    for i in range(count):
        image = random.integers(0, 256, (side, side, 3)).astype(np.uint8)
        (y, x), radius = random.integers(side, size=2), side * random.uniform(0.1, 0.4)
        mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        samples.append(Sample(id=f"{i:04}", source=f"{i:04}", image=image.copy, mask=mask.copy))
    return samples


@pytest.mark.parametrize("side", [256, 512])
def test_evaluation(benchmark, side, training, tmp_path, capsys):
    """What a test costs beside the model's forward pass, with one convolution as a model and one thread."""
    benchmark.group = f"evaluation, {side} x {side}, one thread"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    module = torch.nn.Conv2d(3, 1, 3, padding=1).eval().to(memory_format=torch.channels_last)
    localizer = Localizer(
        module=module, model=training.model, device=torch.device("cpu"), precision="fp32", input_size=None
    )
    packed = pack(discs(96 * 256 // side, side), inverted=False, folder=tmp_path, tick=lambda: None)
    batches = [to_float(torch.from_numpy(read_batch(packed, part)[0])) for part in evaluation_batches(packed)]
    assert np.array_equal(image_ious(evaluate(localizer, packed)), image_by_image(localizer, packed))
    ways = {
        "forward": lambda: forward(module, batches),
        "evaluate": lambda: evaluate(localizer, packed),
        "validation": lambda: validation_iou(localizer, [packed]),
        "image by image": lambda: image_by_image(localizer, packed),
    }
    seconds = {name: [] for name in ways}

    def take_turns():
        for name, way in ways.items():
            started = time.process_time()  # one thread: what other processes take is left out
            way()
            seconds[name].append(time.process_time() - started)

    benchmark.pedantic(take_turns, rounds=9, warmup_rounds=1)
    torch.set_num_threads(threads)
    medians = {name: 1000 * statistics.median(own) / len(packed) for name, own in seconds.items()}
    shares = {name: found - medians["forward"] for name, found in medians.items()}
    told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if name != "forward")
    with capsys.disabled():
        print(f"\n{side} x {side}: the forward pass takes {medians['forward']:.2f} ms an image; beside it: {told}")


def test_epoch(benchmark, training, capsys):
    """Epochs of the harness and of a bare loop take turns, because these are long enough for a machine to drift."""
    benchmark.group = "an epoch of training with validation"
    fit = Fit(training, ENVIRONMENT, torch.device("cpu"))
    (train,), (valid,) = as_packs(training.train), as_packs(training.valid)
    images, masks = (torch.from_numpy(part) for part in read_batch(train, np.arange(len(train))))
    ((_, criterion),) = fit.loss.terms
    pictures, truths = (torch.from_numpy(part) for part in read_batch(valid, np.arange(len(valid))))

    def bare():
        fit.module.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(16):
            logits = fit.module(to_float(images[batch]))
            loss = criterion(logits, masks[batch].float()[:, None])
            loss.backward()
            fit.plain_optimizer.step()
            fit.plain_optimizer.zero_grad(set_to_none=True)
            total += loss.item()
        fit.module.eval()
        ious = []
        with torch.inference_mode():
            for part in torch.arange(len(pictures)).split(32):
                pred_masks = torch.sigmoid(fit.module(to_float(pictures[part])))[:, 0] > 0.5
                inter = (pred_masks & truths[part]).sum((1, 2))
                union = (pred_masks | truths[part]).sum((1, 2))
                ious += (inter / union).tolist()
        return total, sum(ious)

    seconds = []

    def bare_first():
        started = time.perf_counter()
        bare()
        seconds.append(time.perf_counter() - started)

    benchmark.pedantic(lambda: fit.epoch(0, lambda: None), setup=bare_first, rounds=15, warmup_rounds=2)
    if benchmark.stats:
        ratio = statistics.median(benchmark.stats.stats.data) / statistics.median(seconds[-15:])
        benchmark.extra_info["harness / bare"] = ratio
        with capsys.disabled():
            print(f"\nan epoch: harness / bare loop = {ratio:.3f} (medians of 15 that took turns)")


@pytest.mark.parametrize(
    "arguments",
    [["-c", "pass"], ["-m", "deeploc_bench", "--help"], ["-m", "deeploc_bench", "list", "models"]],
    ids=["bare interpreter", "--help", "list models"],
)
def test_start(benchmark, arguments):
    benchmark.group = "start of a process"
    benchmark(lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True))
