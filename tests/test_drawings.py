"""The drawings: well-formed, every number in them, no text that breaks them."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from boards import entry_of, submission
from msgspec.structs import replace

from deeploc_bench.leaderboard.drawings import draw_cross, draw_gaps

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing):
    return [part.text for part in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_a_matrix_is_well_formed_and_shows_every_number():
    one = entry_of(submission("a"))
    shown = texts(draw_cross(one))
    numbers = [f"{value:.2f}" for row in one.claims.cross.values() for value in row.values()]
    assert shown[0] == "a"
    assert sorted(text for text in shown if text[0] == "0" or text[0] == "1") == sorted(numbers)
    assert shown.count("lama") == 2


def test_gaps_are_well_formed_and_lie_where_their_numbers_are():
    one = entry_of(submission("a"))
    drawing = draw_gaps([one, entry_of(submission("b", seed=1))])
    assert {"a", "b", "held-out IoU"} <= set(texts(drawing))
    circles = [circle.get("cx") for circle in ElementTree.fromstring(drawing).iter(f"{SVG}circle")]
    assert circles[:2] == [f"{250 + 380 * row.iou:.1f}" for row in (one.claims.same, one.claims.loo)]


def test_no_text_breaks_a_drawing():
    one = entry_of(submission("a"))
    name = '"><script>alert(1)</script>&<'
    hostile = dataclasses.replace(one, about=replace(one.about, name=name, generators=("<b>", "&amp;", "]]>")))
    for drawing in (draw_cross(hostile), draw_gaps([hostile])):
        assert name in texts(drawing)
        assert not list(ElementTree.fromstring(drawing).iter("script"))


def test_the_kept_drawings_do_not_depend_on_the_order_of_dicts():
    one = entry_of(submission("a"))
    turned = {train: dict(reversed(row.items())) for train, row in reversed(one.claims.cross.items())}
    other = dataclasses.replace(one, claims=replace(one.claims, cross=turned))
    assert draw_cross(one) == draw_cross(other)
