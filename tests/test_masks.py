"""Drawn masks: one piece, as large as is asked for, a function of seed and id, and at any place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.data.masks import KINDS, Drawing, draw, parse_area, random_for

SIDES = (24, 32)


def drawn(kind, count, area=(0.05, 0.35), shape=SIDES):
    drawing = Drawing(kind=kind, area=area)
    return np.array([draw(drawing, shape, random_for(0, "mask", str(number))) for number in range(count)])


def ious(masks, guess):
    return ((masks & guess).sum((1, 2)) / (masks | guess).sum((1, 2))).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_one_piece_of_an_area_in_the_range(kind):
    masks = drawn(kind, 60)
    areas = masks.mean((1, 2))
    assert 0.05 <= areas.min() < 0.1 and 0.25 < areas.max() <= 0.35
    assert {ndimage.label(mask)[1] for mask in masks} == {1}


def test_a_box_is_a_rectangle_and_an_ellipse_is_none():
    def filled(mask):
        rows, columns = mask.any(1), mask.any(0)
        return mask[np.ix_(rows, columns)].mean()

    assert {filled(mask) for mask in drawn("box", 40)} == {1.0}
    inner = [m for m in drawn("ellipse", 80) if not (m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any())]
    assert np.mean([filled(mask) for mask in inner]) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_who_knows_where_masks_lie_gains_next_to_nothing_over_marking_everything(kind):
    masks = drawn(kind, 400)
    known, unknown = masks[:200].mean(0), masks[200:]
    best = max(ious(unknown, known > level) for level in np.quantile(known, (0.1, 0.3, 0.5, 0.7)))
    assert best < 1.08 * unknown.mean()
    middle, border = known[8:16, 10:22].mean(), np.r_[known[[0, -1]].ravel(), known[:, [0, -1]].ravel()].mean()
    assert 0.6 < middle / border < 1.6


def test_a_mask_is_the_same_for_an_id_and_another_for_another_seed():
    drawing = Drawing(kind="free-form", area=(0.05, 0.35))
    first, again, other = (draw(drawing, SIDES, random_for(seed, "mask", "a")) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_a_large_image_has_masks_of_the_range_too():
    assert 0.1 <= drawn("free-form", 1, (0.1, 0.11), (500, 700)).mean() <= 0.11


@pytest.mark.parametrize("text", ["0.1", "0.3:0.1", "0:0.5", "0.5:1", "a:b", "nan:0.5", "0.1:0.2:0.3"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match=r"expected LOW:HIGH in shares of the image, such as 0\.05:0\.35"):
        parse_area(text)
