"""Each dialect of IoU against an independent implementation of the definition it names."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import count
from torchmetrics.classification import BinaryJaccardIndex

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.scoring.dialects import DIALECTS, find_dialect

seeds = st.integers(0, 10**6)
fast = settings(max_examples=25, deadline=None)


def scene(seed, images=7, size=(6, 5)):
    """Heatmaps with ties at 0.5, empty and full ones among them, and masks, some of them empty (authentic) or full."""
    random = np.random.default_rng(seed)
    heatmaps = (random.integers(0, 9, (images, *size)) / 8).astype(np.float32)
    masks = random.random((images, *size)) < random.random((images, 1, 1))
    heatmaps[0], heatmaps[1] = 0, 1
    masks[random.integers(0, images)] = False
    masks[random.integers(0, images)] = True
    return heatmaps, masks


def records_of(heatmaps, masks):
    heatmaps, masks = np.asarray(heatmaps, np.float32), np.asarray(masks, bool)
    ids = [f"image-{i:02}" for i in range(len(heatmaps))]
    return count(ids, ids, heatmaps, masks)


def score(name, heatmaps, masks):
    return find_dialect(name).score(records_of(heatmaps, masks))


def smp_utils_iou(pr, gt, eps=1e-7, threshold=0.5):
    pr = (pr > threshold).type(pr.dtype)
    intersection = torch.sum(gt * pr)
    return (intersection + eps) / (torch.sum(gt) + torch.sum(pr) - intersection + eps)


@fast
@given(seeds, st.integers(1, 9))
def test_smp_batch_is_the_mean_over_batches_of_smp_utils_iou(seed, size):
    heatmaps, masks = (torch.from_numpy(part).double() for part in scene(seed))
    batches = [float(smp_utils_iou(h, m)) for h, m in zip(heatmaps.split(size), masks.split(size), strict=True)]
    assert score(f"smp-batch:{size}", heatmaps, masks) == pytest.approx(np.mean(batches), abs=1e-9)


@fast
@given(seeds)
def test_smp_imagewise_is_smps_iou_score(seed):
    heatmaps, masks = (torch.from_numpy(part)[:, None] for part in scene(seed))
    stats = smp.metrics.get_stats(heatmaps, masks.long(), mode="binary", threshold=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smp warns where a division by zero was settled
        expected = float(smp.metrics.iou_score(*stats, reduction="micro-imagewise"))
    assert score("smp-imagewise", heatmaps[:, 0], masks[:, 0]) == pytest.approx(expected, abs=1e-6)


@fast
@given(seeds)
@pytest.mark.parametrize("name", ["torchmetrics", "photoholmes"])
def test_torchmetrics_and_photoholmes_are_the_binary_jaccard_index(name, seed):
    heatmaps, masks = scene(seed)
    metric = BinaryJaccardIndex(threshold=0.5)
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        metric.update(torch.from_numpy(heatmap), torch.from_numpy(mask).int())
    assert score(name, heatmaps, masks) == pytest.approx(float(metric.compute()), abs=1e-6)


def test_torchmetrics_gives_nothing_predicted_on_nothing_manipulated_zero():
    metric = BinaryJaccardIndex()
    metric.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).int())
    assert score("torchmetrics", np.zeros((1, 2, 2)), np.zeros((1, 2, 2))) == float(metric.compute())


# each case by hand, of 1 x 4 pixels: heatmap, mask, then the IoU of this one image in dolos, declip and imdlbenco
CASES = {
    "half found": ([0.9, 0.9, 0.1, 0.1], [1, 0, 1, 0], 1 / 3, 1 / 3, 1 / 3),
    "a tie at 0.5 is not found": ([0.5, 0.6, 0.0, 0.0], [1, 1, 0, 0], 1 / 2, 1 / 2, 1 / 2),
    "a tie outside the mask is no false alarm": ([0.6, 0.5, 0.0, 0.0], [1, 0, 0, 0], 1, 1, 1),
    "both full": ([1, 1, 1, 1], [1, 1, 1, 1], 1, 1, 1),
    "nothing found": ([0, 0, 0, 0], [1, 1, 1, 1], 0, 0, 0),
    "nothing there, nothing predicted": ([0, 0, 0, 0], [0, 0, 0, 0], 1, 1, 0),
    "authentic, with a false alarm": ([0.9, 0, 0, 0], [0, 0, 0, 0], 0, 0, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_dolos_declip_and_imdlbenco_by_hand(case):
    heatmap, mask, *expected = CASES[case]
    found = [score(name, [[heatmap]], [[mask]]) for name in ("dolos", "declip", "imdlbenco")]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_image_means_of_all_the_cases_together():
    heatmaps, masks = [[case[0]] for case in CASES.values()], [[case[1]] for case in CASES.values()]
    for place, name in enumerate(["dolos", "declip", "imdlbenco"], start=2):
        expected = sum(case[place] for case in CASES.values()) / len(CASES)
        assert score(name, heatmaps, masks) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", DIALECTS)
def test_perfect_predictions_are_one_and_inverted_ones_zero(name):
    masks = np.random.default_rng(0).random((5, 4, 4)) > 0.5
    assert score(name, masks, masks) == pytest.approx(1, abs=1e-6)
    assert score(name, ~masks, masks) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", DIALECTS)
def test_no_image_has_no_score(name):
    assert np.isnan(score(name, np.empty((0, 2, 2)), np.empty((0, 2, 2))))


def test_one_prediction_set_has_several_ious():
    heatmaps, masks = scene(3, images=40)
    assert len({round(score(name, heatmaps, masks), 6) for name in DIALECTS}) >= 4


def test_smp_batch_says_its_order_its_batch_size_and_what_a_short_last_batch_weighs():
    for text, size in (("smp-batch", 16), ("smp-batch:4", 4)):
        what = find_dialect(text).what
        assert f"batches of {size} images, sorted by id (a shuffled loader makes other batches)" in what
        assert "each batch of weight 1, a short last one too" in what


def test_photoholmes_says_by_which_of_its_options_authentic_images_are_left_out():
    assert "as by its option tampered_only=True (its default, False," in find_dialect("photoholmes").what


def test_a_dialect_is_called_by_its_name_and_its_batch_size():
    assert find_dialect("smp-batch").name == "smp-batch:16"
    assert find_dialect("smp-batch:4").name == "smp-batch:4"


@pytest.mark.parametrize("text", ["dollos", "smp-batch:0", "smp-batch:x", "smp-batch:", "dolos:3"])
def test_a_dialect_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError, match="--dialect"):
        find_dialect(text)
