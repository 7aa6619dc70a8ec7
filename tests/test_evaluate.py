"""The fused count of a test equals the definition of the counts, to the integer."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import count

from deeploc_bench.training.evaluate import count_batch


def scene(seed, images=6, size=(12, 9)):
    """Heatmaps on 256 levels (ties at 0.5 among them) and masks."""
    random = np.random.default_rng(seed)
    heatmaps = (random.integers(0, 257, (images, *size)) / 256).astype(np.float32)
    masks = random.random((images, *size)) < random.random((images, 1, 1))
    return heatmaps, masks


def counted(heatmaps, masks):
    ids = [f"image-{i:02}" for i in range(len(heatmaps))]
    return count(ids, [id[-1] for id in ids], heatmaps, masks)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_fused_count_equals_the_definition(seed):
    heatmaps, masks = scene(seed)
    records = counted(heatmaps, masks)
    histograms, ties = count_batch(torch.from_numpy(heatmaps), torch.from_numpy(masks))
    assert (histograms.numpy() == records.histograms).all()
    assert (ties.numpy() == records.counts[:, [5, 4]]).all()
    assert (histograms[:, 1, 128:].sum(1).numpy() == records.tp).all()
