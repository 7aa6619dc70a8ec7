"""The embedded suite `photos`: what its sheets and its plugin promise."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from deeploc_bench_plugins import photos
from PIL import Image

from deeploc_bench import DataError

GENERATORS = ["cyclegan", "ddpm", "latent", "patchmatch"]
BOARD = Path(__file__).parents[1] / "leaderboard/submissions/photos"
SPLICED = ["cyclegan", "ddpm", "patchmatch"]


@pytest.fixture(scope="module")
def built():
    return {dataset.name: dataset.build() for dataset in photos.deeploc_datasets()}


def arrays(samples):
    return np.stack([s.image() for s in samples]), np.stack([s.mask() for s in samples])


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_the_suite_has_four_generators_and_test_only_authentic_images():
    roles = {dataset.name: dataset.role for dataset in photos.deeploc_datasets()}
    assert roles == dict.fromkeys(GENERATORS, "standard") | {"authentic": "test-only"}
    assert {dataset.suite for dataset in photos.deeploc_datasets()} == {"photos"}


def test_the_splits_share_no_photograph(built):
    sources = {split: {s.source for s in samples} for split, samples in built["cyclegan"].items()}
    assert {split: len(names) for split, names in sources.items()} == {"train": 48, "valid": 13, "test": 30}
    assert len(set().union(*sources.values())) == 91


def test_every_photograph_gives_as_many_samples_sorted_by_id(built):
    for split, samples in built["cyclegan"].items():
        ids = [s.id for s in samples]
        assert ids == sorted({f"{s.source}-{k}" for s in samples for k in range(photos.CROPS[split])})


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_generators_share_ids_sources_and_masks(built, split):
    ids = {name: [(s.id, s.source) for s in built[name][split]] for name in GENERATORS}
    assert all(ids[name] == ids["cyclegan"] for name in GENERATORS)
    masks = arrays(built["cyclegan"][split])[1]
    assert all(np.array_equal(arrays(built[name][split])[1], masks) for name in GENERATORS)


def test_images_are_uint8_rgb_and_masks_are_bool(built):
    sample = built["ddpm"]["valid"][0]
    assert (sample.image().dtype, sample.image().shape) == (np.uint8, (64, 64, 3))
    assert (sample.mask().dtype, sample.mask().shape) == (np.bool_, (64, 64))


def test_a_caller_who_writes_into_an_image_changes_no_other_read(built):
    sample = built["ddpm"]["valid"][0]
    before = sample.image().copy()
    sample.image()[:] = 0
    assert np.array_equal(sample.image(), before)


@pytest.mark.parametrize("name", SPLICED)
def test_outside_the_mask_every_test_pixel_equals_the_photograph(built, name):
    images, masks = arrays(built[name]["test"])
    authentic = np.stack([s.image() for s in built["authentic"]["test"]])
    assert np.array_equal(images[~masks], authentic[~masks])


def test_the_latent_generator_s_whole_image_is_kept(built):
    images, masks = arrays(built["latent"]["test"])
    change = np.abs(images - np.stack([s.image() for s in built["authentic"]["test"]]).astype(float))
    assert (change[~masks].max(1) > 0).mean() > 0.8
    assert change[~masks].mean() < change[masks].mean() / 2


@pytest.mark.parametrize("split", ["train", "valid"])
def test_outside_the_mask_the_spliced_generators_agree(built, split):
    first, masks = arrays(built["cyclegan"][split])
    assert all(np.array_equal(arrays(built[name][split])[0][~masks], first[~masks]) for name in SPLICED)


@pytest.mark.parametrize("name", GENERATORS)
def test_every_edit_can_be_seen(built, name):
    images, masks = arrays(built[name]["test"])
    authentic = np.stack([s.image() for s in built["authentic"]["test"]])
    change = (np.abs(images.astype(float) - authentic).mean(axis=3) * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    assert change.min() >= 2.0


@pytest.mark.parametrize("split", ["train", "valid"])
def test_no_two_generators_make_the_same_edit(built, split):
    images = {name: arrays(built[name][split])[0].astype(float) for name in GENERATORS}
    for a, b in [(a, b) for a in GENERATORS for b in GENERATORS if a < b]:
        assert np.abs(images[a] - images[b]).max(axis=(1, 2, 3)).min() > 2


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_masks_cover_5_to_35_percent_and_vary(built, split):
    areas = arrays(built["cyclegan"][split])[1].mean(axis=(1, 2))
    assert (areas.min() >= 0.05, areas.max() <= 0.35) == (True, True)
    assert areas.std() > 0.04


def iou(predictions, masks):
    """The mean over images of tp / (tp + fp + fn)."""
    return ((predictions & masks).sum(axis=(1, 2)) / (predictions | masks).sum(axis=(1, 2))).mean()


def test_who_knows_where_masks_lie_gains_next_to_nothing_over_marking_everything(built):
    often, masks = (arrays(built["cyclegan"][split])[1] for split in ("train", "test"))
    prior = often.mean(axis=0)
    best = max(iou(np.broadcast_to(prior >= level, masks.shape), masks) for level in np.quantile(prior, [0, 0.25, 0.5]))
    assert best < iou(np.ones_like(masks), masks) + 0.03


def steps(images):
    """How much neighbouring columns differ at each of eight places, on average, (8,): the grid of a JPEG shows here."""
    change = np.abs(np.diff(images.astype(float), axis=2)).mean(axis=(0, 1, 3))  # 63 columns
    return np.array([change[place::8].mean() for place in range(8)])


def test_no_jpeg_grid_is_left_in_the_photographs(built):
    untouched = np.stack([s.image() for s in built["authentic"]["test"]])
    for images in (untouched, untouched.swapaxes(1, 2)):
        assert np.ptp(steps(images)) < 0.08 * steps(images).mean()


@pytest.mark.parametrize("name", SPLICED)
def test_no_grid_tells_what_was_edited(built, name):
    images, masks = arrays(built[name]["test"])
    inside = masks[..., None] & np.ones(3, bool)
    for pixels, where in ((images, inside), (images.swapaxes(1, 2), inside.swapaxes(1, 2))):
        both = where[:, :, 1:] & where[:, :, :-1]
        change = np.where(both, np.abs(np.diff(pixels.astype(float), axis=2)), 0).sum(axis=(0, 1, 3))
        each = [change[place::8].sum() / both.sum(axis=(0, 1, 3))[place::8].sum() for place in range(8)]
        assert np.ptp(each) < 0.3 * np.mean(each)


def test_every_mask_is_in_one_piece(built):
    ndimage = pytest.importorskip("scipy.ndimage")
    masks = np.concatenate([arrays(samples)[1] for samples in built["cyclegan"].values()])
    assert {ndimage.label(mask)[1] for mask in masks} == {1}


def test_authentic_samples_have_the_test_ids_and_no_mask(built):
    assert list(built["authentic"]) == ["test"]
    assert [s.id for s in built["authentic"]["test"]] == [s.id for s in built["cyclegan"]["test"]]
    assert {s.mask for s in built["authentic"]["test"]} == {None}


def test_there_is_a_sheet_of_the_right_size_for_each_generator_and_split():
    rows = {split: -(-len(photos.ids_and_sources(split)) // 16) for split in photos.PHOTOS}
    heights = {split: 64 * count for split, count in rows.items()}
    expected = {f"{name}-{split}.png": (1024, heights[split]) for name in [*GENERATORS, "masks"] for split in heights}
    expected["authentic-test.png"] = (1024, heights["test"])
    assert {path.name: size_of(path) for path in photos.SHEETS.iterdir()} == expected


def test_the_sheets_stay_below_sixteen_megabytes():
    assert sum(path.stat().st_size for path in photos.SHEETS.iterdir()) < 16_000_000


@pytest.fixture
def sheets(tmp_path) -> Path:
    return Path(shutil.copytree(photos.SHEETS, tmp_path / "sheets"))


def test_a_missing_sheet_is_a_data_error_that_names_it(sheets):
    (sheets / "latent-valid.png").unlink()
    with pytest.raises(DataError, match=r"cannot read the contact sheet .*latent-valid\.png"):
        photos.read_generator("latent", sheets)


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "cut off"])
def test_a_corrupt_sheet_is_a_data_error_that_names_it(sheets, content):
    sheet = sheets / "authentic-test.png"
    sheet.write_bytes(sheet.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(DataError, match=r"cannot read the contact sheet .*authentic-test\.png"):
        photos.read_authentic(sheets)


def test_a_sheet_of_another_size_is_a_data_error_that_says_both_sizes(sheets):
    Image.new("1", (64, 64)).save(sheets / "masks-test.png")
    with pytest.raises(DataError, match=r"masks-test\.png is 1 64 x 64; expected 1 1024 x 512"):
        photos.read_generator("cyclegan", sheets)


def test_every_photograph_is_credited():
    credits = (photos.SHEETS.parent / "CREDITS.md").read_text()
    credited = re.findall(r"^\| `([a-z-]+)\.png` \| \S.* \| \S.* \| \S.* \|$", credits, re.MULTILINE)
    assert sorted(credited) == sorted(name for names in photos.PHOTOS.values() for name in names)


def scores(name):
    """The claims of a submission: IoU by generator, in protocol `same` and `loo`."""
    claims = json.loads((BOARD / f"{name}.json").read_text())["claims"]
    return claims["same"]["by_generator"], claims["loo"]["by_generator"]


@pytest.mark.parametrize("baseline", ["all-manipulated", "position-prior", "local-noise"])
def test_what_does_not_look_for_edits_is_well_below_a_model_that_does(baseline):
    model, reference = scores("residual-unet-jaccard"), scores(baseline)
    assert all(model[0][name] > 1.5 * reference[0][name] for name in GENERATORS)
    assert sum(model[0][name] > 2.3 * reference[0][name] for name in GENERATORS) == 3
    assert np.mean([*model[1].values()]) > 2 * np.mean([*reference[1].values()])


def test_a_generator_that_was_not_trained_on_is_found_less_and_none_is_solved():
    same, held_out = scores("residual-unet-jaccard")
    assert all(held_out[name] < same[name] - 0.1 for name in GENERATORS)
    assert max(same.values()) < 0.95
