"""The drawing of the page, as SVG text made by hand: a drawing library's bytes change with its version."""

import html
from collections.abc import Sequence

from deeploc_bench.leaderboard.claims import Entry

BLUE = "#1f6feb"


def draw_gaps(entries: Sequence[Entry]) -> str:
    """Return a drawing with a line from same-generator to held-out IoU for each entry that has both."""
    top, step, left, width = 46, 26, 250, 380
    height = top + step * len(entries) + 34
    rows = [_gap(entry, left, width, top + step * place) for place, entry in enumerate(entries)]
    ticks = [
        f'<line x1="{left + width * k / 5:.1f}" y1="{top - 14}" x2="{left + width * k / 5:.1f}" y2="{height - 26}" '
        f'stroke="#ddd"/><text x="{left + width * k / 5:.1f}" y="{height - 10}" text-anchor="middle">{k / 5:.1f}</text>'
        for k in range(6)
    ]
    legend = (
        f'<circle cx="{left}" cy="16" r="5" fill="{BLUE}"/><text x="{left + 10}" y="20">held-out IoU</text>'
        f'<circle cx="{left + 120}" cy="16" r="5" fill="#fff" stroke="{BLUE}" stroke-width="2"/>'
        f'<text x="{left + 130}" y="20">same-generator IoU</text>'
    )
    return _svg(left + width + 30, height, [*ticks, *rows, legend])


def _gap(entry: Entry, left: int, width: int, y: int) -> str:
    held_out, same = entry.claims.loo, entry.claims.same or entry.claims.loo
    x_held, x_same = (left + width * row.iou for row in (held_out, same))
    return (
        f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{html.escape(entry.name)}</text>'
        f'<line x1="{x_held:.1f}" y1="{y}" x2="{x_same:.1f}" y2="{y}" stroke="#999" stroke-width="2"/>'
        f'<circle cx="{x_same:.1f}" cy="{y}" r="5" fill="#fff" stroke="{BLUE}" stroke-width="2"/>'
        f'<circle cx="{x_held:.1f}" cy="{y}" r="5" fill="{BLUE}"/>'
    )


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="#111">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )
