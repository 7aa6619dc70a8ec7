# ruff: noqa: E501
"""Each thing that can be wrong with a suite, planted in a copy of a sound one, is reported by name."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import printed_json
from PIL import Image
from trees import dolos_tree

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.findings import refuse
from deeploc_bench.contract.specs import AUTHENTIC, Sample
from deeploc_bench.data.packs import pack
from deeploc_bench.data.suites import Generator, Suite
from deeploc_bench.data.survey import survey

ROOT = "celebahq/fake"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return dolos_tree(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def tree(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "tree")


def mask_of(change):
    def plant(folder):
        file = folder / "lama/masks/test/test0001-1.png"
        Image.fromarray(change(np.asarray(Image.open(file)))).save(file)

    return plant


def cut(folder):
    file = folder / "lama/images/test/test0001-1.png"
    file.write_bytes(file.read_bytes()[:900])


def leak(folder):
    for name in ("lama", "ldm", "pluralistic", "repaint-p2-9k"):
        for kind in ("images", "masks"):
            (folder / name / kind / "train/train0001-1.png").rename(folder / name / kind / "train/test0001-9.png")


def in_train_and_valid(folder):
    for name in ("lama", "ldm", "pluralistic", "repaint-p2-9k"):
        for kind in ("images", "masks"):
            (folder / name / kind / "valid/valid0001-1.png").rename(folder / name / kind / "valid/train0001-9.png")


def invert_all(folder):
    for file in (folder / "lama/masks/test").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)


def small(folder):
    Image.new("RGB", (64, 31), "white").save(folder / "ldm/images/test/test0002-1.png")
    Image.new("L", (64, 31), "black").save(folder / "ldm/masks/test/test0002-1.png")


# what is planted, the check that finds it, its level, and words that name it
PLANTED = {
    "a missing generator": (lambda f: shutil.rmtree(f / "ldm"), "dataset", "error", "fake/ldm"),
    "a missing split": (lambda f: shutil.rmtree(f / "ldm/images/valid"), "missing", "error", "ldm/images/valid"),
    "an absent split": (lambda f: [shutil.rmtree(f / "ldm" / k / "valid") for k in ("images", "masks")], "split", "error", "ldm/valid"),
    "a missing mask": (lambda f: (f / "ldm/masks/test/test0000-0.png").unlink(), "missing", "error", "masks/test/test0000-0.png"),
    "a missing image": (lambda f: (f / "ldm/images/test/test0000-0.png").unlink(), "missing", "error", "images/test/test0000-0.png"),
    "a truncated image": (cut, "unreadable", "error", "images/test/test0001-1.png"),
    "a mask of another size": (mask_of(lambda m: 0 * m[:32]), "size", "error", "is 64 x 32"),
    "a gray mask": (mask_of(lambda m: np.full_like(m, 128)), "gray", "error", "masks/test/test0001-1.png"),
    "an empty mask": (mask_of(lambda m: np.full_like(m, 255)), "empty", "error", "its levels are all 255"),
    "a source on both sides": (leak, "leak", "error", "source 'test0001' stands in"),
    "an image on both sides": (
        lambda f: shutil.copy(f / "lama/images/valid/valid0000-0.png", f / "ldm/images/test/test0001-1.png"),
        "leak",
        "error",
        "ldm/images/test/test0001-1.png",
    ),
    "an authentic test image that is trained on": (
        lambda f: shutil.copy(f / "ldm/images/train/train0002-0.png", f.parent / "real/test/test0001.png"),
        "leak",
        "error",
        "real/test/test0001.png",
    ),
    "the wrong polarity": (invert_all, "polarity", "warning", "lama/test: masks cover"),
    "soft mask levels": (mask_of(lambda m: np.where(m > 0, 250, 4).astype(np.uint8)), "levels", "warning", "images/test/test0001-1.png"),
    "stems that differ": (
        lambda f: [(f / "ldm" / k / "test/test0002-1.png").rename(f / "ldm" / k / "test/test0002-2.png") for k in ("images", "masks")],
        "stems",
        "warning",
        "test0002-1 is lacking in ldm/test",
    ),
    "a source in train and valid": (in_train_and_valid, "valid", "warning", "source 'train0001' stands in"),
    "a small image": (small, "small", "error", "ldm/images/test/test0002-1.png is 64 x 31"),
    "an image of a type that is not read": (
        lambda f: (f / "ldm/images/test/x.HEIC").touch(),
        "types",
        "note",
        "ldm/images/test: 1 .heic files, x.HEIC first",
    ),
    "an edit that is elsewhere": (invert_all, "edit", "error", "lama/test: as the authentic images show, the masks are inverted"),
    "a duplicate image": (
        lambda f: shutil.copy(f / "lama/images/test/test0000-0.png", f / "lama/images/test/test0002-1.png"),
        "duplicate",
        "warning",
        "test0002-1.png is lama/test",
    ),
}  # fmt: skip


def check(deeploc, tree):
    return deeploc("data", "check", "dolos", "--data", tree, "--json", XDG_CACHE_HOME=str(tree.parent / "cache"))


def test_a_sound_tree_is_clean_and_the_full_set_that_is_not_there_is_told(deeploc, tree, tmp_path):
    notes = printed_json(check(deeploc, tree))["findings"]
    assert {(note["level"], note["check"]) for note in notes} == {("note", "spliced"), ("note", "regenerated")}
    done = deeploc("data", "check", "dolos", "--data", tree, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "clean")
    assert "repaint-p2-full (test-only): not there, left out" in done.stdout


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_reported_by_name(deeploc, tree, what):
    plant, name, level, words = PLANTED[what]
    plant(tree / ROOT)
    done = check(deeploc, tree)
    mine = [finding for finding in printed_json(done)["findings"] if finding["check"] == name]
    assert done.returncode == (0 if level == "note" else 1)
    assert any(words in finding["message"] and finding["level"] == level for finding in mine), done.stdout


def test_everything_is_listed_at_once_counts_first_and_run_refuses_before_training(deeploc, tree, tmp_path):
    for plant in (cut, leak, mask_of(lambda m: np.full_like(m, 128)), PLANTED["a missing mask"][0]):
        plant(tree / ROOT)
    flags = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    told = deeploc("data", "check", "dolos", "--data", tree, **flags).stdout
    for line in (
        "error [missing] 1 files are missing",
        "error [leak] 1 sources or images are both trained on and tested on",
    ):
        assert line in told
    assert told.index("error [missing]") < told.index("error [leak]") < told.index("warning [stems]")
    refused = deeploc("run", "--suite", "dolos", "--data", tree, "--model", "residual-unet", **flags)
    assert (refused.returncode, "errors in its data" in refused.stderr) == (2, True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_warnings_are_told_and_the_run_goes_on(deeploc, tree, tmp_path):
    PLANTED["stems that differ"][0](tree / ROOT)
    flags = ["--suite", "dolos", "--data", tree, "--model", "residual-unet", "--recipe", "quick", "--set", "epochs=1"]
    done = deeploc("run", *flags, "--threads", "1", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "warning [stems] 2 ids do not stand in every generator" in done.stderr
    assert "| w/o lama        | lama        |" in done.stdout


def suite_of(**splits):
    """Return a suite out of (source, number of the image) for each sample of each `generator_split`."""
    generators = {}
    for place, samples in splits.items():
        name, split = place.split("_")
        made = [
            Sample(
                id=f"{split}-{i:04}",
                source=source,
                image=np.full((32, 32, 3), [number // 256, number % 256, 0], np.uint8).copy,
                mask=None if name == AUTHENTIC else np.eye(32, dtype=bool).copy,
            )
            for i, (source, number) in enumerate(samples)
        ]
        packed = pack(made, inverted=False, folder=None, tick=lambda: None)
        generators.setdefault(name, {})[split] = packed
    roles = {name: "standard" if "train" in packs else "test-only" for name, packs in generators.items()}
    return Suite(
        name="made",
        generators={name: Generator(name=name, role=roles[name], splits=packs) for name, packs in generators.items()},
    )


def found(check, **splits):
    return [str(finding) for finding in survey(suite_of(**splits)) if finding.check == check]


def test_an_image_that_is_trained_on_and_tested_on_is_a_leak_of_both_files_and_no_duplicate():
    splits = {"a_train": [("s1", 1), ("s2", 2)], "a_valid": [("s3", 3)], "b_test": [("t1", 2), ("t2", 3), ("t3", 4)]}
    assert found("leak", **splits) == [
        "one image stands in a/train: train-0001 and in b/test: test-0000",
        "one image stands in a/valid: valid-0000 and in b/test: test-0001",
    ]
    assert found("duplicate", **splits) == []


def test_an_authentic_test_image_that_is_trained_on_is_a_leak():
    splits = {"a_train": [("s1", 1)], "authentic_test": [("t1", 1)]}
    assert found("leak", **splits) == ["one image stands in a/train: train-0000 and in authentic/test: test-0000"]


@pytest.mark.parametrize("place", ["a_train", "a_valid", "a_test"])
def test_an_image_that_stands_twice_on_one_side_is_a_duplicate_and_no_leak(place):
    split = place.partition("_")[2]
    splits = {place: [("s1", 1)], f"b_{split}": [("s2", 1)]}
    assert found("leak", **splits) == []
    assert found("duplicate", **splits) == [f"b/{split}: {split}-0000 is a/{split}: {split}-0000"]


def test_an_image_and_its_source_on_both_sides_are_one_leak():
    splits = {"a_train": [("s1", 1)], "b_test": [("s1", 1)]}
    assert found("leak", **splits) == ["source 's1' stands in a/train: train-0000 and in b/test: test-0000"]
    assert found("leak", a_train=[("s1", 1)], b_test=[("s1", 1), ("t1", 1)])[1:] == [
        "one image stands in a/train: train-0000 and in b/test: test-0001"
    ]


def test_thousands_of_leaking_images_are_one_message_of_a_few_lines():
    suite = suite_of(
        a_train=[(f"s{i}", i) for i in range(2000)], a_test=[(f"t{i}", i) for i in range(2000)], a_valid=[("v", 9999)]
    )
    with pytest.raises(DataError) as caught:
        refuse("suite 'made'", survey(suite))
    lines = str(caught.value).splitlines()
    assert lines[1] == "  error [leak] 2000 sources or images are both trained on and tested on"
    assert (len(lines), lines[-1].strip()) == (6, "and 1997 more")
