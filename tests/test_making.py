"""How the suite `photos` was made: masks, membranes, and generators that anybody can call."""

from __future__ import annotations

import numpy as np
import pytest
from deeploc_bench_plugins.photos.making import generators
from deeploc_bench_plugins.photos.making.masks import AREA, draw_mask
from deeploc_bench_plugins.photos.making.membrane import membrane
from scipy import ndimage

NETWORKS = [generators.gan_fill, generators.latent, generators.ddpm]


@pytest.fixture(scope="module")
def crops():
    """Two images of 32 x 32 pixels, and a hole in each."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(2, 32, 32, 3)), (0, 3, 3, 0))
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 8:20, 4:16], masks[1, 20:, 10:30] = True, True
    return np.clip(128 + 600 * smooth, 0, 255).astype(np.uint8), masks


def test_masks_are_in_one_piece_of_the_stated_area_and_follow_the_seed():
    random, again = np.random.default_rng(1), np.random.default_rng(1)
    masks = [draw_mask(random) for _ in range(20)]
    assert all(AREA[0] <= mask.mean() <= AREA[1] and ndimage.label(mask)[1] == 1 for mask in masks)
    assert all(np.array_equal(mask, draw_mask(again)) for mask in masks)


def test_a_membrane_over_a_slope_is_the_slope():
    slope = np.stack([row + 2 * column for row, column in [np.indices((24, 32)).astype(float)]], -1)
    hole = np.zeros((24, 32), bool)
    hole[5:15, 8:30] = True
    torn = np.where(hole[..., None], 0, slope)
    assert np.allclose(membrane(torn, hole), slope) and not torn[hole].any()


@pytest.mark.parametrize("inpaint", NETWORKS, ids=lambda inpaint: inpaint.__name__)
def test_a_generator_makes_the_same_of_the_same_images_masks_and_randomness(inpaint, crops):
    first, second, other = (inpaint(*crops, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first.dtype, first.shape) == (np.uint8, (2, 32, 32, 3))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.parametrize("inpaint", [generators.gan_fill, generators.ddpm], ids=lambda inpaint: inpaint.__name__)
def test_what_was_in_the_hole_is_not_looked_at(inpaint, crops):
    images, masks = crops
    blanked = np.where(masks[..., None], np.uint8(7), images)
    made, again = (inpaint(pixels, masks, np.random.default_rng(0)) for pixels in (images, blanked))
    assert np.array_equal(made[masks], again[masks])


@pytest.mark.parametrize("inpaint", NETWORKS, ids=lambda inpaint: inpaint.__name__)
def test_holes_take_the_colours_of_their_surroundings(inpaint, crops):
    images, masks = crops
    blank = np.where(masks[..., None], np.uint8(0), np.uint8([200, 120, 60]))
    made = inpaint(np.broadcast_to(blank, images.shape), masks, np.random.default_rng(0))
    assert np.abs(made[masks].mean(0) - [200, 120, 60]).max() < 25
