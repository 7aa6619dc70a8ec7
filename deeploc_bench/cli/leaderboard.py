"""`deeploc-bench leaderboard`: the page and its figures, rendered out of the submissions."""

import sys
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.files import remove, sweep, write
from deeploc_bench.contract.findings import shown
from deeploc_bench.leaderboard.folder import strangers
from deeploc_bench.leaderboard.page import board_files, stale_files


@click.command("leaderboard")
@click.argument("folder", default="leaderboard", metavar="[DIR]")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 where anything is stale or out of place.")
def command(folder: str, check: bool) -> None:
    """Render README.md and figures/ of a leaderboard folder; the same bytes on any machine."""
    root = Path(folder)
    if not check:
        sweep(root)
    files = board_files(root, common.progress)
    stale = stale_files(root, files)
    kept = len(set(files) - set(stale))
    strange = strangers(root)
    for name in strange:
        common.say(f"out of place: {root / shown(name)}; nothing but the page and what it is made of belongs there")
    if check:
        common.put(f"stale: {len(stale)}, as they should be: {kept}, in {root}")
        for name in stale:
            common.say(f"stale: {root / shown(name)}; run: deeploc-bench leaderboard {folder}")
        sys.exit(1 if stale or strange else 0)
    for name in stale:
        if name in files:
            write(root / name, files[name].encode())
        else:
            remove(root / name)
    common.put(f"changed: {len(stale)}, as they were: {kept}, in {root}")
