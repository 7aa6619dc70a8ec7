"""`deeploc-bench verify`: recompute and check submissions; needs no torch and no data, and runs nothing of them."""

import sys
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.findings import shown
from deeploc_bench.leaderboard.verify import Verdict, review


@click.command("verify")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--leaderboard", "board", default="leaderboard", metavar="DIR", show_default=True, help="Leaderboard.")
@click.option("--base", metavar="DIR", help="The leaderboard before a change: of it nothing may be lost or differ.")
@common.json_option
def command(files: tuple[str, ...], board: str, base: str | None, as_json: bool) -> None:
    """Recompute every aggregate of submissions from their records, and check them against suite and neighbours.

    Without a FILE it is all of the leaderboard. It proves consistency, not honesty. Exit code 0 where every file
    passes; warnings are for a reader.
    """
    asked = [Path(file) for file in files] or None
    verdicts = review(Path(board), asked, base=Path(base) if base else None, progress=common.progress)
    if as_json:
        common.print_json([_json(verdict) for verdict in verdicts])
    else:
        lines = [line for verdict in verdicts for line in _lines(verdict)]
        common.put("\n".join(lines) or f"no submissions in {board}")
    sys.exit(0 if all(verdict.is_ok for verdict in verdicts) else 1)


def _json(verdict: Verdict) -> dict[str, Any]:
    found = {"failures": verdict.failures, "warnings": verdict.warnings}
    listed = {key: [{"check": one.check, "message": str(one)} for one in found[key]] for key in found}
    return {"file": shown(str(verdict.file)), "ok": verdict.is_ok, **listed}


def _lines(verdict: Verdict) -> list[str]:
    findings = [f"  {finding.line}" for finding in (*verdict.failures, *verdict.warnings)]
    return [f"{'ok' if verdict.is_ok else 'FAILED'}  {shown(str(verdict.file))}", *findings]
