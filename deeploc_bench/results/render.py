"""Tables as values, and their printers: plain text, and markdown that no text in a table can break or script."""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tabulate import tabulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A text that leads somewhere."""

    text: str
    target: str


Field: TypeAlias = str | Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What every table is before it is printed: a caption, headers, lines of fields, and notes below."""

    caption: str = ""
    headers: tuple[str, ...]
    lines: tuple[tuple[Field, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: float | None) -> str:
    """Return a fraction of two digits; `-` where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def as_text(*tables: Table) -> str:
    """Return tables as a terminal shows them, each with its caption above and its notes below."""
    texts = []
    for table in tables:
        plain = [[field.text if isinstance(field, Link) else field for field in line] for line in table.lines]
        caption = [table.caption] if table.caption else []
        notes = ["", *table.notes] if table.notes else []
        texts.append("\n".join([*caption, _aligned(table.headers, plain), *notes]))
    return "\n\n".join(texts)


def as_markdown(table: Table) -> str:
    """Return the body of a table as markdown, every text in it escaped."""
    lines = [[link(field) if isinstance(field, Link) else escape(field) for field in line] for line in table.lines]
    return _aligned([escape(header) for header in table.headers], lines)


def escape(text: str) -> str:
    """Return text that cannot break or script a markdown page: no HTML, pipe, backtick, bracket or line break."""
    return re.sub(r"[&<>\"'\\`*_{}\[\]()#!|~]", _reference, " ".join(text.split()))


def link(one: Link) -> str:
    """Return a markdown link, its text escaped and its target quoted."""
    safe = re.sub(r"[^A-Za-z0-9._~:/?#@&=+%-]", lambda match: f"%{ord(match[0]):02X}", one.target)
    return f"[{escape(one.text)}]({safe})"


def _reference(match: re.Match[str]) -> str:
    return html.escape(match[0]) if match[0] in '&<>"' else f"&#{ord(match[0])};"


def _aligned(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)
