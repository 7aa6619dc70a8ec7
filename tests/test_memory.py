"""Eight times the images take no more memory: packing, training, and testing read them from files a batch at a time."""

from __future__ import annotations

import numpy as np
import pytest
from breaking import PLUGINS
from PIL import Image
from warm import command

SUITE = """
suite = "large"

[[generator]]
name = "bright"
images = "images/{split}/{id}.png"
masks = "masks/{split}/{id}.png"
"""
# looks at the memory that is no file's while the command runs, and tells the most of it in MiB; what is freed is given
# back at once, or the most would depend on luck
WATCH = """
import ctypes, re, threading, time
most, keep_no_more_than = 0, -3
assert ctypes.CDLL(None).mallopt(keep_no_more_than, 2**16)

def look():
    global most
    while True:
        with open("/proc/self/status") as status:
            most = max(most, int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1]) // 1024)
        with open("most", "w") as file:
            file.write(str(most))
        time.sleep(0.02)

threading.Thread(target=look, daemon=True).start()
"""


def write_images(folder, count):
    """Write images of 128 pixels with a bright square that is their mask, `count` a split."""
    for left, split in enumerate(("train", "valid", "test")):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            mask = np.zeros((128, 128), np.uint8)
            mask[i % 64 : i % 64 + 50, left : left + 50] = 255
            image = np.repeat(mask[..., None] // 3, 3, axis=2) + np.uint8(i % 100)
            Image.fromarray(image).save(folder / f"images/{split}/{split}-{i}.png", compress_level=1)
            Image.fromarray(mask).save(folder / f"masks/{split}/{split}-{i}.png", compress_level=1)


def memory(forked, folder, count):
    """Return the most memory, in MiB, of a run on so many images a split."""
    folder.mkdir()
    (folder / "large.toml").write_text(SUITE)
    write_images(folder, count)
    settings = ["--model", "small", "--recipe", "quick", "--set", "epochs=1", "--set", "size=32", "--threads", "1"]
    asked = ["run", *PLUGINS, "--suite", "large.toml", "--data", ".", "--protocol", "same", *settings]
    code, said = forked(folder, command(*asked, before=WATCH), XDG_CACHE_HOME="cache")
    assert code == 0, said
    return int((folder / "most").read_text())


@pytest.mark.slow
def test_a_run_on_eight_times_the_images_takes_no_more_memory(forked, tmp_path):
    few, many = memory(forked, tmp_path / "few", 128), memory(forked, tmp_path / "many", 1024)
    packed = sum(file.stat().st_size for file in tmp_path.rglob("cache/**/images")) // 2**20
    print(f"anonymous memory at most: {few} MiB of 128 images a split, {many} MiB of 1024, of {packed} MiB packed")
    assert packed > 150 and many - few < packed / 2
