"""Counts, scores and intervals, against other libraries and worked-out cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torchmetrics.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.scoring import metrics
from deeploc_bench.scoring.records import Records, count, from_csv, mask_hash, merge, to_csv
from deeploc_bench.scoring.statistics import T_975, interval, seed_spread
from deeploc_bench.training.test import count_batch


def scene(seed, images=6, size=(12, 9)):
    """Heatmaps on 256 levels (ties at 0.5 among them) and masks."""
    random = np.random.default_rng(seed)
    heatmaps = (random.integers(0, 257, (images, *size)) / 256).astype(np.float32)
    masks = random.random((images, *size)) < random.random((images, 1, 1))
    return heatmaps, masks


def counted(heatmaps, masks):
    ids = [f"image-{i:02}" for i in range(len(heatmaps))]
    return count(ids, [id[-1] for id in ids], heatmaps, masks)


def one(heatmap, mask):
    return counted(np.array([heatmap], np.float32), np.array([mask], bool))


def pick(records, which):
    return Records(
        ids=tuple(records.ids[i] for i in which),
        sources=tuple(records.sources[i] for i in which),
        counts=records.counts[which],
        preds=tuple(records.preds[i] for i in which),
        histograms=records.histograms[which],
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(6)), st.integers(1, 5))
def test_records_merged_in_any_order_and_split_give_the_same_integers(seed, order, cut):
    whole = counted(*scene(seed))
    merged = merge([pick(whole, order[:cut]), pick(whole, order[cut:])])
    assert to_csv(merged) == to_csv(whole)
    assert (merged.histograms == whole.histograms).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_counts_add_up_to_the_pixels_and_the_csv_reads_back(seed):
    records = counted(*scene(seed))
    assert (records.pixels == 12 * 9).all()
    assert (records.histograms.sum(axis=(1, 2)) == records.pixels).all()
    again = from_csv(to_csv(records), "x.csv")
    assert (again.counts == records.counts).all() and again.preds == records.preds


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_fused_count_equals_the_definition(seed):
    heatmaps, masks = scene(seed)
    records = counted(heatmaps, masks)
    histograms, ties = count_batch(torch.from_numpy(heatmaps), torch.from_numpy(masks))
    assert (histograms.numpy() == records.histograms).all()
    assert (ties.numpy() == records.counts[:, [5, 4]]).all()
    assert (histograms[:, 1, 128:].sum(1).numpy() == records.tp).all()


@pytest.mark.parametrize("seed", range(5))
def test_every_score_equals_torchmetrics_and_scikit_learn(seed):
    heatmaps, masks = scene(seed)
    scores = metrics.scores(counted(heatmaps, masks))
    preds = heatmaps > 0.5
    per_image = [jaccard_score(m.ravel(), p.ravel()) for m, p in zip(masks, preds, strict=True)]
    assert scores["iou"] == pytest.approx(np.mean(per_image), abs=1e-12)
    flat = torch.from_numpy(preds).int(), torch.from_numpy(masks).int()
    pooled = {"pooled_iou": tm.BinaryJaccardIndex, "precision": tm.BinaryPrecision, "recall": tm.BinaryRecall}
    for name, metric in pooled.items():
        assert scores[name] == pytest.approx(float(metric()(*flat)), abs=1e-6)
    for name, metric in {"f1": tm.BinaryF1Score, "pbca": tm.BinaryAccuracy}.items():
        assert scores[name] == pytest.approx(float(metric(multidim_average="samplewise")(*flat).mean()), abs=1e-6)
    levels = np.ceil(heatmaps * 256).clip(1)
    assert scores["average_precision"] == pytest.approx(average_precision_score(masks.ravel(), levels.ravel()))
    assert scores["auc"] == pytest.approx(roc_auc_score(masks.ravel(), levels.ravel()))


def test_the_threshold_is_strict_and_ties_are_counted_apart():
    records = one([[0.5, 0.5, np.nextafter(np.float32(0.5), np.float32(1))]], [[True, False, True]])
    assert records.counts.tolist() == [[1, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize(("level", "truth", "expected"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0), (1, 1, 1.0)])
def test_iou_of_empty_and_full_masks(level, truth, expected):
    assert metrics.iou(one(np.full((2, 2), level), np.full((2, 2), truth))) == expected


def test_undefined_scores_are_nan_and_a_constant_map_has_an_auc_of_one_half():
    empty = one(np.zeros((2, 2)), np.zeros((2, 2)))
    assert all(math.isnan(score(empty)) for score in (metrics.precision, metrics.recall, metrics.auc))
    constant = one(np.full((2, 2), 0.7), [[1, 0], [0, 1]])
    assert metrics.auc(constant) == 0.5


def test_the_best_threshold_is_the_best_of_all_levels():
    heatmaps, masks = scene(3)
    pred_masks = [np.ones_like(heatmaps), *(heatmaps > k / 256 for k in range(1, 256))]
    by_level = [metrics.iou(counted(pred_mask.astype(np.float32), masks)) for pred_mask in pred_masks]
    assert metrics.best_threshold_iou(counted(heatmaps, masks)) == pytest.approx(max(by_level))


def test_false_alarm_area_is_the_share_of_authentic_pixels_taken_for_manipulated():
    assert metrics.false_alarm_area(one([[0.9, 0.1, 0.2, 0.9]], [[0, 0, 0, 0]])) == 0.5


def test_the_hash_of_a_mask_tells_shape_and_bits_apart():
    mask = np.array([[True, False, True, True]])
    assert mask_hash(mask) == mask_hash(mask.copy()) != mask_hash(mask.reshape(2, 2))
    assert len(mask_hash(mask)) == 16


GOOD = to_csv(counted(*scene(0, images=3)))
LINES = GOOD.splitlines()
DAMAGES = {
    "another header": (["id,tp", *LINES[1:]], "line 1"),
    "a field missing": ([*LINES[:2], LINES[2].rpartition(",")[0]], "line 3: 8 fields"),
    "a negative count": ([*LINES[:2], LINES[2].replace(",", ",-", 3)], "line 3"),
    "a fraction": ([*LINES[:1], "a,b,1.5,0,0,0,0,0,0123456789abcdef"], "tp is '1.5'"),
    "a hash that is none": ([*LINES[:1], "a,b,1,0,0,0,0,0,xyz"], "16 hex digits"),
    "an image twice": ([*LINES[:2], LINES[1]], "sorted and unique"),
    "unsorted": ([LINES[0], LINES[2], LINES[1]], "sorted and unique"),
}


@pytest.mark.parametrize(("lines", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_csv_is_refused_by_file_and_line(lines, message):
    with pytest.raises(StoreError, match="x.csv") as caught:
        from_csv("\n".join(lines) + "\n", "x.csv")
    assert message in str(caught.value)


def test_an_image_that_is_merged_twice_is_refused():
    records = counted(*scene(0))
    with pytest.raises(StoreError, match="image-00"):
        merge([records, records])


def test_the_t_quantiles_are_those_of_student():
    expected = scipy.stats.t.ppf(0.975, np.arange(1, 29))
    np.testing.assert_allclose(T_975, expected, atol=6e-5)


def test_few_balanced_sources_give_the_t_interval_of_their_means():
    random = np.random.default_rng(0)
    values = random.random((11, 8))
    found = interval([(np.repeat(np.arange(11), 8).astype(str), values.ravel())])
    means = values.mean(axis=1)
    expected = scipy.stats.t.interval(0.95, 10, means.mean(), scipy.stats.sem(means))
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)
    assert found.sources == 11


def test_one_source_has_no_interval_and_one_seed_no_spread():
    assert math.isnan(interval([(["a", "a"], np.array([0.1, 0.9]))]).low)
    assert math.isnan(seed_spread([0.4]))
    assert seed_spread([0.4, 0.6]) == pytest.approx(0.02**0.5)


@pytest.mark.parametrize("sources", [11, 60])
def test_intervals_cover_the_truth_about_95_times_in_100(sources):
    random = np.random.default_rng(sources)
    hits = 0
    for _ in range(300):
        level = random.normal(0.5, 0.1, sources)
        owner = np.repeat(np.arange(sources), random.integers(4, 12, sources))
        cells = [(owner.astype(str), level[owner] + random.normal(0, 0.1, len(owner))) for _ in range(2)]
        found = interval(cells)
        hits += found.low <= 0.5 <= found.high
    assert 0.91 <= hits / 300 <= 0.985
