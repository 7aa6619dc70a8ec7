"""Two methods compared on the same test images: by generator and in the mean, with what could have been told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.plan.protocols import Included, Pair, trained_on
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, interval_of, number
from deeploc_bench.results.rows import Row, Rows, make_rows
from deeploc_bench.results.tables import SOURCES_ONLY
from deeploc_bench.scoring.statistics import Comparison, SeedVariance, compare, pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One experiment or submission under one protocol, with what it may be called on the command line."""

    name: str
    suite: str
    protocol: str
    budget: str = "full"
    experiment: str = ""
    """Empty for a submission, whose name is enough."""
    added_by: str | None = None
    """The plugin that adds the generators of its rows to the suite; None where they are the suite's own."""
    rows: Rows
    standard: tuple[str, ...]
    included: Included = field(default_factory=dict)
    elsewhere: str = ""
    """The words for a detector, which was trained elsewhere, on what it declares."""

    @property
    def choice(self) -> str:
        """Return the words that mean it and no other method of its name."""
        return "@".join(filter(None, (self.name, self.experiment[:8], self.budget if self.experiment else "")))

    @property
    def about(self) -> str:
        """Return the words that mean it, its suite and its seeds."""
        return f"{self.choice}  suite {self.suite}, seeds {', '.join(map(str, self.rows.seeds))}"

    def is_like(self, other: "Method") -> bool:
        """Tell whether it is the other one, maybe on other generators."""
        return (self.suite, self.experiment, self.budget) == (other.suite, other.experiment, other.budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a comparison: a pair, or the mean (None); `found` is None where one of both lacks it."""

    pair: Pair | None
    added_by: str | None
    one: Row
    other: Row
    found: Comparison | None
    seeds: SeedVariance


def methods_of(cells: Iterable[Cell], protocol: str, added_by: str | None = None) -> list[Method]:
    """Return the methods of a runs folder on a suite's own generators under a protocol, or on those a plugin adds.

    Their perturbed tests are left out.
    """
    own = [c for c in cells if (c.protocol, c.added_by) == (protocol, added_by) and not c.perturbation]
    return [
        Method(
            name=group[0].facts.what.replace(" + ", "+"),
            suite=group[0].facts.suite,
            protocol=protocol,
            budget=group[0].budget,
            experiment=group[0].facts.experiment,
            added_by=added_by,
            rows=make_rows(group),
            standard=group[0].facts.standard_generators,
            included=group[0].facts.included,
            elsewhere=group[0].recipe if group[0].facts.is_detector else "",
        )
        for group in grouped(own, lambda cell: cell.group).values()
    ]


def choose(methods: Sequence[Method], text: str) -> Method | None:
    """Return the method that `NAME`, `NAME@EXPERIMENT` or `NAME@BUDGET` means; None where there is none of that name.

    Raises UsageError where there are several, or none as asked for.
    """
    name, *marks = text.replace(" ", "").split("@")
    named = [method for method in methods if method.name == name]
    meant = [
        method
        for method in named
        if all(mark == method.budget or method.experiment.startswith(mark.lower()) for mark in marks)
    ]
    if named and len(meant) != 1:
        reason = "means several methods" if meant else "means none of the methods of that name"
        choices = "\n  ".join(method.about for method in meant or named)
        raise UsageError(f"{text!r} {reason}; choose one:\n  {choices}")
    return meant[0] if meant else None


def compared(one: Method, other: Method, beside: Sequence[Method]) -> list[Line]:
    """Compare two methods pair by pair and in the mean, with the seeds of all methods `beside` them and their own.

    Of what was added to a suite there is no mean.

    Raises UsageError where they are of two suites, or were tested on different images.
    """
    if one.suite != other.suite:
        suites = f"{one.name} is of suite {one.suite!r}, {other.name} of suite {other.suite!r}"
        raise UsageError(f"{suites}; compare two of one suite")
    every = {(method.name, method.budget, method.experiment): method for method in (*beside, one, other)}
    # as in a table: of the budgets that are compared
    alike = [method for method in every.values() if method.budget in (one.budget, other.budget)]
    pairs = [row.pair for row in one.rows.pairs if row.pair in {row.pair for row in other.rows.pairs}]
    return [_line(pair, one, other, alike) for pair in [*pairs, *([] if one.added_by else [None])]]


def _line(pair: Pair | None, one: Method, other: Method, alike: Sequence[Method]) -> Line:
    first, second = one.rows.row_of(pair), other.rows.row_of(pair)
    rows = [method.rows.row_of(pair) for method in alike]
    seeds = pooled(
        row.score for row in rows if row.score and not row.floods and row.images in (first.images, second.images)
    )
    if not seeds.freedom:  # as in a table, a row that floods has its own
        seeds = pooled(row.score for row in (first, second) if row.score)
    found = None
    if first.score and second.score:
        if first.images != second.images:
            where = pair.test_generator if pair else "the mean"
            raise UsageError(
                f"{one.name} and {other.name} were tested on different images of {where}; run both on the same data"
            )
        found = compare(first.score, second.score, seeds)
    return Line(pair=pair, added_by=one.added_by, one=first, other=second, found=found, seeds=seeds)


def comparison_table(title: str, one: Method, other: Method, lines: Sequence[Line]) -> Table:
    """Return a comparison as a table: a line a pair and the mean, the difference, its interval and p."""
    title += f" · added by plugin {one.added_by}" if one.added_by else ""
    names = (one.name, other.name) if one.name != other.name else (one.choice, other.choice)
    scores = [row.score for line in lines for row in (line.one, line.other) if row.score]
    knows_seeds = any(line.seeds.freedom for line in lines) or not any(score.seeded for score in scores)
    shown = []
    for line in lines:
        found, train, test = line.found, "mean", ""
        if line.pair:
            train = trained_on(line.pair.train_generators, one.protocol, one.standard, one.included)
            test = line.pair.test_generator
            train = "-" if one.elsewhere and other.elsewhere else train
        fields = ("-", "-", "-", "-")
        if found:
            bounds = interval_of(found.low, found.high, "+")
            fields = (number(found.difference, "+"), bounds, _p(found.p), number(found.detectable))
        shown.append((train, test, line.one.iou, line.other.iou, *fields))
    headers = ("train on", "test on", *names, "difference", "95 % interval", "p", "could be told")
    made = [
        f"{name}: {method.rows.seed_words}"
        for name, method in zip(names, (one, other), strict=True)
        if any(row.score and row.score.seeded for row in method.rows.pairs)
    ]
    made += [f"{name}: {by.elsewhere}" for name, by in zip(names, (one, other), strict=True) if by.elsewhere]
    return Table(
        caption=title + ("" if knows_seeds else f"\n{SOURCES_ONLY}"),
        headers=headers,
        lines=tuple(shown),
        notes=(*made, "could be told: the true difference that is found significant (p <= 0.05) in 80 % of cases"),
    )


def comparison_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the lines of a comparison as `--json` prints them; the mean has no generators."""
    return [
        {
            "train_generators": list(line.pair.train_generators) if line.pair else None,
            "test_generator": line.pair.test_generator if line.pair else None,
            "added_by": line.added_by,
            "a": line.one.score and line.one.score.iou,
            "b": line.other.score and line.other.score.iou,
            "difference": line.found and line.found.difference,
            "interval": line.found and [line.found.low, line.found.high],
            "p": line.found and line.found.p,
            "detectable": line.found and line.found.detectable,
            "sources": len(line.one.score.sources) if line.one.score else 0,
            "seed_variance": line.seeds.variance if line.seeds.freedom else None,
        }
        for line in lines
    ]


def _p(p: float) -> str:
    return "< 0.001" if p < 0.0005 else number(p)
