"""On a GPU: counts are those of the CPU and of numpy, logits and blurs are nearly so, and little waits for the GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cards import BLUR, DEVICE, IS_GPU, on_gpus, trainings, waits
from conftest import fit_until

from deeploc_bench.contract.isolation import put_back, read_settings, streams_kept
from deeploc_bench.data.augment import blur_some, to_float
from deeploc_bench.scoring.metrics import image_ious
from deeploc_bench.training.device import set_arithmetic
from deeploc_bench.training.evaluate import evaluate, heatmaps_of, ious_of, open_localizer, records_of

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("settled")


@pytest.fixture
def settled():
    before = read_settings()
    set_arithmetic(1, DEVICE)
    yield
    put_back(before)


def made(count, height, width, seed=0):
    """Return heatmaps, float32, that hold every edge of a bin and its neighbours, and masks, both (N, H, W)."""
    random = np.random.default_rng(seed)
    edges = np.arange(257, dtype=np.float32) / 256
    edges = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)]).clip(0, 1)
    heatmaps = random.random((count, height, width), dtype=np.float32)
    chosen = random.random(heatmaps.shape) < 0.5
    heatmaps[chosen] = random.choice(edges, chosen.sum())
    masks = random.random(heatmaps.shape) < random.random((count, 1, 1))
    masks[0], masks[-1] = False, True
    return heatmaps, masks


def recount(heatmaps, masks):
    """Return counts (N, 6) and histograms (N, 2, 256), by numpy and image by image."""
    counts, histograms = [], []
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        pred, tie = heatmap > 0.5, heatmap == 0.5
        kinds = (pred & mask, pred & ~mask, ~pred & mask, ~pred & ~mask, tie & mask, tie & ~mask)
        counts.append([kind.sum() for kind in kinds])
        bins = np.digitize(heatmap, np.arange(1, 256) / 256, right=True)
        histograms.append([np.bincount(bins[where], minlength=256) for where in (~mask, mask)])
    return np.array(counts), np.array(histograms)


@pytest.mark.parametrize("shape", [(32, 256, 256), (1, 32, 32), (3, 517, 389)])
def test_the_counts_of_given_heatmaps_are_those_of_the_cpu_and_of_numpy(small_pack, shape):
    pack = small_pack(shape[0], size=(32, 32))
    heatmaps, masks = made(*shape)
    given = torch.from_numpy(heatmaps), torch.from_numpy(masks)
    here, there = (records_of(pack, slice(0, shape[0]), *(one.to(d) for one in given)) for d in (CPU, DEVICE))
    counts, histograms = recount(heatmaps, masks)
    for records in (here, there):
        assert np.array_equal(records.counts, counts) and np.array_equal(records.histograms, histograms)
    assert here.preds == there.preds
    assert ious_of(*(one.to(DEVICE) for one in given)).tolist() == image_ious(here).tolist()


@pytest.mark.parametrize("suite", ["easy", "tiny"])
def test_a_trained_model_has_nearly_the_logits_that_it_has_on_a_cpu(tmp_path, suite):
    (training,) = trainings("epochs=2", *BLUR, suite=suite, models=["unet-resnet18"])
    fit_until(training, tmp_path, device=DEVICE)
    weights = tmp_path / "model.safetensors"
    (pack,) = (pack for pack, _ in training.valid.packs)
    here, there = (
        heatmaps_of(
            open_localizer(training.model, training.recipe, weights=weights, device=device, precision="fp32"),
            pack,
            slice(0, len(pack)),
        )[0].cpu()
        for device in (CPU, DEVICE)
    )
    assert here.std() > 0 and (here - there).abs().max() < 1e-3


def test_a_blurred_image_has_the_levels_that_it_has_on_a_cpu():
    random = np.random.default_rng(0)
    images = to_float(torch.from_numpy(random.integers(0, 256, (16, 64, 48, 3)).astype(np.uint8)))
    sigmas = torch.linspace(0, 3, 16)
    here, there = blur_some(images, sigmas), blur_some(images.to(DEVICE), sigmas).cpu()
    levels = (here - there).mul(255).abs()
    assert levels.max() < 1.01 and (levels > 0.5).float().mean() < 1e-3


@on_gpus
def test_evaluation_waits_a_few_times_a_batch_however_many_images_it_has(small_pack):
    (training,) = trainings()
    localizer = open_localizer(training.model, training.recipe, weights=None, device=DEVICE, precision="fp32")
    counts = []
    for pack in (small_pack(count, size=(64, 64)) for count in (2, 32)):
        evaluate(localizer, pack)
        counts.append(waits(lambda pack=pack: evaluate(localizer, pack)))
    assert 0 < counts[0] == counts[1] <= 8


@on_gpus
def test_a_big_set_takes_no_more_memory_than_one_batch(small_pack):
    (training,) = trainings()
    localizer = open_localizer(training.model, training.recipe, weights=None, device=DEVICE, precision="fp32")
    peaks = []
    for count in (32, 160):
        torch.cuda.reset_peak_memory_stats(DEVICE)
        evaluate(localizer, small_pack(count, size=(256, 256)))
        peaks.append(torch.cuda.max_memory_allocated(DEVICE))
    assert peaks[1] < 1.05 * peaks[0]


def test_random_streams_go_on_as_if_nothing_had_been_drawn_meanwhile():
    torch.manual_seed(0)
    torch.rand(1, device=DEVICE)
    with streams_kept():
        drawn = torch.rand(3, device=DEVICE)
        torch.manual_seed(5)
    assert torch.equal(torch.rand(3, device=DEVICE), drawn)


def test_on_a_gpu_these_tests_are_of_the_gpu():
    assert torch.zeros(1, device=DEVICE).is_cuda is IS_GPU
