"""Definitions written again, plainly and in numpy, that the harness's own are compared with."""

from __future__ import annotations

import numpy as np

from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.scoring.records import BINS, Records, mask_hash


def read_mask(sample, *, inverted):
    """Return a sample's mask alone, or None where it is authentic."""
    return decode(sample, MaskRule(inverted=inverted)).mask


def count(ids, sources, heatmaps, masks):
    """Count heatmaps, float32 in [0, 1], against masks, bool, both (N, H, W): the definition, in numpy."""
    pred_masks, ties = heatmaps > 0.5, heatmaps == 0.5
    both = [pred_masks & masks, pred_masks & ~masks, ~pred_masks & masks, ~pred_masks & ~masks, ties & masks]
    counts = np.stack([part.sum(axis=(1, 2)) for part in [*both, ties & ~masks]], axis=1).astype(np.int64)
    bins = np.clip(np.ceil(heatmaps.astype(np.float32) * BINS) - 1, 0, BINS - 1).astype(np.int64)
    index = bins + BINS * masks + 2 * BINS * np.arange(len(ids))[:, None, None]
    histograms = np.bincount(index.ravel(), minlength=2 * BINS * len(ids)).reshape(-1, 2, BINS)
    return Records(
        ids=tuple(ids),
        sources=tuple(sources),
        counts=counts,
        preds=tuple(mask_hash(pred_mask) for pred_mask in pred_masks),
        histograms=histograms.astype(np.int32),
    )
