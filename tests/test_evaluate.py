"""The fused count of a test equals the definition of the counts, to the integer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import count

from deeploc_bench.training.evaluate import Pixels, count_here, count_there, overlaps_here, overlaps_there


def scene(seed, images=6, size=(12, 9)):
    """Heatmaps on 256 levels (ties at 0.5 among them) and masks."""
    random = np.random.default_rng(seed)
    heatmaps = (random.integers(0, 257, (images, *size)) / 256).astype(np.float32)
    masks = random.random((images, *size)) < random.random((images, 1, 1))
    return heatmaps, masks


def counted(heatmaps, masks):
    ids = [f"image-{i:02}" for i in range(len(heatmaps))]
    return count(ids, [id[-1] for id in ids], heatmaps, masks)


@pytest.mark.parametrize("way", [count_here, count_there])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_fused_count_equals_the_definition(way, seed):
    heatmaps, masks = scene(seed)
    records = counted(heatmaps, masks)
    found = way(torch.from_numpy(heatmaps), torch.from_numpy(masks))
    assert (found.histograms == records.histograms).all() and found.histograms.dtype == np.int32
    assert (found.ties == records.counts[:, [5, 4]]).all()
    assert (found.histograms[:, 1, 128:].sum(1) == records.tp).all()
    assert (found.pred_masks == (heatmaps > 0.5)).all()


@pytest.mark.parametrize("way", [count_here, count_there])
def test_every_level_and_what_lies_beside_it_falls_into_the_bin_of_the_definition(way):
    levels = (np.arange(257) / 256).astype(np.float32)
    heatmaps = np.concatenate([np.nextafter(levels, np.float32(0)), levels, np.nextafter(levels, np.float32(2))])
    heatmaps = heatmaps.reshape(1, 3, 257)  # the last is above 1, as what is resized may be
    masks = np.random.default_rng(0).random(heatmaps.shape) < 0.5
    found = way(torch.from_numpy(heatmaps), torch.from_numpy(masks))
    assert (found.histograms == counted(heatmaps, masks).histograms).all()


@pytest.mark.parametrize("way", [overlaps_here, overlaps_there])
def test_overlaps_are_counted_image_by_image(way):
    heatmaps, masks = scene(3)
    inter, union = way(torch.from_numpy(heatmaps), torch.from_numpy(masks))
    records = counted(heatmaps, masks)
    assert (inter == records.tp).all() and (union == records.tp + records.fp + records.fn).all()


def test_pixels_of_a_reused_memory_are_those_of_a_new_one_in_value_and_in_layout():
    pixels = Pixels()
    for number, size in ((3, (40, 48)), (1, (32, 32)), (4, (48, 50))):
        images = torch.randint(0, 256, (number, *size, 3), dtype=torch.uint8)
        found, expected = pixels.of(images), images.permute(0, 3, 1, 2).float().div_(255)
        assert torch.equal(found, expected) and found.stride() == expected.stride()
