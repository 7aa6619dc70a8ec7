"""`data make`: paired generators out of photographs, spliced exactly, whole after a kill; mistakes are told."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deeploc_bench.cli import cli
from deeploc_bench.contract.errors import DeeplocError
from deeploc_bench.contract.specs import SPLITS

MAKERS = '''
"""Makers that are easy to check."""
import os
import numpy as np

LICENSE, REFERENCE, WEIGHTS = "MIT", "https://example.org", "weights.txt"

def inpaint(images, masks, random):
    with open("calls", "a") as calls:
        calls.write(f"{len(images)}\\n")
    if os.path.exists("fail") and os.path.getsize("calls") == 8:
        raise ValueError("a fourth\\ncall")
    return random.integers(0, 256, images.shape).astype(np.uint8)

def darker(images, masks, random, *, by: int = 60):
    images -= np.minimum(images, by).astype(np.uint8)
    return images

def again(images, masks, random):
    images ^= 2
    images[masks] ^= 128
    return images

def same(images, masks, random): return images
def floats(images, masks, random): return images / 255
def lone(images, masks, random): return images[0]
def nothing(images, masks, random): images[masks] = 0
def ends(images, masks, random): raise SystemExit(3)
def two(images, masks): return images
def needy(images, masks, random, *, strength): return images
def faint(images, masks, random): return images ^ np.uint8(1)
def slow(images, masks, random):
    import time
    time.sleep(0.05)
    return inpaint(images, masks, random)
'''
DEALT = ("--splits", "0.5:0.1:0.4")


def write_photographs(folder):
    """Write eight photographs of two sizes, four pairs by name, and the makers."""
    random = np.random.default_rng(0)
    (folder / "photos" / "more").mkdir(parents=True)
    for number in range(8):
        coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3)).astype(np.uint8))
        picture = coarse.resize((48, 40) if number % 2 else (44, 36), Image.Resampling.BICUBIC)
        picture.save(folder / "photos" / ("more" if number > 5 else "") / f"{'abcd'[number // 2]}{number % 2}.png")
    (folder / "makers.py").write_text(MAKERS)
    (folder / "weights.txt").write_text("of no use")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with photographs and makers, in which the test works."""
    write_photographs(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def said(*arguments):
    """Return the exit code and what a command says, run in this process."""
    done = CliRunner().invoke(cli, ["data", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, DeeplocError | SystemExit), done.exception
    return (2, str(done.exception)) if isinstance(done.exception, DeeplocError) else (done.exit_code, done.output)


def make(function="inpaint", *flags, out="set"):
    return said("make", "--with", f"makers.py:{function}", "--images", "photos", "-o", out, *flags)


def files_of(root):
    """Return the bytes of all that was made, by path."""
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file() and f.name != ".lock"}


def pixels(file):
    return np.asarray(Image.open(file))


def original_of(folder, id):
    (file,) = folder.glob(f"photos/**/{id.removeprefix('more_')}.png")
    return pixels(file)


def test_two_makers_share_images_splits_and_masks_and_edit_nothing_outside(folder):
    assert make("inpaint", *DEALT)[0] == 0 and make("darker", *DEALT, "--option", "by=90")[0] == 0
    first, second = (files_of(folder / "set/fake" / name) for name in ("makers", "darker"))
    images = [path for path in first if path.startswith("images/")]
    assert first.keys() == second.keys() and len(images) == 8
    for path in images:
        file = path.replace("images", "masks")
        mask, original = pixels(folder / "set/fake/darker" / file) > 0, original_of(folder, Path(path).stem)
        assert first[file] == second[file] and 0.05 <= mask.mean() <= 0.35
        for name in ("makers", "darker"):
            edit = pixels(folder / "set/fake" / name / path)
            assert (edit[~mask] == original[~mask]).all()
        assert (edit[mask] == original[mask] - np.minimum(original[mask], 90)).all()
    code, printed = said("check", "set/suite.toml", "--data", "set")
    assert (code, printed.splitlines()[-1]) == (0, "clean")
    assert "2 generators leave their images as they were outside the masks" in printed


def test_a_make_that_failed_goes_on_makes_no_image_twice_and_ends_with_the_same_bytes(folder):
    assert make("inpaint", out="whole/set")[0] == 0
    (folder / "calls").unlink()
    (folder / "fail").touch()
    code, told = make()
    assert code == 2 and told.startswith("makers.py:inpaint, image '") and told.endswith("(makers.py:12)"), told
    assert "ValueError: a fourth call" in told and not (folder / "set/fake/makers/maker.json").exists()
    (folder / "fail").unlink()
    assert make()[0] == 0 and len((folder / "calls").read_text().split()) == 9  # eight, and the one that failed
    assert files_of(folder / "set") == files_of(folder / "whole/set")
    code, printed = make()
    assert code == 0 and "0 of them new" in printed and files_of(folder / "set") == files_of(folder / "whole/set")


def test_batches_are_of_one_size_and_one_that_was_interrupted_gives_the_same_again(folder):
    assert make("inpaint", "--batch-size", 3, "--splits", "0:0:1")[0] == 0
    assert (folder / "calls").read_text().split() == ["3", "1", "3", "1"]
    kept = files_of(folder / "set")
    (folder / "set/fake/makers/images/test/b1.png").unlink()
    assert make("inpaint", "--batch-size", 3, "--splits", "0:0:1")[0] == 0 and files_of(folder / "set") == kept


def test_a_whole_output_is_kept_and_told_as_regenerated(folder):
    assert make("again", "--whole", "--splits", "0:0:1")[0] == 0
    original, mask = original_of(folder, "a0"), pixels(folder / "set/fake/again/masks/test/a0.png") > 0
    made = pixels(folder / "set/fake/again/images/test/a0.png")
    assert (made[~mask] == original[~mask] ^ 2).all() and (made[mask] == original[mask] ^ 130).all()
    assert "note [regenerated] 1 generators change" in said("check", "set/suite.toml", "--data", "set")[1]
    assert 'role = "test-only"' in (folder / "set/suite.toml").read_text()
    edits = json.loads((folder / "set/fake/again/maker.json").read_text())["edits"]
    assert all(126 <= edit["change"] <= 130 for edit in edits)


def test_the_provenance_says_what_made_it(folder):
    make("darker", "--license", "CC0-1.0")
    made = json.loads((folder / "set/fake/darker/maker.json").read_text())
    assert (made["license"], made["reference"]) == ("CC0-1.0", "https://example.org")
    assert made["maker"]["options"] == {"by": "60"} and made["maker"]["function"] == "makers.py:darker"
    assert made["maker"]["files"]["weights.txt"]["sha256"] == hashlib.sha256(b"of no use").hexdigest()
    assert made["versions"]["numpy"] == np.__version__


WRONG = {
    "unchanged": ("same", (), "makers.py:same, image 'a0': no pixel inside the mask is changed"),
    "floats": ("floats", (), "returned float64 of shape (1, 36, 44, 3); expected a numpy array, uint8 of shape (1, 36"),
    "one image": ("lone", (), "returned uint8 of shape (36, 44, 3); expected"),
    "nothing": ("nothing", (), "returned NoneType; expected"),
    "an end": ("ends", (), "it would end the program: SystemExit: 3"),
    "two arguments": ("two", (), "expected two(images, masks, random)"),
    "an option that is needed": ("needy", (), "makers.py:needy needs --option strength=..."),
    "an unknown option": ("darker", ("--option", "bye=3"), "Did you mean 'by'? Known: by."),
    "an option of another type": ("darker", ("--option", "by=much"), "--option by=much: expected a whole number"),
    "an unknown function": ("dark", (), "unknown function 'dark'. Did you mean 'darker'?"),
    "an area": ("darker", ("--area", "0.5"), "--area '0.5': expected LOW:HIGH"),
    "an area that no pixels have": (
        "darker",
        ("--area", "0.001:0.0011"),
        "no mask of such an area is found on its 44 x 36",
    ),
    "shares": ("darker", ("--splits", "1:1:1"), "expected the shares of train, valid and test"),
    "a source": ("darker", ("--source", "p"), "has no group"),
    "a name": ("darker", ("--name", "authentic"), "not authentic"),
    "levels of drawn masks": ("darker", ("--mask-above", "0"), "give --masks DIR"),
    "masks that are not there": ("darker", ("--masks", "makers"), "makers: there is no such folder"),
    "masks of other names": ("darker", ("--masks", "photos/more"), "8 of 8 images have no mask: a0"),
}


@pytest.mark.parametrize(("function", "flags", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_message_and_nothing_is_taken_for_made(folder, function, flags, words):
    flags = ("--splits", "0:0:1", *flags) if "--splits" not in flags else flags
    code, told = make(function, *flags)
    assert code == 2 and words in told and "\n" not in told, told
    assert not list(folder.glob("set/fake/**/*.*g")) and not list(folder.rglob("maker.json"))


def test_a_set_that_failed_before_its_first_image_is_no_hindrance(folder):
    assert make("same")[0] == 2
    assert make("darker", "--name", "same", "--seed", 3)[0] == 0


def test_other_images_masks_or_makers_do_not_join_a_set(folder):
    assert make("darker")[0] == 0
    kept = files_of(folder / "set")
    assert "set/fake/darker was made by another function" in make("darker", "--option", "by=9")[1]
    assert "set/originals.json and --seed differ: 0 and 1." in make("inpaint", "--seed", 1)[1]
    assert "--mask-kind, --area or --masks differ" in make("inpaint", "--mask-kind", "box")[1]
    shutil.copy(folder / "photos/a0.png", folder / "photos/e0.png")
    assert "1 images equal another one's pixels, such as e0 those of a0; keep one" in make("inpaint")[1]
    Image.fromarray(original_of(folder, "a0")[::-1]).save(folder / "photos/e0.png")
    assert "1 are new, such as e0. All generators of set share them" in make("inpaint")[1]
    assert files_of(folder / "set") == kept


def test_masks_of_a_folder_are_taken_as_they_are(folder):
    for file in (folder / "photos").rglob("*.png"):
        mask = np.zeros(pixels(file).shape[:2], np.uint8)
        mask[3:9, 4:20] = 1
        place = folder / "masks" / file.relative_to(folder / "photos").with_suffix(".bmp")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place)
    assert make("darker", "--masks", "masks", "--splits", "0:0:1")[0] == 2  # levels 0 and 1 are no mask unless said
    assert make("darker", "--masks", "masks", "--splits", "0:0:1", "--mask-above", 0)[0] == 0
    made = pixels(folder / "set/fake/darker/masks/test/more_d0.png")
    assert made[3:9, 4:20].all() and made.sum() == 255 * 6 * 16


def test_a_drawn_mask_depends_on_the_seed_and_the_id_alone(folder):
    for out, seed in (("all/set", 0), ("other/set", 1)):
        assert make("darker", "--splits", "0:0:1", "--seed", seed, out=out)[0] == 0
    shutil.copytree(folder / "photos/more", folder / "few/more")
    flags = ["--images", "few", "-o", "few/../fewer", "--splits", "0:0:1", "--name", "again"]
    assert said("make", "--with", "makers.py:again", *flags)[0] == 0
    kept, other = (pixels(folder / out / "set/fake/darker/masks/test/more_d0.png") for out in ("all", "other"))
    assert (pixels(folder / "fewer/fake/again/masks/test/more_d0.png") == kept).all() and (other != kept).any()


def test_folders_called_like_splits_say_the_split(folder):
    for number in range(6):
        place = folder / "dealt" / ("train", "valid", "test")[number // 2] / f"{'abcd'[number // 2]}{number % 2}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"photos/{place.name}", place)
    flags = ["make", "--with", "makers.py", "--images", "dealt", "-o", "set"]
    assert said(*flags)[0] == 0
    assert sorted(p.parent.name + p.name for p in (folder / "set/fake/makers/images").rglob("*.png")) == [
        *("testc0.png", "testc1.png", "traina0.png", "traina1.png", "validb0.png", "validb1.png")
    ]
    shutil.copy(folder / "photos/a0.png", folder / "dealt/stray.png")
    assert "dealt has a folder train/, and images beside it, such as dealt/stray.png" in said(*flags)[1]


def test_sources_stay_in_one_split_and_every_split_has_one(folder):
    assert make("darker", "--source", "([a-d])[01]", *DEALT)[0] == 0
    splits = [sorted(p.stem[-2:] for p in folder.glob(f"set/fake/darker/images/{split}/*")) for split in SPLITS]
    assert sorted(map(len, splits)) == [2, 2, 4]
    assert all({*one} == {f"{id[0]}{number}" for id in one for number in "01"} for one in splits)
    code, told = make("darker", "--source", "([01])$", *DEALT, out="other")
    assert code == 2 and "2 sources cannot be dealt to train, valid, test" in told


def test_edits_that_cannot_be_seen_are_left_out_for_every_generator(folder):
    assert make("faint", "--splits", "0:0:1")[0] == 0
    assert (folder / "set/suite.toml").read_text().count("p") > 8
    code, printed = said("check", "set/suite.toml", "--data", "set")
    assert code == 1 and "finds no image of 'faint'" in printed


def test_what_was_changed_by_hand_is_told_and_not_overwritten(folder):
    assert make("darker", "--splits", "0:0:1")[0] == 0
    file = folder / "set/fake/darker/images/test/a1.png"
    content = file.read_bytes()
    Image.fromarray(255 - pixels(file)).save(file)
    assert f"{file.relative_to(folder)} is not as it was made. Delete it" in make("darker", "--splits", "0:0:1")[1]
    file.unlink()
    assert make("darker", "--splits", "0:0:1")[0] == 0 and file.read_bytes() == content
    (folder / "set/suite.toml").write_text((folder / "set/suite.toml").read_text() + "# mine\n")
    assert "set/suite.toml was edited since it was written" in make("inpaint", "--splits", "0:0:1")[1]


def test_a_second_process_at_one_generator_is_told_to_wait(folder):
    make("darker")
    program = "import sys\nfrom filelock import FileLock\nwith FileLock('set/fake/darker/.lock'):\n"
    program += "    print('held', flush=True)\n    sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert "another process is making set/fake/darker" in make("darker")[1]
        holder.stdin.close()
