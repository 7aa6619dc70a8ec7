"""Augmentation on the device, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from deeploc_bench.data.augment import blur_some, flip, gaussian_blur, to_float


@pytest.mark.parametrize("size", [(32, 32), (40, 65)])
def test_blur_equals_scipy_for_each_image_of_a_batch(size):
    images = torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(0))
    sigmas = torch.tensor([0.0, 0.1, 0.4, 1.0, 2.2, 3.0])
    blurred = gaussian_blur(images, sigmas).numpy()
    for image, sigma, found in zip(images.numpy(), sigmas.tolist(), blurred, strict=True):
        expected = gaussian_filter(image, (0, sigma, sigma), mode="mirror", truncate=3) if sigma else image
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_what_is_blurred_is_scipys_rounded_to_the_levels_of_an_image_file():
    levels = torch.randint(0, 256, (3, 40, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blurred = blur_some(to_float(levels), torch.tensor([0.4, 1.5, 3.0]))
    rounded = (255 * blurred).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(blurred, to_float(rounded))
    for image, sigma, found in zip(levels.double().numpy(), (0.4, 1.5, 3.0), rounded.numpy(), strict=True):
        expected = gaussian_filter(image, (sigma, sigma, 0), mode="mirror", truncate=3)
        assert np.abs(found - expected).max() <= 0.501


def test_only_the_chosen_images_are_blurred_or_mirrored():
    images = to_float(torch.randint(0, 256, (4, 40, 40, 3), dtype=torch.uint8))
    blurred = blur_some(images, torch.tensor([0.0, 1.5, 0.0, 0.7]))
    assert [torch.equal(a, b) for a, b in zip(images, blurred, strict=True)] == [True, False, True, False]
    masks = images[:, :1]
    mirrored, masks = flip(images, masks, torch.tensor([True, False, False, True]))
    assert torch.equal(mirrored[0], images[0].flip(-1)) and torch.equal(mirrored[1], images[1])
    assert torch.equal(masks[3], images[3, :1].flip(-1))
