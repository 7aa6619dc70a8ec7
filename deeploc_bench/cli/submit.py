"""`deeploc-bench submit`: finished trainings as one file that anybody can recompute."""

import datetime
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.files import to_json
from deeploc_bench.leaderboard import saving
from deeploc_bench.leaderboard.collect import Declaration, Selection, collect
from deeploc_bench.leaderboard.folder import board_of, read_manifests, unlisted
from deeploc_bench.leaderboard.page import held_out_table
from deeploc_bench.leaderboard.ranking import rank
from deeploc_bench.leaderboard.speed import read_speed
from deeploc_bench.leaderboard.submission import Submission
from deeploc_bench.leaderboard.transfers import with_transfers
from deeploc_bench.leaderboard.verify import entries_beside
from deeploc_bench.plan.job import DEFAULT_SUITE
from deeploc_bench.plan.losses import slug
from deeploc_bench.results.render import as_markdown

NEXT = """next:
  deeploc-bench verify {file}
  deeploc-bench leaderboard
  git add {file} leaderboard/README.md leaderboard/figures && git commit -m "Submit {name}"
  and open a pull request"""


@click.command("submit")
@click.argument("what", required=False, metavar="MODEL[+LOSS]")
@click.option("--suite", default=DEFAULT_SUITE, show_default=True, metavar="NAME", help="Suite of the trainings.")
@click.option("--recipe", metavar="NAME", help="Recipe, where trainings of several are there.")
@click.option("--experiment", default="", metavar="HASH", help="Beginning of the experiment's hash, always enough.")
@click.option("--budget", metavar="full|matched", help="Budget of loo, where both are there.")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0), help="Seed (repeatable). [all complete ones]")
@click.option("--name", metavar="NAME", help="Name of the submission. [the output file's]")
@click.option("--contact", metavar="TEXT", help="Whom to ask: a name, an address, a handle (required).")
@click.option("--reference", metavar="LINK", help="Paper or page, https.")
@click.option("--code", metavar="LINK", help="Where the code is, https.")
@click.option("--license", metavar="TEXT", help="Licence of the code.")
@click.option("--reproduces", metavar="NAME", help="The submission of another party that this one repeats.")
@click.option(
    "--pretraining-generator", "seen", multiple=True, metavar="G", help="A generator the pretraining has seen."
)
@click.option(
    "--transfer",
    "transfers",
    multiple=True,
    metavar="SUITE",
    help="Another suite that all were tested on (repeatable).",
)
@click.option("--speed", "speed_file", metavar="FILE", help="Output of deeploc-bench speed MODEL --json.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="Date of the submission. [today]")
@click.option("--refresh", metavar="FILE", help="Recompute the claims of a submission, of an earlier version too.")
@common.runs_option
@click.option("-o", "--output", metavar="FILE", help="File. [leaderboard/submissions/SUITE/NAME.json]")
def command(
    *,
    what: str | None,
    name: str | None,
    contact: str | None,
    seen: tuple[str, ...],
    transfers: tuple[str, ...],
    speed_file: str | None,
    date: datetime.datetime | None,
    refresh: str | None,
    runs: str,
    output: str | None,
    **asked: Any,
) -> None:
    """Collect the finished trainings of a model and a loss (or of a model that is only tested) into a submission.

    Nothing goes over a network, and nothing is written that verify would refuse.
    """
    if refresh is not None:
        others = {**asked, "suite": None}  # which has a default
        _refresh(
            refresh,
            is_alone=not any((what, name, contact, seen, transfers, speed_file, date, output, *others.values())),
        )
        return
    if not what or not contact:
        lacking = (
            "--contact TEXT (a name, an address, a handle)" if what else "MODEL+LOSS, such as residual-unet+jaccard"
        )
        raise UsageError(f"submit needs {lacking}")
    what = what.replace(" ", "")
    model, _, loss = what.partition("+")
    name = name or (Path(output).stem if output else slug(what).replace("+", "-"))
    keys = ("suite", "recipe", "experiment", "budget", "seeds")
    selection = Selection(model=model, loss=loss or None, **{key: asked.pop(key) for key in keys})
    target = _target(
        Path(output) if output else Path("leaderboard/submissions") / selection.suite / f"{name}.json", name
    )
    declaration = Declaration(
        name=name,
        contact=contact,
        date=date.date() if date else datetime.date.today(),
        pretraining_generators=tuple(sorted(set(seen))),
        speed=read_speed(Path(speed_file), what) if speed_file else None,
        **asked,
    )
    submission = with_transfers(collect(Path(runs), selection, declaration), Path(runs), transfers)
    _refuse_another(submission, target)
    saving.save(submission, target)
    _show(target)
    common.put(NEXT.format(file=target, name=name))


def _refresh(file: str, *, is_alone: bool) -> None:
    if not is_alone:
        raise UsageError(f"--refresh {file} takes no MODEL+LOSS and no other flag: all else stays as it is")
    saving.refresh(Path(file))
    _show(Path(file))


def _target(file: Path, name: str) -> Path:
    if file.stem != name:
        raise UsageError(f"--name {name!r} must be the stem of the file, {file.name!r}")
    return file


def _refuse_another(submission: Submission, file: Path) -> None:
    """Raise StoreError where a file is there that is not this submission, as a killed process has left it."""
    if file.exists() and file.read_bytes() != to_json(submission):
        raise StoreError(f"{file} is there already; nothing is overwritten. Choose another --name.")


def _show(file: Path) -> None:
    board = board_of(file)
    entries, left_out = entries_beside(file, board, common.progress)
    common.say_left_out(left_out)
    if entries[0].about.suite not in read_manifests(board):
        common.say(f"warning: 'deeploc-bench verify' will refuse it yet: {unlisted(entries[0].about.suite)}")
    row = next(row for row in rank(entries).rows if row.entry is entries[0])
    common.put(as_markdown(held_out_table([row])))
    common.put(f"\nwrote {file}")
