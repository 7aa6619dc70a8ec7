"""Tables as values, and their printers: plain text, csv, LaTeX, and markdown that no text can break or script."""

import csv
import html
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeAlias

from tabulate import tabulate

TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
"""How LaTeX writes the signs that mean something else to it, or that its default fonts have another in the place of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A text that leads somewhere."""

    text: str
    target: str


class Marked(str):
    """A number with a star, which its table's notes explain; in a csv it is the number alone."""

    __slots__ = ()


Field: TypeAlias = str | Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What every table is before it is printed: a caption, headers, lines of fields, and notes below."""

    caption: str = ""
    headers: tuple[str, ...]
    lines: tuple[tuple[Field, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: float | None, sign: str = "") -> str:
    """Return a number of three decimals, rounded as on paper (half up, from six decimals on); `-` where undefined.

    `sign` is `+` where a plus is to be shown.
    """
    if value is None or math.isnan(value):
        return "-"
    rounded = Decimal(f"{value:.6f}").quantize(Decimal("0.001"), ROUND_HALF_UP)
    return f"{rounded or abs(rounded):{sign}}"


def interval_of(low: float | None, high: float | None, sign: str = "") -> str:
    """Return an interval in words, `0.400 to 0.512`; `-` where it is undefined."""
    bounds = (number(low, sign), number(high, sign))
    return "-" if "-" in bounds else " to ".join(bounds)


def starred(value: str) -> Marked:
    """Return a number with its star."""
    return Marked(f"{value}*")


def as_text(*tables: Table) -> str:
    """Return tables as a terminal shows them, each with its caption above and its notes below."""
    texts = []
    for table in tables:
        plain = [[_plain(field) for field in line] for line in table.lines]
        caption = [table.caption] if table.caption else []
        notes = ["", *table.notes] if table.notes else []
        texts.append("\n".join([*caption, _aligned(table.headers, plain), *notes]))
    return "\n\n".join(texts)


def as_csv(*tables: Table) -> str:
    """Return tables as csv, their captions, if they have any, in the first column; like ones stand under one header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    before: tuple[str, ...] = ()
    for table in tables:
        captions = [table.caption.partition("\n")[0]] if table.caption else []
        if table.headers != before:
            writer.writerows([*([[]] if before else []), [*(["table"] if captions else []), *table.headers]])
        before = table.headers
        writer.writerows([*captions, *map(_bare, line)] for line in table.lines)
    return text.getvalue().rstrip("\n")


def as_latex(*tables: Table) -> str:
    """Return tables in LaTeX with the rules of the package booktabs, each caption a comment above."""
    texts = []
    for table in tables:
        comments = [f"% {' '.join(line.split())}" for line in (*table.caption.split("\n"), *table.notes)]
        texts.append("\n".join([*comments, _latex(table)]))
    return "\n\n".join(texts)


def as_markdown_page(*tables: Table) -> str:
    """Return tables as markdown, each with its caption above and its notes below."""
    parts = []
    for table in tables:
        notes = "\n".join(f"- {escape(note)}" for note in table.notes)
        parts += [*map(escape, table.caption.split("\n")), as_markdown(table), *([notes] if notes else [])]
    return "\n\n".join(part for part in parts if part)


FORMATS: Mapping[str, Callable[..., str]] = {
    "text": as_text,
    "markdown": as_markdown_page,
    "csv": as_csv,
    "latex": as_latex,
}


def as_markdown(table: Table) -> str:
    """Return the body of a table as markdown, every text in it escaped."""
    lines = [[link(field) if isinstance(field, Link) else escape(field) for field in line] for line in table.lines]
    return _aligned([escape(header) for header in table.headers], lines)


def escape(text: str) -> str:
    """Return text that cannot break or script a markdown page: no HTML, pipe, backtick, bracket or line break.

    Parentheses may stay: they make a link only after a bracket. Nor does a bare address become a link.
    """
    return re.sub(r"[&<>\"'\\`*_{}\[\]#!|~]|:(?=//)|(?<=[Ww]{3})\.", _reference, " ".join(text.split()))


def link(one: Link) -> str:
    """Return a markdown link, its text escaped and its target quoted."""
    safe = re.sub(r"[^A-Za-z0-9._~:/?#@&=+%-]", lambda match: f"%{ord(match[0]):02X}", one.target)
    return f"[{escape(one.text)}]({safe})"


def linked(text: str, target: str | None) -> Field:
    """Return a link, or the text alone where the address is not one that a browser only opens."""
    return Link(text=text, target=target) if target and target.startswith("https://") else text


def _reference(match: re.Match[str]) -> str:
    return html.escape(match[0]) if match[0] in '&<>"' else f"&#{ord(match[0])};"


def _plain(field: Field) -> str:
    return field.text if isinstance(field, Link) else field


def _bare(field: Field) -> str:
    return field[:-1] if isinstance(field, Marked) else _plain(field)


def _latex(table: Table) -> str:
    lines = [[_tex(_plain(field)) for field in line] for line in (table.headers, *table.lines)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # a row that begins with [ or * would be taken for an argument of the command before it
    rows = [re.sub(r"\A(?=[\[*])", "{}", " & ".join(map(str.ljust, line, widths))) + r" \\" for line in lines]
    begin, end = rf"\begin{{tabular}}{{{'l' * len(widths)}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", end])


def _tex(text: str) -> str:
    return "".join(TEX.get(sign, sign) for sign in " ".join(text.split()))


def _aligned(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)
