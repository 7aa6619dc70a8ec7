"""`deeploc-bench leaderboard`: the page and its figures, rendered out of the submissions."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import SubmissionError, UsageError
from deeploc_bench.leaderboard.page import figures, render
from deeploc_bench.leaderboard.verify import compare, examine, read_manifests, submission_files
from deeploc_bench.plan import store
from deeploc_bench.results.published import published


@click.command("leaderboard")
@click.argument("folder", default="leaderboard", metavar="[DIR]")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 where the page or a figure is stale.")
def command(folder: str, check: bool) -> None:
    """Render README.md and figures/ of a leaderboard folder; the same bytes on any machine."""
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder}: there is no such leaderboard folder")
    pages = _pages(root)
    stale = [name for name, text in pages.items() if _content(root / name) != text]
    stale += [f"figures/{file.name}" for file in sorted((root / "figures").glob("*.svg")) if _name(file) not in pages]
    if check:
        for name in stale:
            common.say(f"stale: {root / name}; run: deeploc-bench leaderboard {folder}")
        sys.exit(1 if stale else 0)
    for name in stale:
        if name in pages:
            store.write(root / name, pages[name].encode())
        else:
            (root / name).unlink()
    print(f"{len(stale)} files changed, {len(pages) - len(stale)} as they were, in {root}")


def _pages(root: Path) -> dict[str, str]:
    manifests = read_manifests(root)
    verdicts = [examine(file, manifests) for file in submission_files(root)]
    compare(verdicts)
    for verdict in verdicts:
        for mark in verdict.failures[:1]:
            raise SubmissionError(mark.check, f"{verdict.file} is not accepted [{mark.check}]: {mark.message}")
    entries = [verdict.entry for verdict in verdicts if verdict.entry]
    drawn = {f"figures/{name}": text for name, text in figures(entries).items()}
    return {"README.md": render(entries, published(), manifests), **drawn}


def _content(file: Path) -> str | None:
    return file.read_text("utf-8") if file.is_file() else None


def _name(file: Path) -> str:
    return f"figures/{file.name}"
