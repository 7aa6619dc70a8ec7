"""Images of any size and kind are decoded exactly, or refused by name."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

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


def levels_of(tmp_path, levels, **rule):
    return decode(sample(tmp_path, Image.fromarray(levels)), MaskRule(**rule))


@pytest.mark.parametrize(("above", "least"), [(0, 1), (38, 255)])
def test_a_mask_of_few_levels_is_read_by_the_level_that_is_stated(tmp_path, above, least):
    levels = np.array([0, 38, 255], np.uint8)[GRAY % 3]
    decoded = levels_of(tmp_path, levels, above=above)
    assert np.array_equal(decoded.mask, levels >= least) and decoded.remarks == ()
    assert np.array_equal(levels_of(tmp_path, levels, above=above, inverted=True).mask, levels < least)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_masks_of_zero_and_one_are_refused_with_what_to_state_and_then_read(tmp_path, kind):
    ones = (GRAY > 127).astype(kind)
    for inverted in (False, True):
        with pytest.raises(SampleError, match=r"its levels are 0 to .* state mask_above, the level above which"):
            levels_of(tmp_path, ones, inverted=inverted)
    assert np.array_equal(levels_of(tmp_path, ones, above=0).mask, ones > 0)


def test_many_levels_are_told_where_a_level_is_stated(tmp_path):
    assert levels_of(tmp_path, GRAY, above=0).remarks == ("levels",)


def test_a_mask_in_its_alpha_channel_alone_is_refused(tmp_path):
    alpha = np.dstack([np.zeros_like(RGB), (GRAY > 127) * np.uint8(255)])
    with pytest.raises(SampleError, match="varies in its alpha channel alone"):
        levels_of(tmp_path, alpha)


def test_a_mask_of_lab_colours_is_refused_by_name(tmp_path):
    with pytest.raises(SampleError, match=r"picture.tif: conversion from LAB to"):
        decode(sample(tmp_path, Image.new("LAB", (40, 40)), "tif"), MaskRule())


def rotated(file, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(file, exif=exif)
    return file


def test_an_image_that_is_turned_and_whose_mask_is_not_is_told(tmp_path):
    Image.fromarray(GRAY > 127).save(tmp_path / "mask.png")
    one = Sample(id="a", source="a", image=rotated(tmp_path / "a.png", 3), mask=tmp_path / "mask.png")
    assert decode(one, MaskRule()).remarks == ("turned",)
    rotated(tmp_path / "a.png", 6)
    with pytest.raises(SampleError, match=r"is 20 x 31, once turned as its EXIF data say, its mask .* is 31 x 20"):
        decode(one, MaskRule())
    rotated(tmp_path / "a.png", 1)
    assert decode(one, MaskRule()).remarks == ()


def bomb(file):
    """Write the head of a PNG of 60,000 x 60,000 pixels."""
    Image.new("L", (1, 1)).save(file)
    content = bytearray(file.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)


STRANGE = {
    "float.tif": lambda file: Image.fromarray(GRAY.astype(np.float32)).save(file),
    "empty.png": lambda file: file.write_bytes(b""),
    "noise.jpg": lambda file: file.write_bytes(b"\xff\xd8\xff" + bytes(range(256))),
    "folder.png": Path.mkdir,
    "bomb.png": bomb,
    "animated.png": lambda file: Image.fromarray(RGB).save(
        file, save_all=True, append_images=[Image.fromarray(RGB[::-1])]
    ),
    "pages.tif": lambda file: Image.fromarray(RGB).save(
        file, save_all=True, append_images=[Image.fromarray(RGB[::-1])]
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_or_broken_file_is_refused_by_name(tmp_path, name):
    STRANGE[name](tmp_path / name)
    with pytest.raises(SampleError, match=name) as caught:
        read_image(Sample(id="a", source="a", image=tmp_path / name, mask=None))
    assert caught.value.check == ("large" if name == "bomb.png" else "unreadable")


@pytest.mark.parametrize("end", [20, 60, 200, 600])
def test_a_truncated_file_is_refused_by_name(tmp_path, end):
    for suffix in ("png", "jpg", "tif", "webp", "bmp"):
        file = tmp_path / f"cut.{suffix}"
        Image.fromarray(RGB).save(file)
        content = file.read_bytes()
        assert end < len(content)
        file.write_bytes(content[:end])
        with pytest.raises(SampleError, match=f"cut.{suffix}"):
            read_image(Sample(id="a", source="a", image=file, mask=None))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LA", "P"])
def test_images_of_other_modes_are_read_as_pillow_turns_them_into_rgb(tmp_path, mode):
    picture = Image.fromarray(RGB).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    assert np.array_equal(read_image(sample(tmp_path, picture, suffix)), np.asarray(picture.convert("RGB")))


def test_a_palette_of_which_pillow_warns_is_read_as_it_is(tmp_path):
    palette = Image.fromarray(RGB).quantize(4)
    found = read_image(sample(tmp_path, palette, transparency=bytes([0, 128, 255, 255])))
    assert np.array_equal(found, np.asarray(palette.convert("RGB")))


def test_larger_images_are_tested_in_smaller_batches(small_pack):
    sizes = [part.stop - part.start for part in evaluation_batches(small_pack(5, size=(800, 900)))]
    assert sizes == [2, 2, 1]
