"""The leaderboard's markdown page and its drawings, made of submissions: the same bytes on any machine."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.contract.findings import shown
from deeploc_bench.data.suites import Manifest, Progress, silent
from deeploc_bench.leaderboard.claims import Entry
from deeploc_bench.leaderboard.drawings import draw_gaps
from deeploc_bench.leaderboard.folder import read_manifests, regenerated
from deeploc_bench.leaderboard.ranking import Ranked, Standing, method, rank, trust
from deeploc_bench.leaderboard.transfers import transfer_table
from deeploc_bench.leaderboard.verify import review
from deeploc_bench.plan.protocols import declared
from deeploc_bench.plan.recipe import changed_settings
from deeploc_bench.results.cells import grouped
from deeploc_bench.results.published import Published, published, published_table
from deeploc_bench.results.render import Field, Link, Table, as_markdown, escape, interval_of, linked, number, starred
from deeploc_bench.results.rows import MOST_FALSE_ALARM, above
from deeploc_bench.results.tables import BELOW, SOURCES_ONLY, difference_of
from deeploc_bench.scoring.statistics import SEEDS, SeedVariance

MOST_LINES = 40
"""The most entries that a drawing shows."""
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.*+=_-]*|'[a-z0-9.*+_(),=-]+'")
"""What a command may hold of a submission: one word to any shell, and no flag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSection:
    """What the page shows of one suite; a suite without submissions has no `held_out`."""

    name: str
    is_open: bool = True  # to submissions
    held_out: Table | None = None
    sentences: Sequence[str] = ()
    generators: Table | None = None
    is_drawn: bool = False
    reproduced: str = "the first row"  # that was made here: what the command `reproduce` makes again
    reproduce: str = ""
    folded: Sequence[tuple[str, Table]] = ()
    commands: Sequence[tuple[str, str]] = ()
    published: Table | None = None


def board_files(board: Path, progress: Progress = silent) -> dict[str, str]:
    """Return the generated files of a leaderboard folder: README.md and figures, their content by relative path.

    Raises SubmissionError where a submission is refused, and as `review` does.
    """
    verdicts = review(board, progress=progress)
    for verdict in verdicts:
        for finding in verdict.failures[:1]:
            message = shown(f"{verdict.file} is not accepted [{finding.check}]: {finding}")
            raise SubmissionError(f"{message}. Fix or remove it.", check=finding.check)
    standings = standings_of(verdict.entry for verdict in verdicts if verdict.entry)
    drawn = {f"figures/{name}": text for name, text in figures(standings).items()}
    return {"README.md": render(standings, published(board / "published"), read_manifests(board)), **drawn}


def stale_files(board: Path, files: Mapping[str, str]) -> list[str]:
    """Return which generated files of a leaderboard folder are not what they should be, or should not be there."""
    stale = [name for name, text in files.items() if not _holds(board / name, text)]
    drawn = [f"figures/{file.name}" for file in sorted((board / "figures").glob("*.svg"))]
    return stale + [name for name in drawn if name not in files]


def standings_of(entries: Iterable[Entry]) -> dict[str, Standing]:
    """Return how the entries of each suite stand, by suite."""
    by_suite = grouped(entries, lambda entry: entry.about.suite)
    return {suite: rank(own) for suite, own in sorted(by_suite.items())}


def render(
    standings: Mapping[str, Standing], published: Mapping[str, Published], suites: Mapping[str, Manifest]
) -> str:
    """Return the whole page: each suite that has entries, then the others that have a manifest or published numbers."""
    names = [*standings, *sorted({*suites, *published} - {*standings})]
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
    sections = [_section(name, standings.get(name), published.get(name), suites.get(name)) for name in names]
    has_detectors = any(row.entry.about.is_detector for one in standings.values() for row in one.rows)
    return page.get_template("page.md.j2").render(
        suites=sections, most=number(MOST_FALSE_ALARM), has_detectors=has_detectors
    )


def figures(standings: Mapping[str, Standing]) -> dict[str, str]:
    """Return the drawing of each suite that has ranked entries of both protocols, SVG by file name."""
    drawn = {suite: _drawn(standing) for suite, standing in standings.items()}
    return {f"{suite}-gap.svg": draw_gaps(entries[:MOST_LINES]) for suite, entries in drawn.items() if entries}


def held_out_table(rows: Sequence[Ranked], reproductions: Sequence[Entry] = ()) -> Table:
    """Return the table that ranks the entries of one suite."""
    headers = ("rank", "entry", "IoU", "above best baseline", "false alarm", "seeds", "trust", "code")
    lines = tuple(_line(row, trust(row.entry, reproductions)) for row in rows)
    return Table(headers=headers, lines=lines)


def command(entry: Entry) -> str:
    """Return the command that reproduces an entry's trainings, without any word that a shell could take for more."""
    protocols = {"loo": True, "same": entry.claims.same, "cross": entry.claims.cross}
    flags = [("--suite", entry.about.suite), *(("--protocol", name) for name, has in protocols.items() if has)]
    flags += [("--budget", entry.about.budget)] if entry.about.budget != "full" else []
    is_ours = entry.about.model.distribution == "deeploc-bench"
    flags += [] if is_ours else [("--plugin", "PLUGIN.py")]
    # a detector of no plugin's own is one that a file describes
    is_described = is_ours and entry.about.model.weights is not None and not entry.about.loss
    flags += [("--model", entry.about.model.name + ".toml" * is_described)]
    if entry.recipe and entry.about.loss:
        loss = entry.about.loss_expression
        flags += [("--loss", f"'{loss}'" if "(" in loss else loss), ("--recipe", entry.recipe.name)]
        flags += [("--set", setting) for setting in changed_settings(entry.recipe)]
        flags += [("--seed", str(seed)) for seed in entry.about.seeds]
    return " ".join(["deeploc-bench run", *(f"{flag} {value}" for flag, value in flags if WORD.fullmatch(value))])


def _is_run_here(entry: Entry) -> bool:
    """Tell whether a command makes it: it is no baseline, which every run tests, and was not made elsewhere."""
    return not entry.about.is_baseline and not entry.about.is_scored


def _wrapped(text: str) -> str:
    """Return a command in lines that a page shows without scrolling."""
    whole = re.sub(r"(--\S+) (?!-)", "\\1\0", text)  # a flag stays with its value
    lines = textwrap.wrap(whole, 96, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\0", " ")


def _holds(file: Path, text: str) -> bool:
    content = text.encode()  # bytes: a line end is not translated
    return file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content


def _section(name: str, standing: Standing | None, others: Published | None, suite: Manifest | None) -> SuiteSection:
    shown = published_table(others) if others and others.entry else None
    if standing is None:
        return SuiteSection(name=name, published=shown, is_open=suite is not None)
    rows = standing.rows
    best = next((row for row in standing.ranked if _is_run_here(row.entry)), None)
    return SuiteSection(
        name=name,
        held_out=held_out_table(rows, [row.entry for row in rows if row.entry.about.reproduces]),
        sentences=[*_sentences(standing), *regenerated(suite)],
        generators=_generators_table(rows),
        is_drawn=bool(_drawn(standing)),
        reproduced=best.entry.name if best and best is not standing.ranked[0] else "the first row",
        reproduce=_wrapped(command(best.entry)) if best else "",
        folded=[(title, table) for title, make in FOLDED.items() if (table := make(rows)).lines],
        commands=[(entry.name, command(entry)) for entry in (row.entry for row in rows) if _is_run_here(entry)],
        published=shown,
    )


def _sentences(standing: Standing) -> list[str]:
    """Return what can and cannot be told of a suite's rows, in words."""
    rows, ranked = standing.rows, standing.ranked
    sources = max(row.interval.sources for row in rows)
    between = f"sd between seeds {number(sqrt(standing.seeds.variance))}, pooled over the rows that have several"
    known = f"Intervals: 95 %, over {sources} sources and over seeds ({between})."
    said = [known if standing.seeds.freedom else f"Intervals: 95 %, {sources} sources. {SOURCES_ONLY.capitalize()}."]
    if not isnan(standing.smallest):
        case = f"Compared alone, two rows of {SEEDS} seeds each that differ by {number(standing.smallest)}"
        said.append(f"{case} are told apart in 80 % of cases.")
    if len(ranked) > 1:
        first = [row.entry.name for row in ranked if row.rank == 1]
        said += [f"Ranked with the best: {', '.join(first[1:])}."] if len(first) > 1 else []
    nothing = [row.entry.name for row in rows if row.above and not row.finds]
    said += [f"Not shown to be better than the best baseline: {', '.join(nothing)}."] if nothing else []
    scored = [row.entry.name for row in rows if row.entry.about.is_scored]
    said += [f"Scored, from predictions made elsewhere (open division): {', '.join(scored)}."] if scored else []
    return said


def _line(row: Ranked, trusted: str) -> tuple[Field, ...]:
    entry = row.entry
    bounds = interval_of(row.interval.low, row.interval.high)
    return (
        row.place,
        Link(text=entry.name, target=f"submissions/{entry.about.suite}/{entry.name}.json"),
        number(entry.claims.loo.iou) + ("" if bounds == "-" else f" ({bounds})"),
        difference_of(row.above),
        number(entry.claims.false_alarm_area),
        str(len(entry.about.seeds)) if entry.about.is_seeded else "-",
        trusted,
        linked("code", entry.about.code) if entry.about.code else "",
    )


def _generators_table(rows: Sequence[Ranked]) -> Table:
    """Return the held-out IoU by generator, a star where a row is below the best baseline."""
    names = rows[0].entry.about.generators
    baselines = [row.entry.rows["loo"] for row in rows if row.entry.about.is_baseline]
    lines: list[tuple[Field, ...]] = []
    for row in rows:
        others = [] if row.entry.about.is_baseline else baselines
        fields = []
        for own in row.entry.rows["loo"].pairs:
            found = above(own, (other.row_of(own.pair) for other in others), SeedVariance())
            fields.append(starred(own.iou) if found and found.difference < 0 else own.iou)
        name = f"{row.entry.name} ({row.reason})" if row.entry.about.is_detector else row.entry.name
        lines.append((name, *fields, number(row.entry.claims.worst)))
    is_marked = any(str(field).endswith("*") for line in lines for field in line)
    headers = ("entry", *names, "worst")
    return Table(headers=headers, lines=tuple(lines), notes=(BELOW,) if is_marked else ())


def _same_table(rows: Sequence[Ranked]) -> Table:
    names = rows[0].entry.about.generators
    found = [(row, row.entry.claims.same) for row in rows]
    held = sorted(((row, same) for row, same in found if same), key=lambda pair: (-pair[1].iou, pair[0].entry.name))
    lines = tuple(
        (row.entry.name, number(same.iou), *(number(same.by_generator.get(name)) for name in names), number(row.gap))
        for row, same in held
    )
    note = "gap: same-generator minus held-out IoU, where the former is significantly above the best baseline."
    return Table(headers=("entry", "IoU", *names, "gap"), lines=lines, notes=(note,))


def _matched_table(rows: Sequence[Ranked]) -> Table:
    """Return each entry of a matched budget beside that of the same method with all samples."""
    full = {method(row.entry)[:3]: row.entry for row in rows if row.entry.about.budget == "full"}
    lines = tuple(
        (entry.name, number(entry.claims.loo.iou), number(other.claims.loo.iou) if other else "-")
        for entry in (row.entry for row in rows if row.entry.about.budget == "matched")
        for other in [full.get(method(entry)[:3])]
    )
    return Table(headers=("entry", "IoU", "IoU with all samples"), lines=lines)


def _cross_table(rows: Sequence[Ranked]) -> Table:
    """Return the matrix of the first entry that has one."""
    entry = next((row.entry for row in rows if row.entry.claims.cross and not row.entry.about.is_baseline), None)
    if entry is None:
        return Table(headers=(), lines=())
    cross, names = entry.claims.cross or {}, entry.about.generators
    lines = tuple((train, *(number(cross.get(train, {}).get(test)) for test in names)) for train in names)
    return Table(headers=(entry.name, *names), lines=lines)


def _about_table(rows: Sequence[Ranked]) -> Table:
    headers = ("entry", "model + loss", "division", "parameters", "images/s", "date")
    return Table(headers=headers, lines=tuple(_about(row.entry) for row in rows))


def _about(entry: Entry) -> tuple[Field, ...]:
    about, speed = entry.about, entry.about.speed
    return (
        entry.name,
        _what(entry),
        "-" if about.is_baseline else about.division,
        f"{entry.parameters / 1e6:.2f} M" if entry.parameters else "-",
        f"{speed.images_per_second:.0f}" if speed else "-",
        about.date.isoformat(),
    )


def _drawn(standing: Standing) -> list[Entry]:
    return [row.entry for row in standing.ranked if row.entry.claims.same]


def _what(entry: Entry) -> str:
    name = entry.about.model.name
    if entry.about.is_scored:
        return f"{name} (scored: predictions made elsewhere)"
    if entry.about.is_baseline:
        return f"{name} (baseline)"
    if entry.about.is_detector:
        return f"{name} (only tested; trained elsewhere: {declared(entry.about.model.trained_on)})"
    return f"{name} + {entry.about.loss_expression}"


FOLDED = {
    "Same generator: trained and tested on one": _same_table,
    "Matched budget: as many training images as one generator has": _matched_table,
    "Trained on one (rows), tested on each (columns)": _cross_table,
    "Trained here, tested on other suites too": transfer_table,
    "What the entries are": _about_table,
}
