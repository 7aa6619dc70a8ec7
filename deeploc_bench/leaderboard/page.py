"""Renders the leaderboard's markdown page and its figures out of submissions: the same bytes on any machine."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deeploc_bench.leaderboard.claims import Entry
from deeploc_bench.leaderboard.submission import Submission
from deeploc_bench.results.published import Entry as Publication
from deeploc_bench.results.published import Published
from deeploc_bench.results.render import markdown, number
from deeploc_bench.scoring.statistics import is_separable

SPREAD_REACH = 2.0
"""A reproduction agrees within this many spreads over seeds (of either), and never misses by more than 0.02."""
MOST_LINES = 40
"""The most submissions that a figure shows."""
INTRO = """# Leaderboard

Does a localizer still find the edited pixels when it has never seen the generator? Higher is better; 1 is perfect.
Every number but those marked *published* is recomputed from the per-image counts in
[submissions/](submissions/); `deeploc-bench verify` does it on a laptop, without data and without running any submitted
code. It proves consistency, not honesty: a row is `self-reported` until a second party's submission names it and agrees
(`reproduced`). [How to submit](../CONTRIBUTING.md#submit-to-the-leaderboard).
"""
HELD_OUT = (
    "**IoU**: mean over test images of tp / (tp + fp + fn) at heatmap > 0.5, trained on all other generators; then the "
    'mean over generators. **interval**: 95 %, over source photographs. **sd**: over seeds; "?" = one seed, seed '
    "variation unknown. **rank**: rows that share a rank cannot be told apart from its best row (paired over sources "
    "and seeds; a row of one seed never splits a group; no correction for many comparisons). **gap**: same-generator "
    "minus held-out IoU. **matched**: held-out IoU when trained on as many images as one generator has. "
    "**false alarm**: share of an untouched image that is predicted as manipulated."
)
SAME = "**IoU** as above, trained and tested on the same generator."
CROSS = "**IoU** as above, trained on the row's generator and tested on the column's."
PUBLISHED = "Published, not recomputed: numbers as their authors print them, in the dialect of IoU that is named."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A submission with its rank: the first place of its tie group; None for a baseline or a matched budget."""

    rank: int | None
    submission: Submission


def render(entries: Iterable[Entry], published: Mapping[str, Published], suites: Iterable[str]) -> str:
    """Return the whole page."""
    ranked = _ranked(entries)
    names = sorted({*ranked, *suites, *published})
    parts = [_suite(name, ranked.get(name, []), published.get(name)) for name in names]
    return "\n".join([INTRO, *parts]).rstrip() + "\n"


def figures(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the SVG figures of each suite's page, by file name."""
    found = {}
    for suite, ranked in _ranked(entries).items():
        ordered = [one.submission for one in ranked]
        gaps = [one for one in ordered if one.claims.same]
        crossed = [one for one in ordered if one.claims.cross]
        if gaps:
            found[f"{suite}-gap.svg"] = _gap_svg(gaps[:MOST_LINES])
        if crossed:
            found[f"{suite}-cross.svg"] = _cross_svg(crossed[0])
    return found


def rank(entries: Iterable[Entry]) -> list[Ranked]:
    """Return the submissions of one suite by held-out IoU, each with the first place of its tie group."""
    ordered = sorted(entries, key=lambda one: (-one.submission.claims.loo.iou, one.submission.name))
    ranked: list[Ranked] = []
    best, place, position = None, 1, 0
    for entry in ordered:
        if not entry.submission.loss or entry.submission.budget == "matched":
            ranked.append(Ranked(rank=None, submission=entry.submission))
            continue
        position += 1
        if best is None or is_separable(best.seed_ious, entry.seed_ious):
            best, place = entry, position
        ranked.append(Ranked(rank=place, submission=entry.submission))
    return ranked


def _ranked(entries: Iterable[Entry]) -> dict[str, list[Ranked]]:
    by_suite: dict[str, list[Entry]] = {}
    for entry in entries:
        by_suite.setdefault(entry.submission.suite, []).append(entry)
    return {suite: rank(mine) for suite, mine in sorted(by_suite.items())}


def row_of(submission: Submission) -> str:
    """Return the table of a submission alone, as it will stand in the page."""
    return _held_out([Ranked(rank=1, submission=submission)])


def trust(submission: Submission, others: Iterable[Submission]) -> str:
    """Return `reproduced` where another party's submission names this one and agrees within the spread over seeds."""
    for other in others:
        if other.reproduces == submission.name and other.contact != submission.contact:
            spreads = [
                spread for spread in (submission.claims.loo.spread, other.claims.loo.spread) if spread is not None
            ]
            reach = max(SPREAD_REACH * max(spreads, default=0.0), 0.02)
            if abs(other.claims.loo.iou - submission.claims.loo.iou) <= reach:
                return "reproduced"
    return "self-reported"


def _suite(name: str, ranked: list[Ranked], published: Published | None) -> str:
    parts = [f"## {name}", ""]
    if ranked:
        parts += ["### Held-out generator (loo)", "", _held_out(ranked), "", HELD_OUT, "", *_gap_figure(name, ranked)]
        parts += _same(ranked) + _cross(name, ranked) + ["### Commands", "", _commands(ranked), ""]
    else:
        parts += [f"No submission yet. [Be the first](../CONTRIBUTING.md#submit-to-the-leaderboard) on `{name}`.", ""]
    if published:
        parts += ["### Published, not recomputed", "", _published(published), "", PUBLISHED, ""]
    return "\n".join(parts)


def _held_out(ranked: Sequence[Ranked]) -> str:
    everybody = [one.submission for one in ranked]
    rows = [_columns(one, everybody) for one in ranked]
    return markdown([list(row.values()) for row in rows], list(rows[0]))


def _columns(one: Ranked, everybody: Sequence[Submission]) -> dict[str, str]:
    """Return a row of the held-out table by header."""
    entry, mine = one.submission, one.submission.claims
    unknown_spread = "?" if entry.loss else "-"
    return {
        "rank": "-" if one.rank is None else str(one.rank),
        "submission": _link(entry.name, f"submissions/{entry.suite}/{entry.name}.json"),
        "model + loss": _what(entry),
        "IoU": number(mine.loo.iou),
        "interval": f"{number(mine.loo.low)} to {number(mine.loo.high)}",
        "sd": number(mine.loo.spread) if len(entry.seeds) > 1 else unknown_spread,
        **{name: number(mine.loo.by_generator[name]) for name in entry.generators},
        "worst": number(mine.worst),
        "gap": number(mine.gap),
        "matched": number(_matched(entry, everybody)),
        "false alarm": number(mine.false_alarm_area),
        "division": entry.division if entry.loss else "baseline",
        "budget": entry.budget,
        "trust": trust(entry, everybody),
        "seeds": str(len(entry.seeds)),
        "parameters": _parameters(entry),
        "images/s": f"{entry.speed.images_per_second:.0f}" if entry.speed else "-",
        "date": entry.date,
        "link": _link("code", entry.code) if entry.code else "",
    }


def _matched(submission: Submission, others: Iterable[Submission]) -> float | None:
    """Return the held-out IoU of the same model, loss and recipe on the matched budget, where it was submitted."""
    for other in others:
        is_alike = (other.model, other.loss, other.recipe) == (submission.model, submission.loss, submission.recipe)
        if is_alike and other.budget == "matched":
            return other.claims.loo.iou
    return None


def _same(ranked: Sequence[Ranked]) -> list[str]:
    rows = [(one.submission, one.submission.claims.same) for one in ranked]
    generators = ranked[0].submission.generators
    lines = [
        [
            escape(entry.name),
            _what(entry),
            number(row.iou),
            f"{number(row.low)} to {number(row.high)}",
            *(number(row.by_generator.get(name)) for name in generators),
        ]
        for entry, row in sorted(rows, key=lambda pair: -pair[1].iou if pair[1] else 0)
        if row is not None
    ]
    if not lines:
        return []
    table = markdown(lines, ["submission", "model + loss", "IoU", "interval", *generators])
    return ["### Same generator", "", table, "", SAME, ""]


def _cross(suite: str, ranked: Sequence[Ranked]) -> list[str]:
    crossed = [one.submission for one in ranked if one.submission.claims.cross and one.submission.loss]
    if not crossed:
        return []
    best = crossed[0]
    lines = [
        [train, *(number(row.get(test)) for test in best.generators)]
        for train, row in (best.claims.cross or {}).items()
    ]
    table = markdown(lines, ["train on \\ test on", *best.generators])
    figure = f"![train x test, {escape(best.name)}](figures/{suite}-cross.svg)"
    return [
        "### Cross",
        "",
        f"{escape(best.name)}, the first row above that has it:",
        "",
        table,
        "",
        CROSS,
        "",
        figure,
        "",
    ]


def _gap_figure(suite: str, ranked: Sequence[Ranked]) -> list[str]:
    has_gap = any(one.submission.claims.same for one in ranked)
    return [f"![same-generator and held-out IoU](figures/{suite}-gap.svg)", ""] if has_gap else []


def _commands(ranked: Sequence[Ranked]) -> str:
    return "\n".join(
        f"- {escape(one.submission.name)}: `{command(one.submission)}`" for one in ranked if one.submission.loss
    )


def command(submission: Submission) -> str:
    """Return the command that reproduces a submission's trainings."""
    recipe = dict(submission.recipe)
    words = ["deeploc-bench run", f"--suite {submission.suite}"]
    protocols = {"loo": True, "same": submission.claims.same, "cross": submission.claims.cross}
    words += [f"--protocol {name}" for name, has in protocols.items() if has]
    words += [f"--budget {submission.budget}"] if submission.budget != "full" else []
    words += [f"--model {submission.model.name}", f"--loss {submission.loss_expression}", f"--recipe {recipe['name']}"]
    words += [f"--set {key}={value}" for key, value in _changes(recipe).items()]
    words += [f"--seed {seed}" for seed in submission.seeds]
    return " ".join(word for word in words if re.fullmatch(r"[A-Za-z0-9 .*+=_-]+", word))


def _changes(recipe: Mapping[str, object]) -> dict[str, object]:
    from deeploc_bench.plan.recipe import changes, from_values

    return changes(from_values(dict(recipe), "of the submission"))


def _published(published: Published) -> str:
    names = sorted({name for entry in published.entry for name in (*entry.same, *entry.loo, *entry.cross)})
    lines = []
    for entry in published.entry:
        title = _link(entry.title, entry.reference) if entry.reference else escape(entry.title)
        for protocol, row in _published_rows(entry):
            mean = sum(row.values()) / len(row) if row else None
            lines.append([title, protocol, number(mean), *(number(row.get(name)) for name in names), *_source(entry)])
        for protocol, value in (("same", entry.mean_same), ("cross, mean of the others", entry.mean_other)):
            if value is not None:
                lines.append([title, protocol, number(value), *("-" for _ in names), *_source(entry)])
    return markdown(lines, ["publication", "protocol", "IoU", *names, "dialect", "citation"])


def _source(entry: Publication) -> list[str]:
    return [escape(entry.dialect), escape(entry.citation)]


def _published_rows(entry: Publication) -> list[tuple[str, Mapping[str, float]]]:
    rows: list[tuple[str, Mapping[str, float]]] = []
    rows += [("same", entry.same)] if entry.same else []
    rows += [("loo", entry.loo)] if entry.loo else []
    return rows + [(f"cross, trained on {train}", row) for train, row in entry.cross.items()]


def escape(text: str) -> str:
    """Return text that cannot break or script the page: no HTML, pipe, backtick, bracket or line break."""
    plain = " ".join(html.escape(text, quote=True).split())
    return re.sub(r"([\\`*_{}\[\]()#!|~<>])", lambda match: f"&#{ord(match[1])};", plain)


def _link(text: str, target: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9._~:/?#@&=+%-]", lambda match: f"%{ord(match[0]):02X}", target)
    return f"[{escape(text)}]({safe})"


def _what(submission: Submission) -> str:
    name = escape(submission.model.name)
    return f"{name} + {escape(submission.loss_expression)}" if submission.loss else f"{name} (trivial baseline)"


def _parameters(submission: Submission) -> str:
    count = max(training.environment.parameters for training in submission.trainings)
    return f"{count / 1e6:.2f} M" if count else "-"


def _gap_svg(submissions: Sequence[Submission]) -> str:
    """Draw a line from same-generator to held-out IoU for each submission."""
    top, step, left, width = 46, 26, 250, 380
    height = top + step * len(submissions) + 34
    rows = []
    for place, entry in enumerate(submissions):
        y = top + step * place
        held, same = entry.claims.loo.iou, entry.claims.same.iou if entry.claims.same else entry.claims.loo.iou
        x_held, x_same = (left + width * value for value in (held, same))
        rows.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{html.escape(entry.name)}</text>'
            f'<line x1="{x_held:.1f}" y1="{y}" x2="{x_same:.1f}" y2="{y}" stroke="#999" stroke-width="2"/>'
            f'<circle cx="{x_same:.1f}" cy="{y}" r="5" fill="#fff" stroke="#1f6feb" stroke-width="2"/>'
            f'<circle cx="{x_held:.1f}" cy="{y}" r="5" fill="#1f6feb"/>'
        )
    ticks = [
        f'<line x1="{left + width * k / 5:.1f}" y1="{top - 14}" x2="{left + width * k / 5:.1f}" y2="{height - 26}" '
        f'stroke="#ddd"/><text x="{left + width * k / 5:.1f}" y="{height - 10}" text-anchor="middle">{k / 5:.1f}</text>'
        for k in range(6)
    ]
    legend = (
        f'<circle cx="{left}" cy="16" r="5" fill="#1f6feb"/><text x="{left + 10}" y="20">held-out IoU</text>'
        f'<circle cx="{left + 120}" cy="16" r="5" fill="#fff" stroke="#1f6feb" stroke-width="2"/>'
        f'<text x="{left + 130}" y="20">same-generator IoU</text>'
    )
    return _svg(left + width + 30, height, [*ticks, *rows, legend])


def _cross_svg(submission: Submission) -> str:
    """Draw the train x test matrix of a submission as a heat map."""
    names, cell, left, top = submission.generators, 72, 130, 66
    cross = submission.claims.cross or {}
    parts = [
        f'<text x="8" y="16">{html.escape(submission.name)}</text>',
        '<text x="8" y="32">IoU, trained on (rows), tested on (columns)</text>',
    ]
    for row, train in enumerate(names):
        y = top + cell * row
        parts.append(f'<text x="{left - 8}" y="{y + cell / 2 + 4}" text-anchor="end">{html.escape(train)}</text>')
        for column, test in enumerate(names):
            value = cross.get(train, {}).get(test, math.nan)
            share = 0.0 if math.isnan(value) else value
            x, ink = left + cell * column, "#fff" if share > 0.55 else "#111"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="#1f6feb" fill-opacity="{share:.3f}" '
                f'stroke="#ccc"/><text x="{x + cell / 2}" y="{y + cell / 2 + 4}" text-anchor="middle" fill="{ink}">'
                f"{number(value)}</text>"
            )
    for column, test in enumerate(names):
        x = left + cell * column + cell // 2
        parts.append(f'<text x="{x}" y="{top - 8}" text-anchor="middle">{html.escape(test)}</text>')
    return _svg(left + cell * len(names) + 20, top + cell * len(names) + 16, parts)


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="#111">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )
