"""Images of any size and kind are decoded exactly, or refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reference import read_mask

from deeploc_bench.contract.errors import SampleError
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.batches import evaluation_batches
from deeploc_bench.data.decoding import MaskRule, decode

RGB = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
GRAY = RGB[..., 0]


def read_image(sample):
    return decode(replace(sample, mask=None), MaskRule()).image


def sample(tmp_path, picture, suffix="png", **save):
    file = tmp_path / f"picture.{suffix}"
    picture.save(file, **save)
    return Sample(id="a", source="a", image=file, mask=file)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(GRAY), np.stack([GRAY] * 3, axis=2)),
        (Image.fromarray(np.dstack([RGB, GRAY])), RGB),
        (Image.fromarray(GRAY.astype(np.uint16) * 257), np.stack([GRAY] * 3, axis=2)),
        (Image.fromarray(GRAY > 127), np.stack([(GRAY > 127) * np.uint8(255)] * 3, axis=2)),
    ],
    ids=["RGB", "grayscale", "alpha", "16-bit", "1-bit"],
)
def test_each_kind_of_png_becomes_eight_bit_rgb(tmp_path, picture, expected):
    assert np.array_equal(read_image(sample(tmp_path, picture)), expected)


def test_a_photograph_is_turned_as_its_exif_data_say(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    turned = read_image(sample(tmp_path, Image.fromarray(RGB), exif=exif))
    assert np.array_equal(turned, np.rot90(RGB, -1))


def test_a_float_image_is_refused_by_name(tmp_path):
    with pytest.raises(SampleError, match=r"picture.tiff has pixels of mode F; expected 8 or 16 bits"):
        read_image(sample(tmp_path, Image.fromarray(GRAY.astype(np.float32)), "tiff"))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16"])
def test_a_mask_is_read_the_same_in_each_mode(tmp_path, mode):
    mask = GRAY > 127
    levels = Image.fromarray(mask.astype(np.uint16) * 65535) if mode == "I;16" else Image.fromarray(mask).convert(mode)
    assert np.array_equal(read_mask(sample(tmp_path, levels), inverted=False), mask)
    assert np.array_equal(read_mask(sample(tmp_path, levels), inverted=True), ~mask)


def test_soft_levels_are_told_and_gray_masks_refused(tmp_path):
    soft = np.where(GRAY > 127, 250, 3).astype(np.uint8)
    decoded = decode(sample(tmp_path, Image.fromarray(soft)), MaskRule())
    assert (decoded.remarks, decoded.mask.sum()) == (("levels",), (GRAY > 127).sum())
    with pytest.raises(SampleError, match="gray levels on more than a tenth of its pixels"):
        read_mask(sample(tmp_path, Image.fromarray(GRAY)), inverted=False)


def test_larger_images_are_tested_in_smaller_batches(small_pack):
    sizes = [part.stop - part.start for part in evaluation_batches(small_pack(5, size=(800, 900)))]
    assert sizes == [2, 2, 1]
