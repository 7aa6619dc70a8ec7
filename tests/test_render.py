"""Tables print as text for a terminal, and as markdown that no text in them can break or script."""

from __future__ import annotations

import csv
import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeploc_bench.results.render import (
    FORMATS,
    Link,
    Table,
    as_csv,
    as_latex,
    as_markdown,
    as_text,
    escape,
    interval_of,
    link,
    number,
    starred,
)

TABLE = Table(
    caption="loo · made",
    headers=("test on", "IoU"),
    lines=(("lama", "0.50"), (Link(text="ldm", target="https://example.org"), "-"), ("1.50", "")),
    notes=("IoU: of pixels.", "sd: over seeds."),
)
HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    "`code`",
    "[text](javascript:alert(1))",
    "![picture](x)",
    "*bold* _too_ ~~gone~~",
    "# heading",
    "line\nbreak\r\nand\ttab",
    "a\\|b",
    '" onmouseover="x',
    "&lt;b&gt;",
    "\N{LINE SEPARATOR}next",
]
SPECIAL = set("\\`*_{}[]!|~<>\n\r")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (-0.0001, "0.000"),
        (1.0, "1.000"),
        (0.9996, "1.000"),
        (0.0625, "0.063"),  # half up, as on paper: a float's own rounding gives 0.062
        (0.4345, "0.435"),
        (-0.0625, "-0.063"),
        (float("nan"), "-"),
        (None, "-"),
    ],
)
def test_a_fraction_is_printed_and_a_dash_where_it_is_undefined(value, text):
    assert number(value) == text


def test_a_table_as_text_has_its_caption_above_and_its_notes_below():
    assert as_text(TABLE).splitlines() == [
        "loo · made",
        "| test on   | IoU   |",
        "|-----------|-------|",
        "| lama      | 0.50  |",
        "| ldm       | -     |",
        "| 1.50      |       |",
        "",
        "IoU: of pixels.",
        "sd: over seeds.",
    ]


def test_a_table_without_caption_and_notes_is_its_body():
    assert as_text(Table(headers=("a",), lines=(("b",),))) == "| a   |\n|-----|\n| b   |"


def test_a_table_of_no_lines_has_its_headers():
    table = Table(headers=("a", "b"), lines=())
    assert as_text(table).splitlines()[0] == as_markdown(table).splitlines()[0] == "| a   | b   |"


def test_a_number_in_a_table_is_printed_as_it_was_written():
    table = Table(headers=("version",), lines=(("1.50",), ("007",), ("1e5",)))
    assert [line.strip("| ") for line in as_text(table).splitlines()[2:]] == ["1.50", "007", "1e5"]


def test_markdown_has_links_where_text_has_names():
    assert as_markdown(TABLE).splitlines()[3].split("|")[1].strip() == "[ldm](https://example.org)"


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_text_says_is_kept_and_nothing_in_it_is_markup(text):
    escaped = escape(text)
    assert not SPECIAL & set(escaped)
    assert html.unescape(escaped) == " ".join(text.split())


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_whatever_a_text_is_a_page_shows_it(text):
    assert html.unescape(escape(text)) == " ".join(text.split()) and not SPECIAL & set(escape(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_changes_the_shape_of_a_markdown_table(text):
    table = Table(headers=(text, "b"), lines=((text, "c"), (Link(text=text, target=text), "d")))
    lines = as_markdown(table).splitlines()
    assert [line.count("|") for line in lines] == [3, 3, 3, 3]
    assert not any("<" in line or "`" in line for line in lines)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("https://example.org/a?b=c&d=%20#e", "https://example.org/a?b=c&d=%20#e"),
        ("submissions/photos/x.json", "submissions/photos/x.json"),
        ("a b", "a%20b"),
        ("x)(javascript:y", "x%29%28javascript:y"),
        ('"><script>', "%22%3E%3Cscript%3E"),
    ],
)
def test_the_target_of_a_link_cannot_end_it(target, found):
    assert link(Link(text="x", target=target)) == f"[x]({found})"


def test_a_difference_has_its_sign_and_an_interval_its_words():
    assert [number(value, "+") for value in (0.1, -0.1, 0.0, float("nan"))] == ["+0.100", "-0.100", "+0.000", "-"]
    assert interval_of(-0.05, 0.1, "+") == "-0.050 to +0.100" and interval_of(None, 0.1) == "-"


def test_csv_has_the_caption_in_its_first_column_and_numbers_without_a_star():
    first = Table(
        caption="a, b\nmore", headers=("on", "IoU"), lines=(("x", starred("0.500")), (Link(text="y", target="z"), "-"))
    )
    other = Table(caption="c", headers=("on", "IoU"), lines=(("x", "0.700"),))
    third = Table(caption="d", headers=("on",), lines=(("x",),))
    assert list(csv.reader(as_csv(first, other, third).splitlines())) == [
        ["table", "on", "IoU"],
        ["a, b", "x", "0.500"],
        ["a, b", "y", "-"],
        ["c", "x", "0.700"],
        [],
        ["table", "on"],
        ["d", "x"],
    ]


def test_latex_is_a_booktabs_table_whose_texts_are_escaped():
    text = as_latex(Table(caption="a & b", headers=("95 % interval", "m_1"), lines=(("a&b", "$x$"),), notes=("n",)))
    assert text.splitlines()[:2] == ["% a & b", "% n"]
    assert (
        "\\toprule" in text and "95 \\% interval" in text and "m\\_1" in text and "a\\&b" in text and "\\$x\\$" in text
    )


def test_a_markdown_page_has_captions_and_notes_that_no_text_breaks():
    page = FORMATS["markdown"](Table(caption="a|b", headers=("x",), lines=((starred("0.1"),),), notes=("<i>", "two")))
    assert page.splitlines() == [
        "a&#124;b",
        "",
        "| x        |",
        "|----------|",
        "| 0.1&#42; |",
        "",
        "- &lt;i&gt;",
        "- two",
    ]
