"""Dolos in every form it lies about in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from deeploc_bench_plugins import dolos
from PIL import Image
from reference import read_mask
from trees import dolos_tree

from deeploc_bench import DataError
from deeploc_bench.plan.recipe import load_recipe

STANDARD = ("lama", "ldm", "pluralistic", "repaint-p2")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return dolos_tree(tmp_path_factory.mktemp("dolos") / "wacv_data", counts=(4, 2, 2))


@pytest.fixture
def course(tree, tmp_path):
    root = tmp_path / "FMI_local_data"
    for name in dolos.FOLDERS:
        if name != "repaint-p2-full":
            published, own = dolos.FOLDERS[name]
            shutil.copytree(tree / "celebahq" / published, root / own)
    return root


def seen(root):
    return {
        name: {split: [(s.id, s.source) for s in samples] for split, samples in dolos.build(name, root).items()}
        for name in dolos.FOLDERS
    }


def test_every_root_form_and_both_layouts_hold_the_same_samples(tree, course):
    expected = seen(tree / "celebahq")
    assert expected["lama"]["train"] == [(f"train000{i // 2}-{i % 2}", f"train000{i // 2}") for i in range(4)]
    for root in (tree, tree.parent, course, course.parent):
        assert seen(root) == expected


def test_authentic_images_are_those_of_the_test_split(tree):
    assert [sample.id for sample in dolos.build("authentic", tree)["test"]] == ["test0000"]


def test_the_9k_set_is_repaint_p2_and_the_full_one_is_tested_only_where_it_is_there(tree, tmp_path):
    assert dolos.build("repaint-p2-full", tree) == {}
    copy = shutil.copytree(tree, tmp_path / "copy")
    shutil.copytree(copy / "celebahq/fake/lama", copy / "celebahq/fake/repaint-p2")
    assert set(dolos.build("repaint-p2-full", copy)) == {"test"}
    assert "repaint-p2-9k" in str(dolos.build("repaint-p2", copy)["train"][0].image)


def test_the_full_set_is_of_the_same_method_as_the_9k_set():
    methods = {dataset.name: dataset.method for dataset in dolos.deeploc_datasets()}
    assert {name: method for name, method in methods.items() if method} == {"repaint-p2-full": "repaint-p2"}


def test_black_is_manipulated(tree):
    sample = dolos.build("lama", tree)["test"][1]
    levels = np.asarray(Image.open(sample.mask))[..., 0]
    assert (read_mask(sample, inverted=True) == (levels == 0)).all() and (levels == 0).any()


def test_a_folder_without_dolos_and_one_without_a_generator_are_named(tree, tmp_path):
    with pytest.raises(DataError, match="holds no Dolos. Give celebahq/ itself, its parent"):
        dolos.build("lama", tmp_path)
    copy = shutil.copytree(tree, tmp_path / "copy")
    shutil.rmtree(copy / "celebahq/fake/ldm")
    with pytest.raises(DataError, match="there is no folder .*celebahq/fake/ldm"):
        dolos.build("ldm", copy)


DOCS = Path(__file__).parents[1] / "docs/dolos.md"
POSTER = load_recipe("poster")


@pytest.mark.parametrize(
    ("choice", "value", "words"),
    [
        ("batch size", POSTER.batch_size == 16, "16, "),
        ("optimizer", POSTER.optimizer == "adam", "Adam "),
        ("schedule", POSTER.schedule == "constant", "constant learning rate"),
        ("input size", (POSTER.size, POSTER.fit) == (256, "crop"), "256 x 256, "),
        ("flips", not POSTER.flip, "none; "),
        ("encoder weights", POSTER.weights == "default", "ImageNet, "),
        ("precision", POSTER.precision == "auto", "bf16 where the hardware has it, else fp32"),
    ],
)
def test_the_list_of_what_the_poster_leaves_unsaid_says_what_the_recipe_holds(choice, value, words):
    assert value and f"\n| {choice} | {words}" in DOCS.read_text("utf-8")


def test_the_list_of_what_the_poster_leaves_unsaid_names_the_recipes_file():
    (named,) = (word for word in DOCS.read_text("utf-8").split("`") if word.endswith("poster.toml"))
    assert (DOCS.parents[1] / named).is_file()
