"""`deeploc-bench compare`: two rows of a runs folder, or two submissions, image by image."""

from collections.abc import Sequence
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.leaderboard.claims import method_of
from deeploc_bench.leaderboard.verify import board_of, entries_beside, submission_files
from deeploc_bench.plan.protocols import PROTOCOLS
from deeploc_bench.results.cells import read_cells
from deeploc_bench.results.comparison import (
    Method,
    choose,
    compared,
    comparison_json,
    comparison_table,
    methods_of,
)
from deeploc_bench.results.render import as_text


@click.command("compare")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--protocol", default="loo", metavar="same|loo|cross", show_default=True, help="Protocol.")
@common.runs_option
@click.option("--leaderboard", "board", default="leaderboard", metavar="DIR", show_default=True, help="Leaderboard.")
@common.json_option
def command(*, one: str, other: str, protocol: str, runs: str, board: str, as_json: bool) -> None:
    """Compare two rows, A minus B: each a MODEL+LOSS of a runs folder, or the name or file of a submission.

    MODEL+LOSS@EXPERIMENT and MODEL+LOSS@matched tell apart several of one name. The difference is paired source by
    source; the variance between seeds is pooled over everything that lies beside the two.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol: {unknown('protocol', protocol, PROTOCOLS)}")
    # without a runs folder by the default name, there are submissions
    methods = methods_of(read_cells(Path(runs)), protocol) if runs != "runs" or Path(runs).is_dir() else []
    first, beside = _find(one, methods, Path(board), protocol)
    second, more = _find(other, methods, Path(board), protocol)
    lines = compared(first, second, [*beside, *more])
    if as_json:
        common.print_json({"a": one, "b": other, "protocol": protocol, "rows": comparison_json(lines)})
    else:
        common.put(as_text(comparison_table(f"{protocol} · {first.suite} · {one} minus {other}", first, second, lines)))


def _find(text: str, methods: Sequence[Method], board: Path, protocol: str) -> tuple[Method, Sequence[Method]]:
    """Return what a word of the command line means, and the methods that lie beside it."""
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
    entries, left_out = entries_beside(file, board_of(file, board), common.progress)
    common.say_left_out(left_out)
    if protocol not in entries[0].rows:
        raise UsageError(f"{text} has no tests of protocol {protocol!r}; it has those of {', '.join(entries[0].rows)}")
    first, *others = (method_of(entry, protocol) for entry in entries if protocol in entry.rows)
    return first, others
