"""Numbers and tables as every page and every printed table shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tabulate import tabulate


def number(value: float | None) -> str:
    """Return a fraction of two digits; `-` where it is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def markdown(lines: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Return a markdown table."""
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)
