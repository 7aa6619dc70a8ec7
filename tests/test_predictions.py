"""A set of predictions is whole or refused with all reasons; what looks otherwise than it was meant is told."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.packs import pack
from deeploc_bench.scoring.metrics import iou
from deeploc_bench.training.predictions import score_predictions

IDS = tuple(f"photo-{i:02}" for i in range(12))


def truth(place, shape):
    """Return a mask that is no turn of itself: an L."""
    mask = np.zeros(shape, bool)
    mask[4 + place : 26 + place, 3:9] = mask[20 + place : 26 + place, 3:25] = True
    return mask


def packed(tmp_path, shape=(48, 48), authentic=False):
    image = np.zeros((*shape, 3), np.uint8)
    samples = [
        Sample(id=id, source=id, image=image.copy, mask=None if authentic else truth(place, shape).copy)
        for place, id in enumerate(IDS)
    ]
    return pack(samples, inverted=False, folder=tmp_path, tick=lambda: None)


def write(folder, change, shape=(48, 48), name="{}.png"):
    folder.mkdir(exist_ok=True)
    for place, id in enumerate(IDS):
        made = change(truth(place, shape))
        path = folder / name.format(id)
        np.save(path, made) if path.suffix == ".npy" else Image.fromarray(made).save(path)
    return folder


def score(folder, pack, **options):
    return score_predictions(folder, pack, lambda: None, **options)


def refusal(folder, pack):
    with pytest.raises(DataError) as caught:
        score(folder, pack)
    return str(caught.value)


def eight(mask):
    return mask.astype(np.uint8) * 255


def test_masks_of_0_and_1_are_read_as_masks_where_no_file_has_more(tmp_path):
    records, told = score(write(tmp_path / "p", lambda mask: mask.astype(np.uint8)), packed(tmp_path))
    assert iou(records) == 1 and told == [
        "no integer is above 1: read as masks of 0 and 1, not as heatmaps that are nearly black"
    ]


def test_a_heatmap_that_is_nearly_black_stays_one_beside_others_of_full_scale(tmp_path):
    folder = write(tmp_path / "p", lambda mask: mask.astype(np.uint8) * 200 + 20)
    Image.fromarray(truth(0, (48, 48)).astype(np.uint8)).save(folder / f"{IDS[0]}.png")
    records, told = score(folder, packed(tmp_path))
    assert (records.tp[0], records.fp[0]) == (0, 0) and (records.tp[1:] > 0).all() and told == []


def test_masks_of_0_and_1_beside_masks_of_full_scale_are_refused(tmp_path):
    folder = write(tmp_path / "p", eight)
    Image.fromarray(truth(0, (48, 48)).astype(np.uint8)).save(folder / f"{IDS[0]}.png")
    assert "photo-00: its levels are 0 and 1, those of others 0 and full scale" in refusal(folder, packed(tmp_path))


OTHERWISE = {
    "inverted": lambda mask: ~mask,
    "transposed": lambda mask: mask.T,
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned by 90 degrees": lambda mask: np.rot90(mask, 3),
    "turned by 180 degrees": lambda mask: np.rot90(mask, 2),
    "turned by 270 degrees": lambda mask: np.rot90(mask, 1),
}


@pytest.mark.parametrize("word", OTHERWISE)
def test_predictions_that_would_be_far_better_otherwise_are_told_of_and_scored_as_they_are(tmp_path, word):
    folder = write(tmp_path / "p", lambda mask: np.ascontiguousarray(OTHERWISE[word](mask)))
    records, (line,) = score(folder, packed(tmp_path))
    assert iou(records) < 0.4 and f"but 1.000 if the predictions were {word}." in line


def test_predictions_that_are_merely_bad_are_not_told_of(tmp_path):
    random = np.random.default_rng(0)
    guesses = [
        lambda mask: eight(random.random(mask.shape) > 0.5),
        lambda mask: eight(np.roll(mask, 9, axis=1)),
        lambda mask: eight(random.random(mask.shape) > 0.98),
    ]
    for number, guess in enumerate(guesses):
        assert score(write(tmp_path / f"p{number}", guess), packed(tmp_path))[1] == []


def test_heatmaps_that_never_reach_a_half_are_told_of_with_the_best_threshold(tmp_path):
    folder = write(tmp_path / "p", lambda mask: (mask * 0.4).astype(np.float32), name="{}.npy")
    records, told = score(folder, packed(tmp_path))
    assert iou(records) == 0 and told[0].endswith("none is above 0.5, the highest is 0.400")
    assert told[1].startswith("IoU 0.000, but 1.000 at the best threshold")


def test_constant_predictions_are_told_of_but_not_those_of_untouched_images(tmp_path):
    folder = write(tmp_path / "p", lambda mask: eight(0 * mask))
    assert "12 of 12 predictions are constant: one level everywhere" in score(folder, packed(tmp_path))[1]
    assert score(folder, packed(tmp_path, authentic=True))[1] == []


def test_untouched_images_that_are_all_predicted_as_manipulated_are_told_of(tmp_path):
    folder = write(tmp_path / "p", lambda mask: eight(mask | True))
    (line,) = score(folder, packed(tmp_path, authentic=True))[1]
    assert line.startswith("100% of the untouched images is predicted as manipulated")


def test_heatmaps_of_another_size_are_told_of_and_those_of_an_image_that_stands_refused(tmp_path):
    folder = write(tmp_path / "small", lambda mask: eight(mask[::2, ::2]))
    assert "12 of 12 predictions are not of their image's size" in score(folder, packed(tmp_path))[1][0]
    wide = packed(tmp_path, (40, 60))
    assert iou(score(write(tmp_path / "wide", eight, (40, 60)), wide)[0]) == 1
    words = "its shape is (60, 40), the image's (40, 60): one lies, the other stands"
    assert words in refusal(write(tmp_path / "tall", lambda mask: eight(mask).T.copy(), (40, 60)), wide)


def test_files_of_another_naming_are_refused_with_a_hint(tmp_path):
    told = refusal(write(tmp_path / "p", eight, name="{}_pred.png"), packed(tmp_path))
    assert "each of 12 test images needs one prediction, called by its id: photo-00.png" in told
    assert "12 missing: photo-00, photo-01, photo-02, photo-03, photo-04, ..." in told
    assert "12 left out, not called by the id of a test image: photo-00_pred" in told
    assert "is 'photo-00_pred' the prediction of 'photo-00'? Call it photo-00.png" in told


def test_files_of_another_kind_are_refused_with_those_allowed(tmp_path):
    told = refusal(write(tmp_path / "p", eight, name="{}.jpg"), packed(tmp_path))
    assert "(or .tif, .tiff, .npy, .npz)" in told and "12 left out, not a prediction: photo-00.jpg" in told
    assert "is 'photo-00.jpg' the prediction of 'photo-00'? Call it photo-00.png, or save it as one" in told


def test_two_files_of_one_image_and_all_that_is_unreadable_are_listed(tmp_path):
    folder = write(tmp_path / "p", eight)
    np.save(folder / f"{IDS[3]}.npy", truth(3, (48, 48)))
    for id in IDS[4:11]:
        (folder / f"{id}.png").write_bytes(b"no picture")
    (folder / f"{IDS[11]}.png").unlink()
    told = refusal(folder, packed(tmp_path))
    assert "1 there twice, keep one: photo-03.npy and photo-03.png" in told
    assert "7 unreadable:\n    photo-04: cannot identify" in told and "and 2 more" in told
    assert "1 missing: photo-11" in told


def test_what_is_beside_the_predictions_is_told_of_and_changes_nothing(tmp_path):
    folder = write(tmp_path / "p", eight)
    for name in ("train-00.png", "log.txt", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"")
    for name in ("authentic", "masks"):
        (folder / name).mkdir()
    records, told = score(folder, packed(tmp_path), beside=["authentic"])
    assert iou(records) == 1 and told == [
        "1 left out, not called by the id of a test image: train-00",
        "2 left out, not a prediction: log.txt, masks/",
    ]


@pytest.mark.parametrize("name", ["all.npz", "p"])
def test_a_fifo_or_a_device_is_refused_and_not_waited_for(tmp_path, name):
    write(tmp_path / "p", eight)
    if name == "p":
        (tmp_path / "p" / f"{IDS[0]}.png").unlink()
    os.mkfifo(tmp_path / ("all.npz" if name == "all.npz" else f"p/{IDS[0]}.npy"))
    assert "it is a FIFO; expected a regular file" in refusal(tmp_path / name, packed(tmp_path))


def test_an_archive_of_nothing_is_an_answer_and_no_end(tmp_path):
    (tmp_path / "all.npz").write_bytes(b"")
    assert "all.npz is neither; expected a folder" in refusal(tmp_path / "all.npz", packed(tmp_path))
    (tmp_path / "p").mkdir()
    for id in IDS:
        (tmp_path / f"p/{id}.npy").write_bytes(b"")
    assert "12 unreadable:\n    photo-00: the file is empty" in refusal(tmp_path / "p", packed(tmp_path))


def test_an_array_in_fortran_s_order_is_scored_like_any(tmp_path):
    folder = write(tmp_path / "p", lambda mask: np.asfortranarray(mask.astype(np.float32)), name="{}.npy")
    assert iou(score(folder, packed(tmp_path))[0]) == 1


def test_a_name_that_an_archive_holds_twice_is_refused(tmp_path):
    np.savez(tmp_path / "all.npz", **{id: truth(place, (48, 48)) for place, id in enumerate(IDS)})
    with zipfile.ZipFile(tmp_path / "all.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(f"{IDS[3]}.npy", b"")
    assert "1 there twice, keep one: photo-03.npy in the archive" in refusal(tmp_path / "all.npz", packed(tmp_path))


def test_an_archive_is_read_by_id_and_a_broken_one_refused(tmp_path):
    np.savez(tmp_path / "all.npz", **{id: truth(place, (48, 48)) for place, id in enumerate(IDS)})
    assert iou(score(tmp_path / "all.npz", packed(tmp_path))[0]) == 1
    np.savez(tmp_path / "stack.npz", np.zeros((12, 48, 48)))
    assert "12 missing" in refusal(tmp_path / "stack.npz", packed(tmp_path))
    (tmp_path / "broken.npz").write_bytes((tmp_path / "all.npz").read_bytes()[:99])
    assert "is neither; expected a folder" in refusal(tmp_path / "broken.npz", packed(tmp_path))
    np.save(tmp_path / "stack.npy", np.zeros((12, 48, 48)))
    assert "is neither; expected a folder" in refusal(tmp_path / "stack.npy", packed(tmp_path))
    assert "is not there; expected a folder" in refusal(tmp_path / "nowhere", packed(tmp_path))
