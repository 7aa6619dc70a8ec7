"""Tables print as text for a terminal, and as markdown that no text in them can break or script."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import subprocess

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


def latex_tables(text):
    """Read LaTeX strictly: tables with the rules of booktabs and comments, no macro but MACROS; return the cells."""
    bodies = [line for line in text.split("\n") if line and not line.startswith("%")]
    found = re.findall(r"\\begin\{tabular\}\{(l+)\}\n(.*?)\n\\end\{tabular\}", "\n".join(bodies), re.DOTALL)
    assert sum(len(body.split("\n")) + 2 for _, body in found) == len(bodies)  # nothing is beside the tables
    return [latex_cells(body, len(columns)) for columns, body in found]


def latex_cells(body, columns):
    lines = body.split("\n")
    assert [line for line in lines if line.endswith("rule")] == ["\\toprule", "\\midrule", "\\bottomrule"]
    assert (lines[0], lines[2], lines[-1]) == ("\\toprule", "\\midrule", "\\bottomrule")
    return [latex_row(line, columns) for line in lines if not line.endswith("rule")]


def latex_row(line, columns):
    cells, end = [""], line.removesuffix("\\\\")
    assert end != line and end[0] not in "[*"  # which the command of the line before would take
    end = end.removeprefix("{}")
    while end:
        token = next((macro for macro in MACROS if end.startswith(macro)), end[: 2 if end[0] == "\\" else 1])
        if token == "&":
            cells.append("")
        else:
            assert token in MACROS or len(token) == 2 and token[1] in "&%$#_{}" or token not in "\\&%$#_{}~^<>|\r", line
            cells[-1] += MACROS.get(token, token[-1])
        end = end[len(token) :]
    assert len(cells) == columns, line
    return [cell.strip() for cell in cells]


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
TEX = [
    "a_b",
    "50%",
    "a & b",
    "$x$",
    "#1",
    "{a}",
    "a^b",
    "a~b",
    "\\input{x}",
    "a\\\\b",
    "< 0.001",
    "x > y",
    "% note",
    "é·ü",
]
MACROS = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
}
"""What a special character is in LaTeX, but for those that a backslash alone escapes."""
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


@pytest.mark.parametrize("form", ["latex", "csv"])
@pytest.mark.parametrize("text", [*HOSTILE, *TEX, "=1+1", '"quoted", and "more"', "a;b,c"])
def test_every_cell_of_latex_and_csv_can_be_read_back(form, text):
    lines = ((text, starred("0.500"), ""), (Link(text=text, target="z"), "-0.114, -0.143 to -0.085", text))
    table = Table(
        caption=f"{text}\nmore", headers=("train on \\ test on", text, "95 % interval"), lines=lines, notes=(text,)
    )
    if form == "csv":
        # newline="" as the csv module asks for, or it would take what is within a cell for its own
        header, *rows = csv.reader(io.StringIO(as_csv(table), newline=""))
        caption = (text + "\nmore").partition("\n")[0]
        assert header == ["table", *table.headers]
        assert rows == [[caption, text, "0.500", ""], [caption, text, *lines[1][1:]]]
    else:
        (read,) = latex_tables(as_latex(table))
        plain = [
            [" ".join(str(cell).split()) for cell in line]
            for line in (table.headers, *((text, *line[1:]) for line in lines))
        ]
        assert read == plain


def test_latex_of_several_tables_is_compiled_where_latex_is(tmp_path):
    compiler = shutil.which("tectonic") or shutil.which("pdflatex")
    if not compiler:
        pytest.skip("neither tectonic nor pdflatex is installed")
    hostile = Table(caption="a & b", headers=tuple(HOSTILE), lines=(tuple(TEX[: len(HOSTILE)] + TEX)[: len(HOSTILE)],))
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(f"{head}{as_latex(TABLE, hostile)}\n\\end{{document}}\n")
    flags = [] if "tectonic" in compiler else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([compiler, *flags, "page.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


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
