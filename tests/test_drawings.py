"""The drawing: well-formed, every number in it, no text that breaks it."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from boards import entry_of, submission
from msgspec.structs import replace

from deeploc_bench.leaderboard.drawings import draw_gaps

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing):
    return [part.text for part in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


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
    drawing = draw_gaps([hostile])
    assert name in texts(drawing)
    assert not list(ElementTree.fromstring(drawing).iter("script"))
