"""`compare`: two rows of runs folders, or two submissions, image by image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeploc_bench.api import session
from deeploc_bench.api.results import Tables
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.leaderboard.claims import method_of
from deeploc_bench.leaderboard.folder import board_of, submission_files
from deeploc_bench.leaderboard.verify import entries_beside
from deeploc_bench.plan.protocols import SHOWN
from deeploc_bench.results.cells import Cell, read_cells
from deeploc_bench.results.comparison import (
    Line,
    Method,
    choose,
    compared,
    comparison_json,
    comparison_table,
    methods_of,
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compared:
    """Two methods compared, `a` minus `b`: a line a pair, and the mean; printed, it is the tables of the command.

    What plugins add to the suite has lines and tables of its own below.
    """

    a: Method
    b: Method
    lines: tuple[Line, ...]
    tables: Tables

    def __repr__(self) -> str:
        return str(self.tables)

    def _repr_markdown_(self) -> str:
        return self.tables.to_markdown()

    def rows(self) -> list[dict[str, Any]]:
        """Return a plain dict for each line: generators, both IoUs, difference, interval, p and what could be told.

        The mean has no generators; what is not known is None.
        """
        return comparison_json(self.lines)


def compare(
    a: str, b: str, *, protocol: str = "loo", runs: str | Path = "runs", leaderboard: str | Path = "leaderboard"
) -> Compared:
    """Compare two rows, a minus b: each a MODEL+LOSS of a runs folder, or the name or file of a submission.

    MODEL+LOSS@EXPERIMENT and MODEL+LOSS@matched tell apart several of one name. The difference is paired source by
    source; the variance between seeds is pooled over everything that lies beside the two. Needs no data, plugin or
    torch. Raises UsageError where a name means none or several, or the two cannot be compared; StoreError or
    SubmissionError where what they are made of is damaged.
    """
    if protocol not in SHOWN:
        raise UsageError(unknown("protocol", protocol, SHOWN))
    # without a runs folder by the default name, there are submissions
    cells = read_cells(Path(runs)) if str(runs) != "runs" or Path(runs).is_dir() else []
    methods = methods_of(cells, protocol)
    shared = _suites(a, methods, Path(leaderboard)) & _suites(b, methods, Path(leaderboard))
    methods = [method for method in methods if not shared or method.suite in shared]
    first, beside = _find(a, methods, Path(leaderboard), protocol)
    second, more = _find(b, methods, Path(leaderboard), protocol)
    parts = [
        (first, second, compared(first, second, [*beside, *more])),
        *_added(first, second, cells, protocol),
    ]
    caption = f"{protocol} · {first.suite} · {a} minus {b}"
    tables = [comparison_table(caption, one, other, lines) for one, other, lines in parts]
    lines = tuple(line for _, _, lines in parts for line in lines)
    return Compared(a=first, b=second, lines=lines, tables=Tables(tuple(tables)))


def _added(
    first: Method, second: Method, cells: Sequence[Cell], protocol: str
) -> Iterator[tuple[Method, Method, list[Line]]]:
    """Yield what is compared on the generators that each plugin adds to the suite, where both were tested on them."""
    for plugin in sorted({cell.added_by for cell in cells if cell.added_by}):
        methods = methods_of(cells, protocol, plugin)
        one, other = (next((m for m in methods if m.is_like(asked)), None) for asked in (first, second))
        if one and other:
            yield one, other, compared(one, other, methods)


def _suites(text: str, methods: Sequence[Method], board: Path) -> set[str]:
    """Return the suites of all that a name may mean."""
    files = [Path(text)] if text.endswith(".json") else [file for file in submission_files(board) if file.stem == text]
    return {file.parent.name for file in files} | {one.suite for one in methods if one.name == text.partition("@")[0]}


def _find(text: str, methods: Sequence[Method], board: Path, protocol: str) -> tuple[Method, Sequence[Method]]:
    """Return what a name means, and the methods that lie beside it."""
    file = (
        Path(text)
        if text.endswith(".json")
        else next((file for file in submission_files(board) if file.stem == text), None)
    )
    found = None if text.endswith(".json") else choose(methods, text)
    if found:
        return found, [method for method in methods if method.suite == found.suite]
    if file is None:
        known = [*(method.name for method in methods), *(one.stem for one in submission_files(board))]
        raise UsageError(f"{unknown('method or submission', text, set(known))} Or name a submission's file.")
    entries, left_out = entries_beside(file, board_of(file, board), session.progress)
    session.say_left_out(left_out)
    if protocol not in entries[0].rows:
        raise UsageError(f"{text} has no tests of protocol {protocol!r}; it has those of {', '.join(entries[0].rows)}")
    first, *others = (method_of(entry, protocol) for entry in entries if protocol in entry.rows)
    return first, others
