"""Scores against torchmetrics, scikit-learn, and values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import count
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
)

from deeploc_bench.scoring import metrics
from deeploc_bench.scoring.records import from_csv, merge, to_csv

TORCHMETRICS = {
    "pooled_iou": BinaryJaccardIndex(),
    "f1": BinaryF1Score(multidim_average="samplewise", zero_division=1),
    "pbca": BinaryAccuracy(multidim_average="samplewise"),
    "precision": BinaryPrecision(),
    "recall": BinaryRecall(),
}
SIXTEENTHS = st.lists(st.sampled_from([k / 16 for k in range(17)]), min_size=1, max_size=8)  # so that some are equal
few = settings(max_examples=25, deadline=None)


@st.composite
def predictions(draw):
    """Heatmaps and masks (N, 6, 7): unsure and sure ones, exact halves, and empty masks among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), 6, 7)
    masks = random.random(shape) < 0.4
    heatmaps = np.clip(random.normal(0.4 + draw(st.floats(0, 0.4)) * masks, 0.2), 0, 1).astype(np.float32)
    heatmaps[random.random(shape) < 0.1] = 0.5
    empty = random.random(len(masks)) < 0.3
    masks[empty], heatmaps[empty & (random.random(len(masks)) < 0.5)] = False, 0.1
    masks[0, 0, :2], heatmaps[0, 0, :2] = [True, False], [0.9, 0.1]  # so that every score is defined
    return heatmaps, masks


def records_of(heatmaps, masks):
    names = [f"image-{i:03}" for i in range(len(masks))]
    return count(names, names, np.asarray(heatmaps, np.float32), np.asarray(masks, bool))


def records_of_row(heatmap, mask):
    """One image of one row of pixels."""
    return records_of([[heatmap]], [[mask]])


def levels_of(heatmaps):
    """The score of each pixel as the histograms see it."""
    return np.clip(np.ceil(heatmaps.ravel() * 256), 1, 256)


@pytest.mark.parametrize("name", TORCHMETRICS)
@few
@given(predicted=predictions())
def test_a_score_equals_torchmetrics(name, predicted):
    heatmaps, masks = (torch.from_numpy(array) for array in predicted)
    expected = TORCHMETRICS[name](heatmaps, masks.int()).mean().item()
    assert metrics.scores(records_of(*predicted))[name] == pytest.approx(expected, abs=1e-6)


@few
@given(predicted=predictions())
def test_image_ious_equal_scikit_learn_and_iou_is_their_mean(predicted):
    heatmaps, masks = predicted
    expected = [jaccard_score(m.ravel(), h.ravel() > 0.5, zero_division=1.0) for h, m in zip(*predicted, strict=True)]
    np.testing.assert_allclose(metrics.image_ious(records_of(heatmaps, masks)), expected, rtol=1e-12)
    assert metrics.iou(records_of(heatmaps, masks)) == pytest.approx(np.mean(expected), rel=1e-12)


@few
@given(predicted=predictions())
def test_f1_equals_scikit_learn(predicted):
    expected = [f1_score(m.ravel(), h.ravel() > 0.5, zero_division=1.0) for h, m in zip(*predicted, strict=True)]
    assert metrics.f1(records_of(*predicted)) == pytest.approx(np.mean(expected), rel=1e-12)


@few
@given(predicted=predictions())
def test_average_precision_equals_scikit_learn(predicted):
    heatmaps, masks = predicted
    expected = average_precision_score(masks.ravel(), levels_of(heatmaps))
    assert metrics.average_precision(records_of(heatmaps, masks)) == pytest.approx(expected, rel=1e-12)


@few
@given(predicted=predictions())
def test_auc_equals_scikit_learn(predicted):
    heatmaps, masks = predicted
    expected = roc_auc_score(masks.ravel(), levels_of(heatmaps))
    assert metrics.auc(records_of(heatmaps, masks)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=3, deadline=None)
@given(predicted=predictions())
def test_best_threshold_iou_is_the_best_of_scikit_learn_over_the_thresholds(predicted):
    heatmaps, masks = np.maximum(predicted[0], 1e-6), predicted[1]
    expected = max(
        np.mean(
            [
                jaccard_score(m.ravel(), h.ravel() > k / 256, zero_division=1.0)
                for h, m in zip(heatmaps, masks, strict=True)
            ]
        )
        for k in range(256)
    )
    assert metrics.best_threshold_iou(records_of(heatmaps, masks)) == pytest.approx(expected, rel=1e-12)


def test_best_threshold_iou_is_one_threshold_for_all_images():
    heatmaps = [[[0.4, 0.2]], [[0.8, 0.6]]]  # the first needs a threshold below 0.4, the second one of 0.6 or more
    records = records_of(heatmaps, [[[True, False]]] * 2)
    assert metrics.iou(records) == 0.25
    assert metrics.best_threshold_iou(records) == 0.75


def test_the_mean_over_images_is_not_the_pooled_iou():
    records = records_of([[[0.9, 0.9, 0.9, 0.9]], [[0.1, 0.1, 0.1, 0.9]]], [[[1, 1, 1, 1]], [[0, 0, 1, 0]]])
    assert metrics.iou(records) == 0.5
    assert metrics.pooled_iou(records) == pytest.approx(4 / 6)


def test_a_heatmap_of_exactly_one_half_finds_nothing():
    assert metrics.iou(records_of_row([0.5, 0.5, 0.0], [True, True, False])) == 0.0


@pytest.mark.parametrize("name", ["iou", "f1", "pbca"])
def test_nothing_predicted_where_nothing_is_manipulated_is_right(name):
    assert metrics.scores(records_of_row([0.1, 0.2], [False, False]))[name] == 1.0


@pytest.mark.parametrize("name", ["pooled_iou", "precision", "recall", "average_precision", "auc"])
def test_a_score_of_nothing_is_undefined(name):
    assert math.isnan(metrics.scores(records_of_row([0.1, 0.2], [False, False]))[name])


@pytest.mark.parametrize("name", ["iou", "f1", "pooled_iou", "precision"])
def test_something_predicted_where_nothing_is_manipulated_scores_zero(name):
    assert metrics.scores(records_of_row([0.9, 0.2], [False, False]))[name] == 0.0


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_a_constant_heatmap_has_auc_one_half_and_the_precision_of_chance(level):
    records = records_of_row([level] * 8, [True] + [False] * 7)
    assert metrics.auc(records) == 0.5
    assert metrics.average_precision(records) == 0.125


def test_auc_is_undefined_where_everything_is_manipulated():
    assert math.isnan(metrics.auc(records_of_row([0.1, 0.9], [True, True])))


def test_false_alarm_area_is_the_mean_predicted_share_of_authentic_images():
    records = records_of([[[0.9, 0.1, 0.1, 0.5]], [[0.9, 0.9, 0.9, 0.1]]], np.zeros((2, 1, 4)))
    assert metrics.false_alarm_area(records) == 0.5


def test_scores_are_listed_in_a_fixed_order_the_primary_one_first():
    names = "iou pooled_iou f1 pbca precision recall average_precision auc best_threshold_iou"
    assert list(metrics.scores(records_of_row([0.1], [True]))) == names.split()


def test_without_histograms_only_their_scores_are_undefined():
    records = from_csv(to_csv(records_of_row([0.9, 0.1], [True, False])), "test.csv")
    undefined = {name for name, score in metrics.scores(records).items() if math.isnan(score)}
    assert undefined == {"average_precision", "auc", "best_threshold_iou"}


def test_every_score_of_no_image_is_undefined():
    records = records_of(np.zeros((0, 4, 4)), np.zeros((0, 4, 4)))
    assert all(math.isnan(score) for score in [*metrics.scores(records).values(), metrics.false_alarm_area(records)])


def middles(levels):
    """The middle of the bin of each of 256 levels, of which `levels_of` is the upper end."""
    return (levels.astype(float) - 0.5) / 256


@pytest.mark.parametrize("pixels", [42, 100, 101, 250])
def test_the_score_of_an_image_is_the_mean_of_its_highest_hundredth(pixels):
    heatmap = np.random.default_rng(pixels).random((1, 1, pixels)).astype(np.float32)
    highest = np.sort(middles(levels_of(heatmap)))[::-1][: math.ceil(pixels / 100)]
    found = metrics.image_scores(records_of(heatmap, np.zeros(heatmap.shape)))
    np.testing.assert_allclose(found, [highest.mean()], rtol=1e-12)


def test_the_score_of_an_image_does_not_ask_which_pixels_are_manipulated():
    heatmap = np.random.default_rng(0).random((1, 10, 30)).astype(np.float32)
    masks = [np.zeros(heatmap.shape), np.ones(heatmap.shape), heatmap > 0.9]
    assert len({float(metrics.image_scores(records_of(heatmap, mask))[0]) for mask in masks}) == 1


def test_images_of_two_sizes_are_each_scored_by_a_hundredth_of_their_own():
    heatmaps = [np.float32([[[1.0, 0.5] + [0.0] * rest]]) for rest in (98, 198)]
    parts = [count([id], ["one"], heatmap, heatmap > 2) for id, heatmap in zip("ab", heatmaps, strict=True)]
    found = metrics.image_scores(merge(parts))
    np.testing.assert_allclose(found, [255.5 / 256, (255.5 + 127.5) / 2 / 256], rtol=1e-12)


def images_of(scores):
    """Records of authentic images of four pixels, the highest of which have these scores."""
    heatmaps = np.array([[[score, 0, 0, 0]] for score in scores])
    return records_of(heatmaps, np.zeros(heatmaps.shape))


@few
@given(edited=SIXTEENTHS, authentic=SIXTEENTHS)
def test_image_auc_equals_scikit_learn(edited, authentic):
    truth = [1] * len(edited) + [0] * len(authentic)
    expected = roc_auc_score(truth, [*edited, *authentic])
    assert metrics.image_auc(images_of(edited), images_of(authentic)) == pytest.approx(expected, rel=1e-12)


def test_image_false_positives_are_authentic_images_that_look_edited():
    assert metrics.image_false_positives(images_of([0.1, 0.5, 0.5625, 1.0])) == 0.5


def test_without_histograms_and_without_images_no_image_is_judged():
    known, bare = images_of([0.1, 0.9]), from_csv(to_csv(images_of([0.1, 0.9])), "test.csv")
    none = records_of(np.zeros((0, 1, 4)), np.zeros((0, 1, 4)))
    assert np.isnan(metrics.image_scores(bare)).all() and len(metrics.image_scores(bare)) == 2
    for edited, authentic in [(known, bare), (bare, known), (known, none), (none, known)]:
        assert math.isnan(metrics.image_auc(edited, authentic))
    assert math.isnan(metrics.image_false_positives(bare)) and math.isnan(metrics.image_false_positives(none))


def test_a_mask_belongs_to_the_class_of_its_share_of_the_image_bounds_to_the_middle_one():
    shares = [0, 9, 10, 20, 30, 31, 100]
    masks = np.array([np.arange(100) < share for share in shares])[:, None]
    found = metrics.area_classes(records_of(np.random.default_rng(0).random(masks.shape), masks))
    assert [metrics.AREAS[place] for place in found] == [
        *["under 10 %"] * 2, *["10 to 30 %"] * 3, *["over 30 %"] * 2
    ]  # fmt: skip
