"""Descriptions and folders that would give wrong samples in silence are refused, or read as they are meant."""

from __future__ import annotations

import numpy as np
import pytest
from deeploc_bench_plugins import dolos
from deeploc_bench_plugins.described import deeploc_find_suite
from PIL import Image

from deeploc_bench import DataError, paired_samples
from deeploc_bench.data.folders import left_out

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


@pytest.mark.parametrize("column", ["mask", "source", "generator", "label"])
def test_a_column_that_is_named_and_not_there_is_refused(found, column):
    with pytest.raises(DataError, match="table.csv cannot be read: columns names 'photo', and its header has image, m"):
        found(
            f'lists = "table.csv"\ncolumns = {{ {column} = "photo" }}', table_csv="image,mask,split\na.png,b.png,test\n"
        )
    with pytest.raises(DataError, match=r"columns is about a \.csv, and this is none"):
        found(f'lists = {{ test = "l.txt" }}\ncolumns = {{ {column} = "photo" }}', l_txt="a.png b.png\n")


def test_an_authentic_image_listed_for_each_generator_counts_once(found):
    table = "image,mask,split,generator\ni/r.png,,test,first\ni/r.png,,test,second\n"
    assert [s.id for s in found('lists = "table.csv"', name="authentic", table_csv=table)["test"]] == ["r"]


def test_two_files_with_one_id_are_both_named(found, tmp_path):
    put(tmp_path, "images/a b.png", "images/a_b.png")
    with pytest.raises(DataError, match=r"a b.png and .*a_b.png have one id, 'a_b'"):
        paired_samples(tmp_path / "images", None)
    with pytest.raises(DataError, match=r"a/1.png and .*b/1.png have one id, '1'"):
        found('lists = { test = "pairs.txt" }', pairs_txt="a/1.png m/1.png\nb/1.png m/2.png")


FRAMES = 'images = "frames/{folder}/{id}.png"\nmasks = "masks/{folder}/{id}.png"\nsplit = "test"\n'


def ids(samples):
    return [(one.id, one.source, one.image.exists(), one.mask.exists()) for one in samples["test"]]


def test_frames_of_two_folders_are_told_apart_and_paired_within_their_folder(found, tmp_path):
    put(tmp_path, *(f"{kind}/{clip}/01.png" for kind in ("frames", "masks") for clip in ("a", "b")))
    put(tmp_path, "frames/c/01.png")
    assert ids(found(FRAMES)) == [
        ("a_01", "a_01", True, True),
        ("b_01", "b_01", True, True),
        ("c_01", "c_01", True, False),
    ]


def test_a_folder_of_frames_is_their_source_where_the_description_says_so(found, tmp_path):
    put(tmp_path, *(f"{kind}/clip/{i}.png" for kind in ("frames", "masks") for i in (1, 2)))
    assert [one.source for one in found(FRAMES + 'source = "^(.*)/"')["test"]] == ["clip", "clip"]


def test_frames_of_listed_folders_are_found(found, tmp_path):
    put(tmp_path, *(f"{kind}/{clip}/01.png" for kind in ("frames", "masks") for clip in ("a", "b")))
    keys = FRAMES.replace('split = "test"', 'lists = { test = "frames.txt" }')
    assert ids(found(keys, frames_txt="frames/b/01.png\n")) == [("b_01", "b_01", True, True)]


def test_one_mask_may_serve_every_folder(found, tmp_path):
    put(tmp_path, "frames/a/1.png", "frames/b/1.png", "masks/1.png")
    samples = found(FRAMES.replace("masks/{folder}/", "masks/"))["test"]
    assert [one.mask for one in samples] == [tmp_path / "masks/1.png"] * 2


def test_a_folder_of_masks_alone_is_refused(found):
    with pytest.raises(DataError, match=r"masks has \{folder\}, and images has not; put it in both"):
        found(FRAMES.replace("frames/{folder}/", "frames/"))


@pytest.mark.parametrize("exclude", ['"*_thumb.png"', '["nothing", "images/*_thumb.png"]'])
def test_files_are_left_out_by_a_pattern(found, tmp_path, exclude):
    put(tmp_path, "images/a.png", "images/a_thumb.png", "masks/a.png")
    keys = f'split = "test"\nexclude = {exclude}\n'
    assert [one.id for one in found(keys + TEMPLATES)["test"]] == ["a"]
    listed = f'lists = {{ test = "all.txt" }}\nexclude = {exclude}\n'
    lines = "images/a.png masks/a.png\nimages/a_thumb.png masks/a.png\n"
    assert [one.id for one in found(listed, all_txt=lines)["test"]] == ["a"]


def test_a_pattern_that_leaves_out_every_file_or_is_empty_is_told(found, tmp_path):
    put(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(DataError, match=r"no image of 'edited' in .*, without what exclude = '\*.png' leaves out"):
        found('split = "test"\nexclude = "*.png"\n' + TEMPLATES)
    with pytest.raises(DataError, match="exclude = '' has an empty pattern"):
        found('split = "test"\nexclude = ""\n' + TEMPLATES)


def test_a_generators_source_stands_before_the_suites(found, tmp_path):
    put(tmp_path, "images/a-1.png", "masks/a-1.png")
    assert [one.source for one in found('split = "test"\nsource = "^(.)"\n' + TEMPLATES)["test"]] == ["a"]


def test_absolute_paths_below_the_data_root_are_accepted_and_others_refused(found, tmp_path):
    put(tmp_path, "images/a.png", "masks/a.png")
    lines = f"{tmp_path}/images/a.png {tmp_path}/masks/a.png\n"
    for samples in (
        found('lists = { test = "all.txt" }', all_txt=lines),
        found('split = "test"\n' + TEMPLATES.replace("images/", f"{tmp_path}/images/")),
    ):
        assert ids(samples) == [("a", "a", True, True)]
    for line in ("/elsewhere/a.png masks/a.png\n", f"{tmp_path}/../a.png masks/a.png\n"):
        with pytest.raises(DataError, match="leads out of the data root"):
            found('lists = { test = "all.txt" }', all_txt=line)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_may_start_with_a_byte_order_mark(found, tmp_path, encoding):
    put(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "all.txt").write_text("images/a.png masks/a.png\n", encoding)
    assert ids(found('lists = { test = "all.txt" }')) == [("a", "a", True, True)]


def test_a_description_may_start_with_a_byte_order_mark(tmp_path):
    text = f'suite = "some"\n[[generator]]\nname = "a"\nsplit = "test"\n{TEMPLATES}mask_above = 0'
    (tmp_path / "suite.toml").write_text(text, "utf-8-sig")
    (dataset,) = deeploc_find_suite(str(tmp_path / "suite.toml"))
    assert (dataset.name, dataset.mask_above) == ("a", 0)


def test_images_beside_the_samples_are_counted_by_folder_and_type(found, tmp_path):
    put(tmp_path, "images/a.png", "masks/a.png", "masks/b.png", "masks/c.png", "elsewhere/d.png")
    for name in ("images/e.GIF", "images/f.gif", "masks/g.npy", "masks/.h.png", "images/notes.txt"):
        (tmp_path / name).touch()
    assert [(one.check, one.level, str(one)) for one in left_out(found('split = "test"\n' + TEMPLATES)["test"])] == [
        ("types", "note", f"{tmp_path}/images: 2 .gif files, e.GIF first"),
        ("unused", "note", f"{tmp_path}/masks: 2 image files, b.png first"),
        ("types", "note", f"{tmp_path}/masks: 1 .npy files, g.npy first"),
    ]


def test_images_and_masks_may_lie_in_one_folder(tmp_path):
    put(tmp_path, "b.png", "b_mask.png", "a.png", "a_mask.png")
    found = paired_samples(tmp_path, tmp_path, mask_suffix="_mask")
    assert [(s.image.name, s.mask.name) for s in found] == [("a.png", "a_mask.png"), ("b.png", "b_mask.png")]


def test_a_folder_that_the_course_copy_lacks_is_named_as_that_copy_calls_it(tmp_path):
    (tmp_path / "FMI_local_data/ldm").mkdir(parents=True)
    for name, folder in (("lama", "lama"), ("repaint-p2", "repaint")):
        with pytest.raises(DataError, match=f"there is no folder .*FMI_local_data/{folder}$"):
            dolos.build(name, tmp_path)
