"""Samples are packed once, read back pixel for pixel, and named where they cannot be used."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.batches import read_batch
from deeploc_bench.data.packs import pack


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
    images, masks = read_batch(again, np.arange(5))
    for i, sample in enumerate(samples):
        assert (images[i] == np.asarray(Image.open(sample.image))).all()
        assert (masks[i] == (np.asarray(Image.open(sample.mask)) > 127)).all()
    assert first.fingerprint == again.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_changed_file_is_packed_anew(tmp_path):
    samples = files(tmp_path)
    before = packed(samples, tmp_path)
    Image.new("RGB", (30, 20), "red").save(samples[2].image)
    after = packed(samples, tmp_path)
    assert [a == b for a, b in zip(before.entries, after.entries, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_a_truncated_pack_is_made_again(tmp_path):
    samples = files(tmp_path)
    packed(samples, tmp_path)
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "images").write_bytes(b"cut")
    image = read_batch(packed(samples, tmp_path), np.array([0]))[0][0]
    assert (image == np.asarray(Image.open(samples[0].image))).all()


def damages(content):
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
    return {"a flipped bit": flipped, "cut": content[:-1], "empty": b"", "longer": content + b"\0"}


@pytest.mark.parametrize("how", damages(b"  "))
@pytest.mark.parametrize("name", ["images", "masks", "index.json"])
def test_a_damaged_pack_is_made_again(tmp_path, name, how):
    samples = files(tmp_path)
    packed(samples, tmp_path)
    (folder,) = (tmp_path / "cache").iterdir()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / name).write_bytes(damages(before[name])[how])
    again = packed(samples, tmp_path)
    assert (again.images.tobytes(), again.masks.tobytes()) == (before["images"], before["masks"])
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("names", [["images"], ["masks"], ["index.json"], ["images", "masks", "index.json"]])
def test_a_pack_that_holds_files_of_another_or_lacks_them_is_made_again(tmp_path, names):
    samples = files(tmp_path)
    packed(samples, tmp_path)
    (own,) = (tmp_path / "cache").iterdir()
    before = {file.name: file.read_bytes() for file in own.iterdir()}
    packed(samples[:3], tmp_path)
    (other,) = {*(tmp_path / "cache").iterdir()} - {own}
    for change in (lambda name: shutil.copy(other / name, own / name), lambda name: (own / name).unlink()):
        for name in names:
            change(name)
        assert packed(samples, tmp_path).images.tobytes() == before["images"]
        assert {file.name: file.read_bytes() for file in own.iterdir()} == before


def test_what_a_killed_packing_left_goes_with_the_next_and_a_living_one_stays(tmp_path):
    for name in (".packing-dead", ".packing-living"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "images").touch()
    (tmp_path / "cache/.packing-bare").mkdir()
    with (tmp_path / "cache/.packing-living/images").open("wb") as images:
        fcntl.flock(images, fcntl.LOCK_EX)
        packed(files(tmp_path), tmp_path)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir())[0] == ".packing-living"
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_inverted_masks_are_turned_round(tmp_path):
    samples = files(tmp_path)
    straight, inverted = packed(samples, tmp_path), packed(samples, tmp_path, inverted=True)
    assert (read_batch(straight, np.arange(5))[1] == ~read_batch(inverted, np.arange(5))[1]).all()


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
    assert "3-mask.png" in str(found.findings[0])
