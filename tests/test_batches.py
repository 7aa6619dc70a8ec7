"""Batches are cut out of packs: fixed ones for evaluation, drawn ones for training."""

from __future__ import annotations

import numpy as np
import pytest
from test_packs import files, packed

from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.batches import all_samples, evaluation_batches, read_batch, training_batch


def test_evaluation_batches_keep_the_last_one_and_never_mix_sizes(small_pack, tmp_path):
    assert list(evaluation_batches(small_pack(70))) == [slice(0, 32), slice(32, 64), slice(64, 70)]
    mixed = [*files(tmp_path, 2)]
    mixed[1] = Sample(id="s1", source="p", image=lambda: np.zeros((9, 9, 3), np.uint8), mask=lambda: np.eye(9) > 0)
    pack = packed(mixed, tmp_path)
    shapes = [read_batch(pack, part)[0].shape for part in evaluation_batches(pack)]
    assert shapes == [(1, 20, 30, 3), (1, 9, 9, 3)]


@pytest.mark.parametrize("fit", ["crop", "resize"])
@pytest.mark.parametrize("size", [32, 64])
def test_training_batches_have_the_training_size_and_depend_on_the_seed_alone(small_pack, fit, size):
    subset = all_samples(small_pack(6), small_pack(4, seed=1))
    chosen = np.array([9, 0, 5])
    one, two = (training_batch(subset, chosen, size=size, fit=fit, seed=[1, 2]) for _ in range(2))
    assert one[0].shape == (3, size, size, 3) and one[1].shape == (3, size, size)
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()


def test_a_crop_shows_the_same_place_of_image_and_mask(small_pack):
    sample = small_pack(1)
    image, mask = (part[0] for part in read_batch(sample, np.array([0])))
    crops = training_batch(all_samples(sample), np.array([0]), size=32, fit="crop", seed=[3])
    found = [
        (y, x)
        for y in range(40 - 31)
        for x in range(48 - 31)
        if (image[y : y + 32, x : x + 32] == crops[0][0]).all() and (mask[y : y + 32, x : x + 32] == crops[1][0]).all()
    ]
    assert len(found) == 1
