"""Published numbers are found by name, and each cell has the one that was published of it or none."""

from __future__ import annotations

import math

import pytest

from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.published import (
    Publication,
    Published,
    PublishedMatrix,
    PublishedRow,
    find_publication,
    published,
    published_iou,
    published_table,
    rows_of,
)
from deeploc_bench.results.render import Link
from deeploc_bench.scoring.dialects import DIALECTS

POSTER, DECLIP, THESIS = (find_publication(name)[1] for name in ("poster", "declip", "thesis-2025"))
FOUR = ("lama", "ldm", "pluralistic", "repaint-p2")
THREE_THOUSAND = "the other three, 3 x 3,000 images (matched budget)"


def pair(test, *train):
    return Pair(train_generators=train, test_generator=test)


def others(test):
    return tuple(name for name in FOUR if name != test)


@pytest.mark.parametrize(
    ("test", "same", "loo"),
    [("lama", 0.90, 0.19), ("ldm", 0.51, 0.24), ("pluralistic", 0.90, 0.37), ("repaint-p2", 0.74, 0.27)],
)
def test_the_posters_numbers_are_those_that_it_prints(test, same, loo):
    assert published_iou(POSTER, "same", "full", pair(test, test)) == same
    assert published_iou(POSTER, "loo", "full", pair(test, *others(test))) == loo


def test_the_complete_held_out_row_of_the_thesis_is_of_protocol_loo_alone():
    held_out = [published_iou(THESIS, "loo", "matched", pair(test, *others(test))) for test in FOUR]
    assert held_out == [0.6161, 0.3086, 0.6141, 0.3410]
    assert math.isnan(published_iou(THESIS, "same", "full", pair("lama", "lama")))


def test_a_matrix_is_read_by_what_was_trained_on_and_then_by_what_was_tested_on():
    assert published_iou(DECLIP, "cross", "full", pair("lama", "pluralistic")) == 0.519
    assert published_iou(DECLIP, "cross", "full", pair("pluralistic", "lama")) == 0.320
    assert published_iou(DECLIP, "same", "full", pair("lama", "lama")) == 0.865


@pytest.mark.parametrize(
    ("entry", "protocol", "cell"),
    [
        (POSTER, "cross", pair("lama", "lama")),
        (POSTER, "score", pair("lama", "lama")),
        (POSTER, "same", pair("latent", "latent")),
        (DECLIP, "loo", pair("lama", *others("lama"))),
        (DECLIP, "cross", pair("lama", *others("lama"))),
        (DECLIP, "cross", pair("latent", "lama")),
    ],
)
def test_what_was_not_published_is_undefined_and_no_other_number(entry, protocol, cell):
    assert math.isnan(published_iou(entry, protocol, "full", cell))


def test_every_publication_is_found_by_its_name_with_its_suite():
    for suite, found in published().items():
        for entry in found.entry:
            assert find_publication(entry.name) == (suite, entry)


def test_an_unknown_publication_is_told_with_those_that_are_known():
    with pytest.raises(UsageError, match=r"unknown publication 'postr'. Did you mean 'poster'\? Known: .*declip"):
        find_publication("postr")


def entries():
    return [entry for one in published().values() for entry in one.entry]


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_each_publication_is_of_fractions_and_says_where_and_how(entry: Publication):
    for row in rows_of(entry):
        ious = [*row.iou.values(), *([] if row.mean is None else [row.mean])]
        assert ious and all(0 < iou < 1 for iou in ious)
        assert row.model and row.trained_on and row.place
    protocols = [row.protocol for row in rows_of(entry) if row.protocol]
    assert len(protocols) == len({*protocols})
    assert entry.title and entry.citation
    assert entry.dialect in DIALECTS or entry.dialect == "not stated"


def test_a_publication_of_a_matrix_has_a_number_in_every_cell():
    for matrix in (entry.cross.iou for entry in entries() if entry.cross):
        assert all(set(row) == set(matrix) for row in matrix.values())


TABLE = [
    ("Deepfake Localization", "the same generator", "0.763", "0.900", "0.510", "0.900", "0.740", "not stated"),
    ("Deepfake Localization", "the other three", "0.268", "0.190", "0.240", "0.370", "0.270", "not stated"),
    ("DeCLIP", "the same generator", "0.738", "0.865", "0.511", "0.837", "0.740", "declip"),
    ("DeCLIP", "one of the others, mean", "0.347", "0.459", "0.180", "0.475", "0.274", "declip"),
    ("Thesis 2025", THREE_THOUSAND, "0.470", "0.616", "0.309", "0.614", "0.341", "declip"),
    ("Thesis 2025", "all four", "0.637", "0.758", "0.441", "0.727", "0.624", "declip"),
    ("Thesis 2025", "the other three", "0.415", "-", "-", "-", "-", "declip"),
    ("Thesis 2025", "the other three", "0.411", "-", "-", "-", "-", "declip"),
    ("Thesis 2025", "the other three", "0.205", "-", "-", "-", "-", "declip"),
    ("Thesis 2025", "the other three", "0.109", "-", "-", "-", "-", "declip"),
]


def text_of(field):
    return field.text if isinstance(field, Link) else field


def test_the_published_rows_of_dolos_have_eight_columns_and_the_mean_where_all_four_are_known():
    table = published_table(published()["dolos"])
    assert table.headers == ("publication", "trained on", "IoU", *FOUR, "dialect")
    assert [(text_of(line[0]).partition(":")[0], *line[1:]) for line in table.lines] == TABLE


def test_below_the_published_rows_stands_where_each_was_read_and_the_citation():
    table = published_table(published()["dolos"])
    for entry, note in zip(published()["dolos"].entry, table.notes, strict=True):
        assert entry.citation in note
        assert all(row.model in note and row.place in note for row in rows_of(entry))
    assert "trained on the other three: poster, table 2" in table.notes[0]


def test_a_publication_is_a_link_where_its_address_is_one():
    lines = published_table(published()["dolos"]).lines
    links = {line[0].target for line in lines if isinstance(line[0], Link)}
    assert links == {"https://arxiv.org/abs/2409.08849", "https://github.com/vladc15/DeepfakeLocalization"}
    made = Publication(
        name="n", title="t", citation="c", dialect="d", reference="javascript:alert(1)", row=(row(a=0.5),)
    )
    assert published_table(Published(suite="s", entry=(made,))).lines[0][0] == "t: m"


def test_the_published_numbers_of_a_folder_are_called_by_their_suite(tmp_path):
    (tmp_path / "s.toml").write_text('suite = "s"\nentry = []')
    assert list(published(tmp_path)) == ["s"]
    (tmp_path / "other.toml").write_text('suite = "s"\nentry = []')
    with pytest.raises(StoreError, match="other.toml is of suite 's'; name the file after its suite"):
        published(tmp_path)


def row(**iou):
    return PublishedRow(model="m", trained_on="w", place="p", iou=iou)


@pytest.mark.parametrize(
    ("rows", "means"),
    [
        ((row(a=0.2, b=0.4), row(a=0.5)), ["0.300", "1 of 2"]),
        ((row(a=0.2, b=0.4), PublishedRow(model="m", trained_on="w", place="p", mean=0.4345)), ["0.300", "0.435"]),
    ],
)
def test_the_mean_of_a_published_row_is_over_all_generators_or_the_one_that_was_stated(rows, means):
    made = Publication(name="n", title="t", citation="c", dialect="d", row=rows)
    assert [line[2] for line in published_table(Published(suite="s", entry=(made,))).lines] == means


def test_of_a_matrix_with_holes_nothing_is_said_that_needs_them():
    matrix = PublishedMatrix(model="m", place="p", iou={"a": {"a": 0.5, "b": 0.25}, "b": {"b": 0.75}})
    made = Publication(name="n", title="t", citation="c", dialect="d", cross=matrix)
    lines = [line[2:5] for line in published_table(Published(suite="s", entry=(made,))).lines]
    assert lines == [("0.625", "0.500", "0.750"), ("-", "-", "0.250")]
