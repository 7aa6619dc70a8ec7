# ruff: noqa: E501
"""Images and masks in the rows of parquet files are read like files; what is wrong with a table is one message."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pyarrow
import pytest
from deeploc_bench_plugins.described import deeploc_find_suite, tables
from field_trees import edit, encoded, photo, write_rows
from pyarrow import parquet

from deeploc_bench import DataError
from deeploc_bench.contract.errors import SampleError
from deeploc_bench.data.cleaning import clean
from deeploc_bench.data.decoding import MaskRule, decode
from deeploc_bench.data.packs import pack

KEYS = 'split = "test"\nparquet = "*.parquet"\n'


def row(number, label=1, **more):
    pixels, mask = edit(number)
    truth = encoded(np.where(mask, 255, 0).astype(np.uint8), "") if label else None
    return {"image": encoded(pixels if label else photo(number), ""), "mask": truth, "label": label, **more}


@pytest.fixture
def built(tmp_path):
    """Return a function that builds a described generator out of the tables of a folder."""

    def build(keys=KEYS, name="edited"):
        (tmp_path / "suite.toml").write_text(f'suite = "some"\n[[generator]]\nname = "{name}"\n{keys}')
        (dataset,) = deeploc_find_suite(str(tmp_path / "suite.toml"))
        return dataset.build(tmp_path)["test"]

    return build


def packed(samples, folder):
    return pack(samples, inverted=False, folder=folder, tick=lambda: None)


def test_each_row_has_its_own_image_and_mask_in_any_order_and_process(built, tmp_path):
    write_rows(tmp_path / "a.parquet", [row(n, id=f"{97 - n}/x.png") for n in range(24)], group=12)
    samples = built(KEYS + 'columns = { id = "id" }')
    for sample in (*samples[::7], *pickle.loads(pickle.dumps(samples[::-9]))):
        pixels, mask = edit(97 - int(sample.id.partition("_")[0]))
        found = decode(sample, MaskRule())
        assert np.array_equal(found.image, pixels) and np.array_equal(found.mask, mask)


def test_rows_without_a_name_are_called_after_file_and_row_and_authentic_ones_have_label_0(built, tmp_path):
    write_rows(tmp_path / "a.parquet", [row(1), row(2, label=0), row(3)])
    assert [sample.id for sample in built()] == ["a-0000000", "a-0000002"]
    (real,) = built(name="authentic")
    assert (real.id, real.mask) == ("a-0000001", None) and np.array_equal(decode(real, MaskRule()).image, photo(2))


def test_columns_say_generator_and_source_and_rows_are_chosen_by_their_id(built, tmp_path):
    rows = [
        row(n, id=f"{kind}/{n}", by=by, of="p")
        for n, (kind, by) in enumerate(zip("xxy", ("edited", "b", "edited"), strict=True))
    ]
    write_rows(tmp_path / "a.parquet", rows)
    keys = KEYS + 'columns = { id = "id", generator = "by", source = "of" }\n'
    assert [(one.id, one.source) for one in built(keys)] == [("x_0", "p"), ("y_2", "p")]
    assert [one.id for one in built(keys + 'rows = "^y"')] == ["y_2"]


def test_labels_choose_rows_which_must_have_labels_and_masks(built, tmp_path):
    keys = KEYS + 'labels = [2]\ncolumns = { id = "id" }\n'
    rows = [row(1, label=2, id="a"), row(2, label=1, id="b"), row(3, label=0, id="c"), row(4, label=2, id="d")]
    write_rows(tmp_path / "a.parquet", rows)
    assert [one.id for one in built(keys)] == ["a", "d"]
    for change, told in (
        (lambda one: one | {"label": None}, "row 0: its label is empty"),
        (lambda one: one | {"mask": None}, "row 0: a is edited, and its mask is empty; fetch the file again"),
        (lambda one: {key: one[key] for key in one if key != "label"}, "has no column 'label'"),
    ):
        write_rows(tmp_path / "a.parquet", [change(one) for one in rows])
        with pytest.raises(DataError, match=told):
            built(keys)


def test_where_rows_say_what_is_taken_a_lost_mask_is_none_of_an_authentic_image(built, tmp_path):
    keys = KEYS + 'rows = "part"\ncolumns = { id = "id" }\n'
    rows = [row(number, id=name) for number, name in enumerate(("part-a", "part-b"))]
    rows[1]["mask"] = None
    write_rows(tmp_path / "a.parquet", [{key: one[key] for key in one if key != "label"} for one in rows])
    with pytest.raises(DataError, match="row 1: part-b is edited, and its mask is empty"):
        built(keys)


@pytest.mark.parametrize("end", ["", "-0123456789abcdef"])
def test_all_files_that_belong_together_must_be_there_whichever_are_named(built, tmp_path, end):
    for number in range(3):
        write_rows(tmp_path / f"t-{number:05}-of-00004{end}.parquet", [row(number)])
    keys = KEYS.replace('"*.parquet"', '"t-00001*.parquet"')
    with pytest.raises(DataError, match="t-.*parquet: 3 of 4 files are here; fetch the rest"):
        built(keys)
    write_rows(tmp_path / f"t-00003-of-00004{end}.parquet", [row(3)])
    assert len(built(keys)) == 1


def test_tables_are_packed_once_until_they_change(built, tmp_path, monkeypatch):
    write_rows(tmp_path / "a.parquet", [row(n) for n in range(4)])
    first = packed(built(), tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(tables.Pictures, "read", lambda *_: b"")  # nothing is read again
        assert packed(built(), tmp_path / "cache").fingerprint == first.fingerprint
    write_rows(tmp_path / "a.parquet", [row(n + 9) for n in range(4)])
    assert packed(built(), tmp_path / "cache").fingerprint != first.fingerprint
    (stale,) = clean(tmp_path)
    assert stale.reason == "its files have changed"


def test_another_column_of_masks_is_another_pack(built, tmp_path):
    whole = encoded(np.full((40, 48), 255, np.uint8), "")
    write_rows(tmp_path / "a.parquet", [row(n, other=whole) for n in range(2)])
    areas = [
        [entry.mask_area for entry in packed(built(KEYS + keys), tmp_path / "cache").entries]
        for keys in ("", 'columns = { mask = "other" }')
    ]
    assert areas == [[16 * 18] * 2, [40 * 48] * 2]


def test_only_the_rows_that_are_asked_for_are_held(built, tmp_path):
    write_rows(tmp_path / "a.parquet", [row(1)] * 200, group=200)
    samples = built()
    pictures = samples[0].image.read.func.__self__
    for sample in samples[:60]:
        sample.image.read()
    (stream,) = pictures._streams.values()
    assert sum(len(values) for _, values in stream.kept) == 2 * tables.HELD


BAD = {
    "columns of other names": ({"picture": b"", "mask": None, "label": 1}, "", "has no column 'image'; it has picture, mask, label. Say in columns"),
    "no column of masks": ({"image": b"x", "label": 1}, "", "has no column 'mask'"),
    "a stated column that is not there": ({"image": b"x", "mask": b"y"}, 'columns = { id = "key" }', "has no column 'key'"),
    "images by path": ({"image": "a.png", "mask": b"x"}, "", "column 'image' holds string; expected the bytes of pictures"),
    "labels in words": ({"image": b"x", "mask": b"x", "label": "fake"}, "", "column 'label' holds string; expected whole numbers"),
    "generators by fractions": ({"image": b"x", "mask": b"x", "generator": 0.5}, "", "column 'generator' holds double; expected words or whole numbers"),
    "an id that is a list": ({"image": b"x", "mask": b"x", "key": ["a"]}, 'columns = { id = "key" }', "column 'key' holds list.*; expected words"),
    "a column of splits": ({"image": b"x", "mask": b"x", "split": "train"}, 'columns = { split = "split" }', "columns has a split, which is about lists"),
    "an id that is empty": ({"image": b"x", "mask": b"x", "key": ""}, 'columns = { id = "key" }', "row 0: its id is empty"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_table_of_another_form_is_one_message(built, tmp_path, what):
    values, keys, words = BAD[what]
    write_rows(tmp_path / "a.parquet", [values])
    with pytest.raises(DataError, match=words):
        built(KEYS + keys)


def test_two_columns_of_one_name_are_one_message(built, tmp_path):
    arrays = [pyarrow.array([b"x"])] * 3
    table = pyarrow.Table.from_arrays(arrays, names=["image", "mask", "mask"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has 2 columns 'mask'; it has image, mask, mask"):
        built()


def test_sources_and_generators_may_be_numbers(built, tmp_path):
    write_rows(tmp_path / "a.parquet", [row(n, source=7, generator=n) for n in range(3)])
    assert [(one.id, one.source) for one in built(name="2")] == [("a-0000002", "7")]


def test_a_file_that_is_no_table_or_not_whole_is_named(built, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a.parquet is no parquet file that can be read: .* Is it whole\?"):
        built()
    write_rows(tmp_path / "a.parquet", [row(n) for n in range(8)])
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a.parquet is no parquet file"):
        built()


def test_damaged_and_lacking_pictures_are_findings_of_their_rows(built, tmp_path):
    rows = [row(n) for n in range(4)]
    rows[1]["image"], rows[2]["image"] = None, rows[2]["image"][:60]
    write_rows(tmp_path / "a.parquet", rows)
    found = packed(built(), tmp_path / "cache")
    assert found.ids == ("a-0000000", "a-0000003")
    lacking, broken = (str(finding) for finding in found.findings)
    assert "a.parquet, row 1, image: its column 'image' holds no picture" in lacking
    assert "a.parquet, row 2, image" in broken


def test_bytes_that_are_damaged_in_the_middle_of_a_table_are_findings(built, tmp_path):
    write_rows(tmp_path / "a.parquet", [row(n) for n in range(6)])
    samples = built()
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:40] = bytes(36)  # the first page of the first column of the first group
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(SampleError, match="a.parquet, row 0, image"):
        decode(samples[0], MaskRule())
    assert decode(samples[-1], MaskRule()).mask.any()


def test_without_pyarrow_the_message_says_how_to_get_it(built, tmp_path, monkeypatch):
    write_rows(tmp_path / "a.parquet", [row(1)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'deeploc-bench\[parquet\]'"):
        built()


def test_plain_bytes_are_read_as_well(built, tmp_path):
    rows = [row(n) for n in (1, 2)]
    columns = {name: [one[name] for one in rows] for name in rows[0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert [decode(one, MaskRule()).mask.sum() for one in built()] == [16 * 18] * 2
