"""Samples are packed once, read back pixel for pixel, and named where they cannot be used."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import Stopped
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


def packed(samples, folder, *, inverted=False, threads=1, tick=lambda: None):
    return pack(samples, inverted=inverted, folder=folder / "cache", tick=tick, threads=threads)


def contents(folder):
    """Return the bytes of each file of the only pack in a cache."""
    (pack,) = (folder / "cache").iterdir()
    return {file.name: file.read_bytes() for file in pack.iterdir()}


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


def test_a_pack_is_the_same_to_the_byte_whatever_the_threads(tmp_path):
    samples = files(tmp_path, 30)
    for bad in (3, 17, 18):
        samples[bad].image.write_bytes(b"no picture")
    found, ticks = [], []
    for threads in (1, 2, 7):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        findings = packed(samples, tmp_path, threads=threads, tick=lambda: ticks.append(1)).findings
        found.append((contents(tmp_path), [str(finding) for finding in findings]))
    assert found[0] == found[1] == found[2] and len(ticks) == 90
    assert [text.partition(".png")[0][-2:] for text in found[0][1]] == ["17", "18", "/3"]  # sorted by id


def recolored(samples):
    """Make all images another color, and leave size and time of their files: to a pack, nothing has changed."""
    for sample in samples:
        before = sample.image.stat()
        Image.new("RGB", (8, 8), "red").save(sample.image)
        os.utime(sample.image, ns=(before.st_atime_ns, before.st_mtime_ns))


def bitmaps(folder, count):
    for i in range(count):
        Image.new("RGB", (8, 8), "blue").save(folder / f"{i:03}.bmp")
        Image.new("1", (8, 8), 1).save(folder / f"{i:03}.png")
    return samples_in(folder, count)


def samples_in(folder, count):
    names = [f"{i:03}" for i in range(count)]
    return [Sample(id=name, source=name, image=folder / f"{name}.bmp", mask=folder / f"{name}.png") for name in names]


def stop_after(count):
    """Return a tick that stops a packing."""
    ticks = iter(range(count))

    def tick():
        if next(ticks, None) is None:
            raise Stopped

    return tick


@pytest.mark.parametrize("threads", [1, 3])
def test_a_packing_that_was_stopped_goes_on_where_it_was(tmp_path, threads):
    samples = bitmaps(tmp_path, 100)
    with pytest.raises(Stopped):
        packed(samples, tmp_path, threads=threads, tick=stop_after(70))
    recolored(samples)
    ticks = []
    again = packed(samples, tmp_path, threads=threads, tick=lambda: ticks.append(1))
    images, masks = read_batch(again, np.arange(100))
    assert (images[:, 0, 0, 2] == [255] * 64 + [0] * 36).all() and masks.all()  # blue, then red
    assert len(ticks) == 100 and set(contents(tmp_path)) == {"images", "masks", "index.json"}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_packs import packed, samples_in
ticks = iter(range(70))
tick = lambda: next(ticks, None) is None and os.kill(os.getpid(), signal.SIGKILL)
packed(samples_in(Path(sys.argv[2]), 100), Path(sys.argv[2]), threads=2, tick=tick)
"""


@pytest.mark.slow
def test_a_packing_that_was_killed_goes_on_where_it_was(tmp_path):
    samples = bitmaps(tmp_path, 100)
    done = subprocess.run([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    recolored(samples)
    images, _ = read_batch(packed(samples, tmp_path), np.arange(100))
    assert (images[:, 0, 0, 2] == [255] * 64 + [0] * 36).all()


@pytest.mark.parametrize("name", ["images", "masks", "done"])
@pytest.mark.parametrize("how", damages(b"  "))
def test_what_a_stopped_packing_left_damaged_is_packed_anew(tmp_path, name, how):
    samples = bitmaps(tmp_path, 70)
    expected = packed(samples, tmp_path).fingerprint, contents(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(Stopped):
        packed(samples, tmp_path, tick=stop_after(69))
    (scratch,) = (tmp_path / "cache").iterdir()
    (scratch / name).write_bytes(damages((scratch / name).read_bytes())[how])
    assert (packed(samples, tmp_path).fingerprint, contents(tmp_path)) == expected


def test_who_packs_the_same_waits_and_takes_what_is_there_then(tmp_path):
    samples, is_packing, go_on = bitmaps(tmp_path, 5), threading.Event(), threading.Event()

    def tick():
        is_packing.set()
        go_on.wait(20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(packed, samples, tmp_path, tick=tick)
        assert is_packing.wait(20)
        ticks = []
        second = pool.submit(packed, samples, tmp_path, tick=lambda: ticks.append(1))
        with pytest.raises(TimeoutError):
            second.result(0.2)
        go_on.set()
        assert second.result(20).fingerprint == first.result(20).fingerprint
    assert not ticks and len(list((tmp_path / "cache").iterdir())) == 1


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
