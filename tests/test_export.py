"""The images of a suite as files by id: the very pixels that are tested, and nothing is overwritten."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny import build

from deeploc_bench.data.suites import silent
from deeploc_bench.data.survey import load_sound


def test_images_and_masks_are_written_pixel_by_pixel_and_only_once(deeploc, tiny, tmp_path):
    flags = ["data", "export", "tiny", *tiny[:2], "-o", "out", "--split", "valid", "--generator", "dark"]
    done = deeploc(*flags, "--masks")
    assert (done.returncode, done.stdout) == (0, "out: valid images of tiny: dark 6\n"), done.stderr
    written = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.png")}
    samples = build(-1)()["valid"]
    assert written == {f"{folder}/{sample.id}.png" for sample in samples for folder in ("dark", "masks/dark")}
    for sample in samples:
        assert (np.asarray(Image.open(tmp_path / f"out/dark/{sample.id}.png")) == sample.image()).all()
        mask = np.asarray(Image.open(tmp_path / f"out/masks/dark/{sample.id}.png"))
        assert mask.dtype == np.uint8 and (mask == 255 * sample.mask()).all()
    again = deeploc(*flags)
    assert (again.returncode, "nothing is overwritten" in again.stderr) == (2, True)


@pytest.mark.slow
def test_what_cannot_be_exported_is_told_with_what_can(deeploc, tmp_path):
    for flags, words in (
        (["--split", "tests"], "unknown split 'tests'"),
        (["--generator", "cyclega"], "Did you mean 'cyclegan'"),
        (["--generator", "authentic", "--split", "train"], "has no train images: it is test-only"),
    ):
        done = deeploc("data", "export", "photos", "-o", "out", *flags)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_export_of_the_embedded_suite_gives_its_pixels_and_no_mask(deeploc, registry, tmp_path):
    assert deeploc("data", "export", "photos", "-o", "out").returncode == 0
    suite, _ = load_sound(registry.suite("photos"), data=None, progress=silent)
    assert {folder.name for folder in (tmp_path / "out").iterdir()} == set(suite.generators)
    for name, generator in suite.generators.items():
        split = generator.splits["test"]
        assert sorted(file.stem for file in (tmp_path / "out" / name).iterdir()) == list(split.ids)
        for position, id in list(enumerate(split.ids))[::20]:
            image = np.asarray(Image.open(tmp_path / f"out/{name}/{id}.png"))
            assert (image.ravel() == split.flat(position)[0]).all()
