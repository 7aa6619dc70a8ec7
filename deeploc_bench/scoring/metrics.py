"""Scores of records, as fractions in [0, 1]; NaN means undefined, and no denominator holds an epsilon."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from deeploc_bench.scoring.records import BINS, Records

Floats = NDArray[np.float64]
AREAS = ("under 10 %", "10 to 30 %", "over 30 %")
"""Classes of masks by their share of the image."""
AREA_BOUNDS = (0.1, 0.3)
TOP_SHARE = 0.01
"""The part of an image's pixels, the highest of its heatmap, that its image-level score is the mean of."""


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64], empty: float) -> Floats:
    filled = np.where(denominator > 0, denominator, 1)
    ratio: Floats = np.where(denominator > 0, numerator / filled, empty)
    return ratio


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def image_ious(records: Records) -> Floats:
    """Return tp / (tp + fp + fn) of each image, float64 (N,); 1 where both masks are empty."""
    return count_ious(records.counts)


def count_ious(counts: NDArray[np.int64]) -> Floats:
    """Return the `image_ious` of counts whose first columns are tp, fp and fn, (N, 3) or wider."""
    return _ratio(counts[:, 0], counts[:, :3].sum(axis=1), 1.0)


def iou(records: Records) -> float:
    """Return the primary score: the mean over images of the IoU at heatmap > 0.5.

    Aggregation and threshold are those of Dolos (arXiv 2311.04584) and DeCLIP (arXiv 2409.08849); 1 for an image where
    both masks are empty.
    """
    return _mean(image_ious(records))


def pooled_iou(records: Records) -> float:
    """Return the IoU of all pixels of the test set together: tp / (tp + fp + fn) of the sums."""
    tp, fp, fn, _ = _totals(records)
    return _quotient(tp, tp + fp + fn)


def f1(records: Records) -> float:
    """Return the mean over images of 2 tp / (2 tp + fp + fn); 1 where both masks are empty."""
    return _mean(_ratio(2 * records.tp, 2 * records.tp + records.fp + records.fn, 1.0))


def pbca(records: Records) -> float:
    """Return the pixel-wise binary classification accuracy (PBCA): the mean over images of (tp + tn) / pixels."""
    return _mean(_ratio(records.tp + records.tn, records.pixels, float("nan")))


def precision(records: Records) -> float:
    """Return tp / (tp + fp) of all pixels together; NaN where nothing was predicted."""
    tp, fp, _, _ = _totals(records)
    return _quotient(tp, tp + fp)


def recall(records: Records) -> float:
    """Return tp / (tp + fn) of all pixels together; NaN where nothing is manipulated."""
    tp, _, fn, _ = _totals(records)
    return _quotient(tp, tp + fn)


def average_precision(records: Records) -> float:
    """Return the area under the precision-recall curve of all pixels together, at 256 levels.

    It is the sum of (R_n - R_{n-1}) P_n, as scikit-learn's average_precision_score: steps, no interpolation. NaN where
    nothing is manipulated, or without histograms.
    """
    authentic, manipulated = _levels(records)
    if manipulated.sum() == 0:
        return float("nan")
    tp, fp = manipulated.cumsum(), authentic.cumsum()
    precisions = _ratio(tp, tp + fp, 1.0)
    return float((precisions * manipulated).sum() / manipulated.sum())


def auc(records: Records) -> float:
    """Return the area under the ROC curve of all pixels together, at 256 levels.

    It is the chance that a manipulated pixel stands above an authentic one, ties counted one half (Mann and Whitney,
    1947), so that a constant heatmap has 0.5. NaN where one of the two is missing, or without histograms.
    """
    authentic, manipulated = _levels(records)
    if manipulated.sum() == 0 or authentic.sum() == 0:
        return float("nan")
    below = authentic.sum() - authentic.cumsum()
    wins = (manipulated * (below + authentic / 2)).sum()
    return float(wins / (float(manipulated.sum()) * float(authentic.sum())))


def best_threshold_iou(records: Records) -> float:
    """Return the best mean image IoU over the thresholds k / 256, k from 0 to 255: an oracle, never ranked.

    A heatmap of 0 lies in the lowest bin, so that k = 0 predicts every pixel. NaN without histograms.
    """
    histograms = _histograms(records)
    above = histograms[:, :, ::-1].cumsum(axis=2)
    tp, fp = above[:, 1], above[:, 0]
    union = histograms[:, 1].sum(axis=1)[:, None] + fp
    return float(_ratio(tp, union, 1.0).mean(axis=0).max()) if len(histograms) else float("nan")


def area_classes(records: Records) -> NDArray[np.intp]:
    """Return which of `AREAS` the mask of each image is of, (N,)."""
    shares = _ratio(records.tp + records.fn, records.pixels, 0.0)
    return (shares >= AREA_BOUNDS[0]).astype(np.intp) + (shares > AREA_BOUNDS[1])


def image_scores(records: Records) -> Floats:
    """Return how edited each image looks, (N,): the mean of the highest 1 % of its heatmap, at 256 levels.

    A level counts as the middle of its bin. NaN without histograms.
    """
    levels = _histograms(records).sum(axis=1)[:, ::-1]  # (N, 256), the highest first
    if not len(levels):
        return np.full(len(records), np.nan)
    wanted = np.maximum(1, np.ceil(records.pixels * TOP_SHARE))[:, None]  # (N, 1)
    taken = np.diff(np.minimum(levels.cumsum(axis=1), wanted), axis=1, prepend=0)
    means: Floats = taken @ ((np.arange(BINS)[::-1] + 0.5) / BINS) / wanted[:, 0]
    return means


def image_auc(manipulated: Records, authentic: Records) -> float:
    """Return the chance that a manipulated image has a higher `image_scores` than an authentic one, ties one half."""
    above, below = image_scores(manipulated), np.sort(image_scores(authentic))
    if not len(above) or not len(below) or np.isnan(above).any() or np.isnan(below).any():
        return float("nan")
    wins = (np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")) / 2
    return float(wins.mean() / len(below))


def image_false_positives(authentic: Records) -> float:
    """Return the share of authentic images whose `image_scores` is above 0.5."""
    found = image_scores(authentic)
    return float("nan") if not len(found) or np.isnan(found).any() else float((found > 0.5).mean())


def false_alarm_area(records: Records) -> float:
    """Return, for records on authentic images, the mean over images of fp / pixels."""
    return _mean(_ratio(records.fp, records.pixels, float("nan")))


SCORES: Mapping[str, Callable[[Records], float]] = {
    "iou": iou,
    "pooled_iou": pooled_iou,
    "f1": f1,
    "pbca": pbca,
    "precision": precision,
    "recall": recall,
    "average_precision": average_precision,
    "auc": auc,
    "best_threshold_iou": best_threshold_iou,
}


def scores(records: Records) -> dict[str, float]:
    """Return every score of records on manipulated images, by name, the primary one first."""
    return {name: score(records) for name, score in SCORES.items()}


def _totals(records: Records) -> tuple[int, int, int, int]:
    tp, fp, fn, tn = (int(total) for total in records.counts[:, :4].sum(axis=0))
    return tp, fp, fn, tn


def _quotient(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")


def _histograms(records: Records) -> NDArray[np.int64]:
    """Return int64 (N, 2, 256), or of no image where the records have none."""
    if records.histograms is None:
        return np.empty((0, 2, BINS), np.int64)
    return records.histograms.astype(np.int64)


def _levels(records: Records) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the authentic and the manipulated pixels of each level, both (256,), the highest first."""
    authentic, manipulated = _histograms(records).sum(axis=0)[:, ::-1]
    return authentic, manipulated
