"""Small inpainting networks: their guesses, and what they make of holes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deeploc_bench_plugins.photos.making import generators
from deeploc_bench_plugins.photos.making.networks import guessed
from deeploc_bench_plugins.photos.making.translation import membrane
from scipy import ndimage

NETWORKS = [generators.latent, generators.ddpm]


@pytest.fixture(scope="module")
def crops():
    """Two images of 32 x 32 pixels, and a hole in each."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(2, 32, 32, 3)), (0, 3, 3, 0))
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 8:20, 4:16], masks[1, 20:, 10:30] = True, True
    return np.clip(128 + 600 * smooth, 0, 255).astype(np.uint8), masks


def test_a_guess_is_smooth_leaves_the_rest_alone_and_looks_at_nothing_in_the_hole():
    slope = torch.linspace(-1, 1, 32).expand(1, 3, 24, 32)
    hole = torch.zeros(1, 1, 24, 32)
    hole[..., 5:15, 8:24] = 1
    guess = guessed(torch.where(hole > 0, 99.0, slope), hole)
    assert torch.equal(guess[hole.expand_as(guess) == 0], slope[hole.expand_as(slope) == 0])
    assert (guess - slope).abs().max() < 0.3


def test_a_membrane_goes_on_as_its_surroundings_do_and_leaves_them_alone():
    slope = np.linspace(-50, 50, 24)[None, :, None] + np.arange(16)[:, None, None] * np.array([1.0, -2.0, 0.5])
    mask = np.zeros((16, 24), bool)
    mask[4:12, 6:17] = True
    solved = membrane(np.where(mask[..., None], 999.0, slope), mask)
    assert np.allclose(solved, slope)  # a plane solves Laplace's equation


def test_a_membrane_at_the_border_is_flat_where_nothing_holds_it():
    values, mask = np.full((8, 8, 3), 5.0), np.zeros((8, 8), bool)
    mask[:, :4] = True
    assert np.allclose(membrane(np.where(mask[..., None], -9.0, values), mask), 5.0)


@pytest.mark.slow
@pytest.mark.parametrize("inpaint", NETWORKS, ids=lambda inpaint: inpaint.__name__)
def test_a_generator_makes_the_same_of_the_same_images_masks_and_randomness(inpaint, crops):
    first, second, other = (inpaint(*crops, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first.dtype, first.shape) == (np.uint8, (2, 32, 32, 3))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.slow
def test_what_was_in_the_hole_is_not_looked_at(crops):
    images, masks = crops
    blanked = np.where(masks[..., None], np.uint8(7), images)
    made, again = (generators.ddpm(pixels, masks, np.random.default_rng(0)) for pixels in (images, blanked))
    assert np.array_equal(made[masks], again[masks])


@pytest.mark.slow
@pytest.mark.parametrize("inpaint", NETWORKS, ids=lambda inpaint: inpaint.__name__)
def test_holes_take_the_colours_of_their_surroundings(inpaint, crops):
    images, masks = crops
    blank = np.where(masks[..., None], np.uint8(0), np.uint8([200, 120, 60]))
    made = inpaint(np.broadcast_to(blank, images.shape).copy(), masks, np.random.default_rng(0))
    assert np.abs(made[masks].mean(0) - [200, 120, 60]).max() < 40
