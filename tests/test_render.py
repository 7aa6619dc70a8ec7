"""Tables print as text for a terminal, and as markdown that no text in them can break or script."""

from __future__ import annotations

import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeploc_bench.results.render import Link, Table, as_markdown, as_text, escape, link, number

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
SPECIAL = set("\\`*_{}[]()!|~<>\n\r")


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.50"), (0.0, "0.00"), (1.0, "1.00"), (0.999, "1.00"), (float("nan"), "-"), (None, "-")]
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
