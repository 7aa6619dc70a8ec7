"""Perturbations of test images: seeded, exact in their names, told beside the clean score."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from conftest import printed_json, records_of
from PIL import Image
from scipy.ndimage import gaussian_filter

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.data.augment import blur_some, to_float
from deeploc_bench.data.perturb import parse_perturbation


def perturbed(images, ids, text):
    return parse_perturbation(text).apply(images, ids)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3)).astype(np.uint8)


def test_jpeg_is_pillows():
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[1]).save(buffer, "JPEG", quality=75)
    assert np.array_equal(perturbed(IMAGES, "ab", "jpeg:75")[1], np.asarray(Image.open(buffer)))


def test_blur_is_scipys():
    expected = gaussian_filter(IMAGES[0].astype(np.float64), (2, 2, 0), mode="mirror", truncate=3)
    assert np.abs(perturbed(IMAGES, "ab", "blur:2")[0] - expected).max() <= 0.51


def test_a_test_image_is_blurred_exactly_as_a_training_image_is():
    pixels = blur_some(to_float(torch.from_numpy(IMAGES)), torch.tensor([1.2, 1.2]))
    assert np.array_equal(perturbed(IMAGES, "ab", "blur:1.2"), (255 * pixels).round().permute(0, 2, 3, 1).numpy())


def test_noise_depends_on_the_id_alone_and_has_the_strength_asked_for():
    gray = np.full((3, 64, 64, 3), 128, np.uint8)
    first = perturbed(gray, ["a", "b", "a"], "noise:0.02")
    assert np.array_equal(first[0], first[2]) and not np.array_equal(first[0], first[1])
    assert first.std() == pytest.approx(0.02 * 255, rel=0.03)


def test_resize_keeps_the_size_and_a_plain_image():
    plain = np.full((1, 33, 47, 3), 90, np.uint8)
    assert np.array_equal(perturbed(plain, "a", "resize:0.5"), plain)
    assert perturbed(IMAGES, "ab", "resize:0.5").std() < IMAGES.std()


@pytest.mark.parametrize("text", ["jpeg", "jpeg:0", "jpeg:75.5", "blur:99", "noise:x", "resize:nan", "blurr:2"])
def test_a_perturbation_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError, match="--perturb"):
        parse_perturbation(text)


@pytest.mark.parametrize(
    ("text", "name"), [("jpeg:75", "jpeg-75"), ("blur:2.0", "blur-2"), ("noise:.02", "noise-0.02")]
)
def test_the_name_holds_the_exact_value(text, name):
    found = parse_perturbation(text)
    assert found.name == name
    assert parse_perturbation(name, "-") == found


@pytest.mark.slow
def test_one_trained_model_is_tested_clean_and_under_each_perturbation(deeploc, tiny, tmp_path):
    flags = [*tiny, "--set", "epochs=2", "--perturb", "jpeg:20", "--perturb", "noise:0.1"]
    assert printed_json(deeploc("run", *tiny, "--set", "epochs=2", "--json"))["trained"] == 2
    found = printed_json(deeploc("run", *flags, "--json"))
    assert (found["trained"], found["reused"]) == (0, 2)
    mine = [c for c in found["cells"] if c["loss"] and c["test_generator"] == "dark"]
    assert [cell["perturbation"] for cell in mine] == [None, "jpeg-20", "noise-0.1"]
    assert len({cell["average_precision"] for cell in mine}) == 3
    assert sum("test-dark@jpeg-20.csv" in name for name in records_of(tmp_path / "runs")) == 4
    table = deeploc("run", *flags).stdout.split("\n\n")[0]
    assert "| jpeg-20   | noise-0.1   |" in table
    assert deeploc("results").stdout.split("\n\n")[0] == table
