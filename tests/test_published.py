"""Published numbers are found by name, and each cell has the one that was published of it or none."""

from __future__ import annotations

import math

import pytest

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.published import Publication, find_publication, published, published_iou
from deeploc_bench.scoring.dialects import DIALECTS

POSTER, DECLIP = find_publication("poster")[1], find_publication("declip")[1]
FOUR = ("lama", "ldm", "pluralistic", "repaint-p2")


def pair(test, *train):
    return Pair(train_generators=train, test_generator=test)


def others(test):
    return tuple(name for name in FOUR if name != test)


@pytest.mark.parametrize(
    ("test", "same", "loo"),
    [("lama", 0.90, 0.19), ("ldm", 0.51, 0.24), ("pluralistic", 0.90, 0.37), ("repaint-p2", 0.74, 0.27)],
)
def test_the_posters_numbers_are_those_that_it_prints(test, same, loo):
    assert published_iou(POSTER, "same", pair(test, test)) == same
    assert published_iou(POSTER, "loo", pair(test, *others(test))) == loo


def test_a_matrix_is_read_by_what_was_trained_on_and_then_by_what_was_tested_on():
    assert published_iou(DECLIP, "cross", pair("lama", "pluralistic")) == 0.519
    assert published_iou(DECLIP, "cross", pair("pluralistic", "lama")) == 0.320


@pytest.mark.parametrize(
    ("entry", "protocol", "cell"),
    [
        (POSTER, "cross", pair("lama", "lama")),
        (POSTER, "score", pair("lama", "lama")),
        (POSTER, "same", pair("telea", "telea")),
        (DECLIP, "loo", pair("lama", *others("lama"))),
        (DECLIP, "cross", pair("lama", *others("lama"))),
        (DECLIP, "cross", pair("telea", "lama")),
    ],
)
def test_what_was_not_published_is_undefined_and_no_other_number(entry, protocol, cell):
    assert math.isnan(published_iou(entry, protocol, cell))


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
    crossed = [iou for row in entry.cross.values() for iou in row.values()]
    means = [mean for mean in (entry.mean_same, entry.mean_other) if mean is not None]
    ious = [*entry.same.values(), *entry.loo.values(), *crossed, *means]
    assert ious and all(0 < iou < 1 for iou in ious)
    assert entry.title and entry.citation
    assert entry.dialect in DIALECTS or entry.dialect.startswith("not stated; most likely ")


def test_a_publication_of_a_matrix_has_a_number_in_every_cell():
    for entry in entries():
        assert all(set(row) == set(entry.cross) for row in entry.cross.values())
