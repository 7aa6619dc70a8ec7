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
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.augment import blur_some, gaussian_blur, to_float
from deeploc_bench.data.batches import as_packs, evaluation_batches, read_batch
from deeploc_bench.data.suites import load_suite, silent
from deeploc_bench.plan.facts import TrainingEnvironment
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.scoring.metrics import image_ious, iou
from deeploc_bench.training.evaluate import Localizer, evaluate
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
def telea():
    return load_suite(load_plugins().suite("photos"), data=None, progress=silent).generators["telea"].splits


@pytest.fixture(scope="module")
def training():
    prepared = prepare(Job(protocols=("same",), settings=("flip=false",)), silent)
    return next(training for training in prepared.plan.trainings.values() if training.loss)


@pytest.fixture(scope="module")
def localizer(training):
    fit = Fit(training, ENVIRONMENT, torch.device("cpu"))
    return Localizer(
        module=fit.module, model=training.model, device=torch.device("cpu"), precision="fp32", input_size=None
    )


class Files(Dataset):
    """Decodes, converts and blurs each image, as a training script would."""

    def __init__(self, folder, packed, sigmas):
        images, masks = read_batch(packed, np.arange(len(packed)))
        for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
            Image.fromarray(image).save(folder / f"{i}.png")
            Image.fromarray(mask).save(folder / f"{i}-mask.png")
        self.folder, self.sigmas = folder, sigmas

    def __len__(self):
        return len(self.sigmas)

    def __getitem__(self, i):
        image = torch.from_numpy(np.array(Image.open(self.folder / f"{i}.png"))).permute(2, 0, 1).float().div(255)
        mask = torch.from_numpy(np.array(Image.open(self.folder / f"{i}-mask.png")))
        blurred = gaussian_blur(image[None], self.sigmas[i : i + 1])[0] if self.sigmas[i] else image
        return blurred, mask


@pytest.mark.parametrize("way", ["packed", "dataloader"])
def test_batches(benchmark, way, telea, tmp_path):
    benchmark.group = "batches, blurred with p = 0.5"
    random = torch.Generator().manual_seed(0)
    count = len(telea["train"])
    sigmas = torch.where(torch.rand(count, generator=random) < 0.5, torch.rand(count, generator=random) * 3, 0)
    loader = DataLoader(Files(tmp_path, telea["train"], sigmas), batch_size=16)

    def packed():
        for start in range(0, count, 16):
            images, masks = read_batch(telea["train"], np.arange(start, min(start + 16, count)))
            yield blur_some(to_float(torch.from_numpy(images)), sigmas[start : start + 16]), torch.from_numpy(masks)

    for (images, masks), (expected, truth) in zip(packed(), loader, strict=True):
        assert torch.allclose(images, expected, atol=2e-6) and torch.equal(masks, truth)
    ways = {"packed": packed, "dataloader": lambda: loader}
    benchmark(lambda: [batch for batch in ways[way]()])


@torch.inference_mode()
def image_by_image(localizer, packed):
    ious = []
    for part in evaluation_batches(packed):
        images, masks = read_batch(packed, np.arange(part.start, part.stop))
        heatmaps = torch.sigmoid(localizer.module(to_float(torch.from_numpy(images))))[:, 0].numpy()
        for heatmap, mask in zip(heatmaps, masks, strict=True):
            pred_mask = heatmap > 0.5
            tp, union = (pred_mask & mask).sum(), (pred_mask | mask).sum()
            np.histogram(heatmap[mask], bins=256, range=(0, 1))
            np.histogram(heatmap[~mask], bins=256, range=(0, 1))
            ious.append(tp / union if union else 1.0)
    return np.array(ious)


@pytest.mark.parametrize("way", ["fused", "image by image"])
def test_evaluation(benchmark, way, localizer, telea):
    benchmark.group = "evaluation, counts and histograms"
    localizer.module.eval()
    assert np.array_equal(image_ious(evaluate(localizer, telea["test"])), image_by_image(localizer, telea["test"]))
    ways = {"fused": lambda: iou(evaluate(localizer, telea["test"]))}
    benchmark(ways.get(way, lambda: image_by_image(localizer, telea["test"]).mean()))


def test_epoch(benchmark, training, capsys):
    """Epochs of the harness and of a bare loop take turns, because these are long enough for a machine to drift."""
    benchmark.group = "an epoch of training with validation"
    fit = Fit(training, ENVIRONMENT, torch.device("cpu"))
    (train,), (valid,) = as_packs(training.train), as_packs(training.valid)
    images, masks = (torch.from_numpy(part) for part in read_batch(train, np.arange(len(train))))
    pictures, truths = (torch.from_numpy(part) for part in read_batch(valid, np.arange(len(valid))))

    def bare():
        fit.module.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(16):
            logits = fit.module(to_float(images[batch]))
            loss = fit.criterion(logits, masks[batch].float()[:, None])
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
