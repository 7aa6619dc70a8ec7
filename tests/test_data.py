"""Packing, batches, blur and the checks of a suite."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.augment import blur_some, flip, gaussian_blur, to_float
from deeploc_bench.data.batches import as_packs, evaluation_parts, read, training_batch, whole
from deeploc_bench.data.packs import pack
from deeploc_bench.data.suites import load_suite, manifest
from deeploc_bench.plan.protocols import cross, loo, matched, same
from deeploc_bench.training.engines import silent


def files(folder, count=5, size=(20, 30)):
    random = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (*size, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray((random.random(size) > 0.5).astype(np.uint8) * 255).save(folder / f"{i}-mask.png")
    return [
        Sample(id=f"s{i}", source=f"p{i}", image=folder / f"{i}.png", mask=folder / f"{i}-mask.png")
        for i in range(count)
    ]


def packed(samples, folder, *, inverted=False):
    return pack(samples, inverted=inverted, folder=folder / "cache", tick=lambda: None)


def test_files_are_packed_once_and_read_back_pixel_for_pixel(tmp_path):
    samples = files(tmp_path)
    first, again = packed(samples, tmp_path), packed(samples, tmp_path)
    images, masks = read(again, np.arange(5))
    for i, sample in enumerate(samples):
        assert (images[i] == np.asarray(Image.open(sample.image))).all()
        assert (masks[i] == (np.asarray(Image.open(sample.mask)) > 127)).all()
    assert first.hashes == again.hashes
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_changed_file_is_packed_anew(tmp_path):
    samples = files(tmp_path)
    before = packed(samples, tmp_path)
    Image.new("RGB", (30, 20), "red").save(samples[2].image)
    after = packed(samples, tmp_path)
    assert [a == b for a, b in zip(before.hashes, after.hashes, strict=True)] == [True, True, False, True, True]


def test_a_truncated_pack_is_made_again(tmp_path):
    samples = files(tmp_path)
    packed(samples, tmp_path)
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "images").write_bytes(b"cut")
    assert (read(packed(samples, tmp_path), np.array([0]))[0] > 0).any()


def test_inverted_masks_are_turned_round(tmp_path):
    samples = files(tmp_path)
    straight, inverted = packed(samples, tmp_path), packed(samples, tmp_path, inverted=True)
    assert (read(straight, np.arange(5))[1] == ~read(inverted, np.arange(5))[1]).all()


DAMAGES = {
    "missing": Path.unlink,
    "unreadable": lambda file: file.write_bytes(file.read_bytes()[:60]),
    "size": lambda file: Image.new("L", (8, 8), 255).save(file),
    "gray": lambda file: Image.new("L", (30, 20), 128).save(file),
    "empty": lambda file: Image.new("L", (30, 20), 0).save(file),
}


@pytest.mark.parametrize("check", DAMAGES)
def test_a_bad_file_is_named_and_the_others_are_packed(tmp_path, check):
    samples = files(tmp_path)
    DAMAGES[check](samples[3].mask)
    found = packed(samples, tmp_path)
    assert (len(found), [finding.check for finding in found.findings]) == (4, [check])
    assert "3-mask.png" in found.findings[0].what


def test_evaluation_batches_keep_the_last_one_and_never_mix_sizes(small_pack, tmp_path):
    assert list(evaluation_parts(small_pack(70))) == [slice(0, 32), slice(32, 64), slice(64, 70)]
    mixed = [*files(tmp_path, 2)]
    mixed[1] = Sample(id="s1", source="p", image=lambda: np.zeros((9, 9, 3), np.uint8), mask=lambda: np.eye(9) > 0)
    pack = packed(mixed, tmp_path)
    shapes = [read(pack, np.arange(part.start, part.stop))[0].shape for part in evaluation_parts(pack)]
    assert shapes == [(1, 20, 30, 3), (1, 9, 9, 3)]


@pytest.mark.parametrize("fit", ["crop", "resize"])
@pytest.mark.parametrize("size", [32, 64])
def test_training_batches_have_the_training_size_and_depend_on_the_seed_alone(small_pack, fit, size):
    subset = whole(small_pack(6), small_pack(4, seed=1))
    chosen = np.array([9, 0, 5])
    one, two = (training_batch(subset, chosen, size=size, fit=fit, seed=[1, 2]) for _ in range(2))
    assert one[0].shape == (3, size, size, 3) and one[1].shape == (3, size, size)
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()


def test_a_crop_shows_the_same_place_of_image_and_mask(small_pack):
    sample = small_pack(1)
    image, mask = (part[0] for part in read(sample, np.array([0])))
    crops = training_batch(whole(sample), np.array([0]), size=32, fit="crop", seed=[3])
    found = [
        (y, x)
        for y in range(40 - 31)
        for x in range(48 - 31)
        if (image[y : y + 32, x : x + 32] == crops[0][0]).all() and (mask[y : y + 32, x : x + 32] == crops[1][0]).all()
    ]
    assert len(found) == 1


@pytest.mark.parametrize("size", [(32, 32), (40, 65)])
def test_blur_equals_scipy_for_each_image_of_a_batch(size):
    images = torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(0))
    sigmas = torch.tensor([0.0, 0.1, 0.4, 1.0, 2.2, 3.0])
    blurred = gaussian_blur(images, sigmas).numpy()
    for image, sigma, found in zip(images.numpy(), sigmas.tolist(), blurred, strict=True):
        expected = gaussian_filter(image, (0, sigma, sigma), mode="mirror", truncate=3) if sigma else image
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_only_the_chosen_images_are_blurred_or_mirrored():
    images = to_float(torch.randint(0, 256, (4, 40, 40, 3), dtype=torch.uint8))
    blurred = blur_some(images, torch.tensor([0.0, 1.5, 0.0, 0.7]))
    assert [torch.equal(a, b) for a, b in zip(images, blurred, strict=True)] == [True, False, True, False]
    masks = images[:, :1]
    mirrored, masks = flip(images, masks, torch.tensor([True, False, False, True]))
    assert torch.equal(mirrored[0], images[0].flip(-1)) and torch.equal(mirrored[1], images[1])
    assert torch.equal(masks[3], images[3, :1].flip(-1))


def test_protocols_of_four_generators_need_eight_trainings():
    generators = ("a", "b", "c", "d")
    cells = [*same(generators, ()), *loo(generators, ()), *cross(generators, ())]
    assert len(cells) == 4 + 4 + 16
    assert len({cell.train_generators for cell in cells}) == 8
    assert all(cell.test_generator not in cell.train_generators for cell in loo(generators, ()))


def test_test_only_generators_are_tested_by_every_training_and_never_trained_on():
    cells = loo(("a", "b"), ("t",))
    assert [(cell.train_generators, cell.test_generator) for cell in cells] == [
        *[(("b",), "a"), (("b",), "t")],
        *[(("a",), "b"), (("a",), "t")],
    ]


def test_the_matched_budget_draws_each_shared_id_once_and_deals_evenly(small_pack):
    packs = [small_pack(9, seed=seed) for seed in range(3)]
    subset = matched(packs)
    assert sorted(int(i) for _, part in subset.parts for i in part) == list(range(9))
    assert [len(part) for _, part in subset.parts] == [3, 3, 3]
    assert sum(len(part) for part in as_packs(subset)) == 9


def test_the_matched_budget_is_stratified_where_ids_differ(small_pack):
    subset = matched([small_pack(9), small_pack(5), small_pack(7)])
    assert [len(part) for _, part in subset.parts] == [2, 2, 1]


def test_the_manifest_of_the_embedded_suite_is_the_one_that_is_kept(registry):
    kept = json.loads((Path(__file__).parents[1] / "leaderboard/suites/photos.json").read_text())
    assert manifest(load_suite(registry, "photos", data=None, progress=silent)) == kept


def test_a_source_on_both_sides_is_refused_with_the_files(deeploc, tiny, tmp_path):
    source = (Path(__file__).parent / "tiny.py").read_text()
    (tmp_path / "leaky.py").write_text(source.replace('source=f"{split}-{i // 2}"', 'source=f"photo-{i}"'))
    flags = ["--plugin", "leaky.py", "--suite", "tiny", "--model", "residual-unet"]
    done = deeploc("run", *flags)
    assert done.returncode == 2
    assert "source 'photo-0' stands in bright/train: train-00 and in bright/test: test-00" in done.stderr
    assert deeploc("data", "check", "tiny", "--plugin", "leaky.py").returncode == 1
