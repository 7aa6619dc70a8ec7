"""Descriptions and folders that would give wrong samples in silence are refused, or read as they are meant."""

from __future__ import annotations

import numpy as np
import pytest
from deeploc_bench_plugins import dolos
from deeploc_bench_plugins.described import deeploc_find_suite
from PIL import Image

from deeploc_bench import DataError, paired_samples

TEMPLATES = 'images = "images/{id}.png"\nmasks = "masks/{id}.png"\n'


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(root / name)


@pytest.fixture
def found(tmp_path):
    """Return a function from a generator's keys and the lists of a data root to its samples by split."""

    def build(keys, name="edited", **lists):
        for stem, text in lists.items():
            (tmp_path / stem.replace("_", ".")).write_text(text)
        file = tmp_path / "suite.toml"
        file.write_text(f'suite = "some"\n[[generator]]\nname = "{name}"\n{keys}')
        return next(iter(deeploc_find_suite(str(file)))).build(tmp_path)

    return build


def test_a_template_that_finds_nothing_is_named_with_the_root(found, tmp_path):
    put(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(DataError, match=rf"images = 'imgs/\{{id\}}.png' finds no image of 'edited' in {tmp_path}"):
        found('split = "test"\n' + TEMPLATES.replace('"images/', '"imgs/'))


def test_hidden_files_are_no_images(found, tmp_path):
    put(tmp_path, "images/a.png", "images/._a.png", "masks/a.png")
    assert [sample.id for sample in found('split = "test"\n' + TEMPLATES)["test"]] == ["a"]


def test_brackets_in_a_template_are_read_as_written(found, tmp_path):
    put(tmp_path, "im[1]/a.png", "masks/a.png")
    assert len(found('split = "test"\n' + TEMPLATES.replace("images/", "im[1]/"))["test"]) == 1


def test_an_unknown_placeholder_is_refused_with_those_that_are_known(found):
    with pytest.raises(DataError, match=r"unknown placeholder {spilt}. Known: {folder}, {id}, {key}, {split}"):
        found('split = "test"\n' + TEMPLATES.replace("images/", "images/{spilt}/"))


def test_folders_stay_below_the_data_root(found):
    with pytest.raises(DataError, match="folders: '../secret' leads out of the data root"):
        found('images = "{split}/{id}.png"\nmasks = "masks/{id}.png"\nfolders = { test = "../secret" }')


def test_one_split_and_a_list_a_split_contradict_each_other(found):
    with pytest.raises(DataError, match="split = 'test' goes with one list, not with a list a split"):
        found('split = "test"\nlists = { train = "a.txt", test = "b.txt" }')


@pytest.mark.parametrize(
    ("keys", "allowed"),
    [
        ('role = "testonly"', r"key 'generator\[0\].role' is 'testonly'; expected one of standard, test-only"),
        ('folders = { val = "v" }', r"a key of 'generator\[0\].folders' is 'val'; expected one of test, train, valid"),
    ],
)
def test_an_invalid_value_comes_with_its_key_and_those_that_are_allowed(found, keys, allowed):
    with pytest.raises(DataError, match=allowed):
        found(f"{keys}\n{TEMPLATES}")


def test_ids_in_a_list_may_hold_dots(found, tmp_path):
    put(tmp_path, *(f"{folder}/a.{i}.png" for folder in ("images", "masks") for i in (1, 2)))
    samples = found('lists = { test = "ids.txt" }\n' + TEMPLATES, ids_txt="a.1\na.2.png\n")["test"]
    assert [(s.id, s.image.name, s.mask.name) for s in samples] == [
        ("a.1", "a.1.png", "a.1.png"),
        ("a.2", "a.2.png", "a.2.png"),
    ]


def test_a_list_takes_masks_from_the_folder_of_its_split(found, tmp_path):
    put(tmp_path, "images/a.png", "masks/testing/a.png")
    keys = TEMPLATES.replace("masks/", "masks/{split}/") + 'folders = { test = "testing" }\n'
    (sample,) = found(keys + 'lists = { test = "ids.txt" }', ids_txt="a\n")["test"]
    assert sample.mask == tmp_path / "masks/testing/a.png" and sample.mask.exists()


def test_names_with_blanks_are_listed_with_commas(found, tmp_path):
    (sample,) = found('lists = { test = "pairs.txt" }', pairs_txt="fake/x.png,mask/dining table_1.png\n")["test"]
    assert (sample.image, sample.mask) == (tmp_path / "fake/x.png", tmp_path / "mask/dining table_1.png")


@pytest.mark.parametrize("row", ["i/a.png None 1", "i/a.png m/a.png 0"])
def test_a_label_that_contradicts_its_mask_is_refused(found, row):
    with pytest.raises(DataError, match=r"list .*pairs.txt cannot be read: i/a.png has label [01] and"):
        found('lists = { test = "pairs.txt" }', pairs_txt=row)


def test_a_split_that_nobody_knows_is_refused(found):
    with pytest.raises(DataError, match="i/a.png has split 'val'; allowed: train, valid, test"):
        found('lists = "table.csv"', table_csv="image,mask,split\ni/a.png,m/a.png,val\n")


def test_folders_say_what_a_table_calls_the_splits(found):
    table = "image,mask,split\ni/a.png,m/a.png,val\n"
    assert len(found('lists = "table.csv"\nfolders = { valid = "val" }', table_csv=table)["valid"]) == 1


@pytest.mark.parametrize("table", ["img,mask,split\na.png,b.png,test\n", "image,mask,split\na.png\n"])
def test_a_table_without_its_columns_is_refused_by_its_row(found, table):
    with pytest.raises(
        DataError, match=r"row a.png, .* does not fill the columns, 'image' among them. Expected a header"
    ):
        found('lists = "table.csv"', table_csv=table)


def test_an_authentic_image_listed_for_each_generator_counts_once(found):
    table = "image,mask,split,generator\ni/r.png,,test,first\ni/r.png,,test,second\n"
    assert [s.id for s in found('lists = "table.csv"', name="authentic", table_csv=table)["test"]] == ["r"]


def test_two_files_with_one_id_are_both_named(found, tmp_path):
    put(tmp_path, "images/a b.png", "images/a_b.png")
    with pytest.raises(DataError, match=r"a b.png and .*a_b.png have one id, 'a_b'"):
        paired_samples(tmp_path / "images", None)
    with pytest.raises(DataError, match=r"a/1.png and .*b/1.png have one id, '1'"):
        found('lists = { test = "pairs.txt" }', pairs_txt="a/1.png m/1.png\nb/1.png m/2.png")


def test_images_and_masks_may_lie_in_one_folder(tmp_path):
    put(tmp_path, "b.png", "b_mask.png", "a.png", "a_mask.png")
    found = paired_samples(tmp_path, tmp_path, mask_suffix="_mask")
    assert [(s.image.name, s.mask.name) for s in found] == [("a.png", "a_mask.png"), ("b.png", "b_mask.png")]


def test_a_folder_that_the_course_copy_lacks_is_named_as_that_copy_calls_it(tmp_path):
    (tmp_path / "FMI_local_data/ldm").mkdir(parents=True)
    for name, folder in (("lama", "lama"), ("repaint-p2", "repaint")):
        with pytest.raises(DataError, match=f"there is no folder .*FMI_local_data/{folder}$"):
            dolos.build(name, tmp_path)
