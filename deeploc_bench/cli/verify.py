"""`deeploc-bench verify`: recompute and check submissions; needs no torch and no data, and runs nothing of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError
from deeploc_bench.leaderboard.verify import Verdict, compare, examine, read_manifests, submission_files


@click.command("verify")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--leaderboard", "board", default="leaderboard", metavar="DIR", show_default=True, help="Leaderboard.")
@click.option("--base", metavar="DIR", help="The leaderboard before a change: no accepted number may differ.")
@common.json_option
def command(files: tuple[str, ...], board: str, base: str | None, as_json: bool) -> None:
    """Recompute every aggregate of submissions from their records, and check them against suite and neighbours.

    It proves consistency, not honesty. Exit code 0 where every file passes; warnings are for a reader.
    """
    for folder in filter(None, (board, base)):
        if not Path(folder).is_dir():
            raise UsageError(f"{folder}: there is no such leaderboard folder. Name it with --leaderboard DIR.")
    manifests, asked = read_manifests(Path(board)), [Path(file) for file in files]
    known = {file.resolve() for file in asked}
    rest = [file for file in submission_files(Path(board)) if file.resolve() not in known]
    with common.progress("verify", len(asked) + len(rest)) as tick:
        verdicts = [_ticked(tick, examine(file, manifests, Path(base) if base else None)) for file in asked]
        others = [_ticked(tick, examine(file, manifests)).entry for file in rest]
    compare(verdicts, [entry for entry in others if entry])
    if as_json:
        common.print_json([_json(verdict) for verdict in verdicts])
    else:
        print("\n".join(line for verdict in verdicts for line in _lines(verdict)))
    sys.exit(0 if all(verdict.is_ok for verdict in verdicts) else 1)


def _ticked(tick: Callable[[], object], verdict: Verdict) -> Verdict:
    tick()
    return verdict


def _json(verdict: Verdict) -> dict[str, Any]:
    marks = {"failures": verdict.failures, "warnings": verdict.warnings}
    listed = {name: [{"check": m.check, "message": m.message} for m in found] for name, found in marks.items()}
    return {"file": str(verdict.file), "ok": verdict.is_ok, **listed}


def _lines(verdict: Verdict) -> list[str]:
    failures = [f"  failed [{mark.check}] {mark.message}" for mark in verdict.failures]
    warnings = [f"  warning [{mark.check}] {mark.message}" for mark in verdict.warnings]
    return [f"{'ok' if verdict.is_ok else 'FAILED'}  {verdict.file}", *failures, *warnings]
