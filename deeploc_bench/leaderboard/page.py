"""The leaderboard's markdown page and its drawings, made of submissions: the same bytes on any machine."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.data.suites import Progress, silent
from deeploc_bench.leaderboard.claims import Entry
from deeploc_bench.leaderboard.drawings import draw_cross, draw_gaps
from deeploc_bench.leaderboard.ranking import Ranked, rank, trust
from deeploc_bench.leaderboard.verify import read_manifests, review
from deeploc_bench.plan.recipe import changes
from deeploc_bench.results.cells import grouped
from deeploc_bench.results.published import Publication, Published, published
from deeploc_bench.results.render import Field, Link, Table, as_markdown, escape, number

MOST_LINES = 40
"""The most entries that a drawing shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSection:
    """What the page shows of one suite; what there is nothing of is None."""

    name: str
    held_out: Table | None = None
    same: Table | None = None
    cross: Table | None = None
    commands: Sequence[tuple[str, str]] = ()
    published: Table | None = None


def board_files(board: Path, progress: Progress = silent) -> dict[str, str]:
    """Return the generated files of a leaderboard folder: README.md and figures, their content by relative path.

    Raises SubmissionError where a submission is refused, and as `review` does.
    """
    verdicts = review(board, progress=progress)
    for verdict in verdicts:
        for finding in verdict.failures[:1]:
            message = f"{verdict.file} is not accepted [{finding.check}]: {finding}"
            raise SubmissionError(f"{message}. Mend or remove it.", check=finding.check)
    entries = [verdict.entry for verdict in verdicts if verdict.entry]
    drawn = {f"figures/{name}": text for name, text in figures(entries).items()}
    return {"README.md": render(entries, published(), read_manifests(board)), **drawn}


def stale_files(board: Path, files: Mapping[str, str]) -> list[str]:
    """Return which generated files of a leaderboard folder are not what they should be, or should not be there."""
    stale = [name for name, text in files.items() if not _holds(board / name, text)]
    drawn = [f"figures/{file.name}" for file in sorted((board / "figures").glob("*.svg"))]
    return stale + [name for name in drawn if name not in files]


def render(entries: Iterable[Entry], published: Mapping[str, Published], suites: Iterable[str]) -> str:
    """Return the whole page: a section for each suite that has entries, a manifest or published numbers."""
    ranked = _ranked(entries)
    names = sorted({*ranked, *suites, *published})
    # StrictUndefined: a misspelt name is an error, not an empty place on the page
    page = Environment(
        loader=PackageLoader("deeploc_bench.leaderboard", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    page.filters["table"] = lambda table: Markup(as_markdown(table))
    page.filters["text"] = lambda text: Markup(escape(text))
    page.filters["plain"] = lambda name: re.sub(r"[^A-Za-z0-9._-]", "", name)  # an entity is shown as such in code
    sections = [_section(name, ranked.get(name, []), published.get(name)) for name in names]
    return page.get_template("page.md.j2").render(suites=sections)


def figures(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the drawings of each suite, SVG by file name."""
    drawn = {}
    for suite, ranked in _ranked(entries).items():
        gaps = [one.entry for one in ranked if one.entry.claims.same]
        if gaps:
            drawn[f"{suite}-gap.svg"] = draw_gaps(gaps[:MOST_LINES])
        crossed = _first_crossed(ranked)
        if crossed:
            drawn[f"{suite}-cross.svg"] = draw_cross(crossed)
    return drawn


def held_out_table(ranked: Sequence[Ranked]) -> Table:
    """Return the table that ranks the entries of one suite."""
    entries = [one.entry for one in ranked]
    generators = entries[0].about.generators
    matched = {_method(entry): entry.claims.loo.iou for entry in reversed(entries) if entry.about.budget == "matched"}
    reproductions = [entry for entry in entries if entry.about.reproduces]
    return Table(
        headers=(
            *("rank", "submission", "model + loss", "IoU", "interval", "sd"),
            *generators,
            *("worst", "gap", "matched", "false alarm", "division", "budget", "trust"),
            *("seeds", "parameters", "images/s", "date", "link"),
        ),
        lines=tuple(
            (
                "-" if one.rank is None else str(one.rank),
                *_scores(one.entry, generators),
                number(matched.get(_method(one.entry))),
                number(one.entry.claims.false_alarm_area),
                "baseline" if one.entry.about.is_baseline else one.entry.about.division,
                one.entry.about.budget,
                trust(one.entry, reproductions),
                *_costs(one.entry),
            )
            for one in ranked
        ),
    )


def command(entry: Entry) -> str:
    """Return the command that reproduces an entry's trainings, without any word that a shell could take for more."""
    protocols = {"loo": True, "same": entry.claims.same, "cross": entry.claims.cross}
    words = ["deeploc-bench run", f"--suite {entry.about.suite}"]
    words += [f"--protocol {name}" for name, has in protocols.items() if has]
    words += [f"--budget {entry.about.budget}"] if entry.about.budget != "full" else []
    words += [f"--model {entry.about.model.name}"]
    if entry.recipe and entry.about.loss:
        words += [f"--loss {entry.about.loss_expression}", f"--recipe {entry.recipe.name}"]
        words += [f"--set {key}={value}" for key, value in changes(entry.recipe).items()]
        words += [f"--seed {seed}" for seed in entry.about.seeds]
    return " ".join(word for word in words if re.fullmatch(r"[A-Za-z0-9 .*+=_-]+", word))


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()  # bytes: a line end is not translated


def _ranked(entries: Iterable[Entry]) -> dict[str, list[Ranked]]:
    by_suite = grouped(entries, lambda entry: entry.about.suite)
    return {suite: rank(own) for suite, own in sorted(by_suite.items())}


def _section(name: str, ranked: Sequence[Ranked], published: Published | None) -> SuiteSection:
    crossed = _first_crossed(ranked)
    return SuiteSection(
        name=name,
        held_out=held_out_table(ranked) if ranked else None,
        same=_same_table(ranked) if any(one.entry.claims.same for one in ranked) else None,
        cross=_cross_table(crossed) if crossed else None,
        commands=[(one.entry.name, command(one.entry)) for one in ranked if not one.entry.about.is_baseline],
        published=_published_table(published) if published else None,
    )


def _scores(entry: Entry, generators: Sequence[str]) -> list[Field]:
    """Return the fields from `submission` to `gap`."""
    loo = entry.claims.loo
    unknown = "?" if entry.about.loss else "-"
    return [
        Link(text=entry.name, target=f"submissions/{entry.about.suite}/{entry.name}.json"),
        _what(entry),
        number(loo.iou),
        f"{number(loo.low)} to {number(loo.high)}",
        number(loo.spread) if len(entry.about.seeds) > 1 else unknown,
        *(number(loo.by_generator.get(name)) for name in generators),
        number(entry.claims.worst),
        number(entry.claims.gap),
    ]


def _costs(entry: Entry) -> list[Field]:
    """Return the fields from `seeds` to `link`."""
    return [
        str(len(entry.about.seeds)),
        f"{entry.parameters / 1e6:.2f} M" if entry.parameters else "-",
        f"{speed.images_per_second:.0f}" if (speed := entry.about.speed) else "-",
        entry.about.date.isoformat(),
        _linked("code", entry.about.code) if entry.about.code else "",
    ]


def _same_table(ranked: Sequence[Ranked]) -> Table:
    generators = ranked[0].entry.about.generators
    rows = [(one.entry, one.entry.claims.same) for one in ranked]
    found = sorted(((entry, row) for entry, row in rows if row), key=lambda pair: -pair[1].iou)
    return Table(
        headers=("submission", "model + loss", "IoU", "interval", *generators),
        lines=tuple(
            (
                entry.name,
                _what(entry),
                number(row.iou),
                f"{number(row.low)} to {number(row.high)}",
                *(number(row.by_generator.get(name)) for name in generators),
            )
            for entry, row in found
        ),
    )


def _first_crossed(ranked: Sequence[Ranked]) -> Entry | None:
    return next((one.entry for one in ranked if one.entry.claims.cross and not one.entry.about.is_baseline), None)


def _cross_table(entry: Entry) -> Table:
    cross, names = entry.claims.cross or {}, entry.about.generators
    return Table(
        caption=entry.name,
        headers=("train on \\ test on", *names),
        lines=tuple((train, *(number(cross.get(train, {}).get(test)) for test in names)) for train in names),
    )


def _published_table(published: Published) -> Table:
    names = sorted({name for entry in published.entry for name in (*entry.same, *entry.loo, *entry.cross)})
    lines: list[tuple[Field, ...]] = []
    for entry in published.entry:
        title = _linked(entry.title, entry.reference) if entry.reference else entry.title
        source = (entry.dialect, entry.citation)
        for protocol, row in _published_rows(entry):
            mean = number(sum(row.values()) / len(row)) if row.keys() >= {*names} else f"{len(row)} of {len(names)}"
            lines.append((title, protocol, mean, *(number(row.get(name)) for name in names), *source))
        for protocol, value in (("same", entry.mean_same), ("cross, mean of the others", entry.mean_other)):
            if value is not None:
                lines.append((title, protocol, number(value), *("-" for _ in names), *source))
    return Table(headers=("publication", "protocol", "IoU", *names, "dialect", "citation"), lines=tuple(lines))


def _published_rows(entry: Publication) -> list[tuple[str, Mapping[str, float]]]:
    rows = [("same", entry.same), ("loo", entry.loo)]
    return [row for row in rows if row[1]] + [(f"cross, trained on {name}", row) for name, row in entry.cross.items()]


def _linked(text: str, target: str) -> Field:
    """Return a link, or the text alone where the address is not one that a browser only opens."""
    return Link(text=text, target=target) if target.startswith("https://") else text


def _what(entry: Entry) -> str:
    name = entry.about.model.name
    if entry.about.is_baseline:
        return f"{name} (trivial baseline)"
    return f"{name} + {entry.about.loss_expression}" if entry.about.loss else f"{name} (only tested)"


def _method(entry: Entry) -> tuple[object, ...]:
    return (entry.about.model, entry.about.loss, entry.recipe)
