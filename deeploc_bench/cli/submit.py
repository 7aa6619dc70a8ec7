"""`deeploc-bench submit`: finished trainings as one file that anybody can recompute."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.leaderboard.collect import UNTRAINED, Wish, collect
from deeploc_bench.leaderboard.page import row_of
from deeploc_bench.leaderboard.submission import to_json
from deeploc_bench.plan import store

NEXT = """next:
  deeploc-bench verify {file}
  deeploc-bench leaderboard
  git add {file} leaderboard/README.md leaderboard/figures && git commit -m "Submit {name}"
  and open a pull request"""


@click.command("submit")
@click.argument("what", metavar="MODEL+LOSS")
@click.option("--suite", default="photos", show_default=True, metavar="NAME", help="Suite of the trainings.")
@click.option("--recipe", metavar="NAME", help="Recipe, where trainings of several are there.")
@click.option("--budget", metavar="full|matched", help="Budget of loo, where both are there.")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0), help="Seed (repeatable). [all complete ones]")
@click.option("--name", metavar="NAME", help="Name of the submission. [the output file's]")
@click.option("--contact", required=True, metavar="TEXT", help="Whom to ask: a name, an address, a handle.")
@click.option("--reference", metavar="LINK", help="Paper or page, https.")
@click.option("--code", metavar="LINK", help="Where the code is, https.")
@click.option("--license", "license_", metavar="TEXT", help="Licence of the code.")
@click.option("--reproduces", metavar="NAME", help="The submission of another party that this one repeats.")
@click.option(
    "--pretraining-generator", "seen", multiple=True, metavar="G", help="A generator the pretraining has seen."
)
@click.option("--speed", "speed_file", metavar="FILE", help="Output of deeploc-bench speed MODEL --json.")
@click.option("--date", metavar="YYYY-MM-DD", help="Date of the submission. [today]")
@click.option("--runs", default="runs", metavar="DIR", show_default=True, help="Folder of the artifacts.")
@click.option("-o", "--output", metavar="FILE", help="File. [leaderboard/submissions/SUITE/NAME.json]")
def command(
    *,
    what: str,
    suite: str,
    recipe: str | None,
    budget: str | None,
    seeds: tuple[int, ...],
    name: str | None,
    contact: str,
    reference: str | None,
    code: str | None,
    license_: str | None,
    reproduces: str | None,
    seen: tuple[str, ...],
    speed_file: str | None,
    date: str | None,
    runs: str,
    output: str | None,
) -> None:
    """Collect the finished trainings of a model and a loss (or of a trivial baseline) into a submission; no network."""
    model, _, loss = what.partition("+")
    name = name or (Path(output).stem if output else what.replace("+", "-").replace("*", "x"))
    target = Path(output) if output else Path("leaderboard/submissions") / suite / f"{name}.json"
    if target.stem != name:
        raise UsageError(f"--name {name!r} must be the stem of the file, {target.name!r}")
    if target.exists():
        raise StoreError(f"{target} is there already; nothing is overwritten. Choose another --name.")
    wish = Wish(suite=suite, model=model, loss=loss or UNTRAINED, recipe=recipe, budget=budget, seeds=seeds)
    facts = {
        "name": name,
        "contact": contact,
        "date": date or datetime.date.today().isoformat(),
        "reference": reference,
        "code": code,
        "license": license_,
        "reproduces": reproduces,
        "pretraining_generators": sorted(seen),
        "speed": _speed(Path(speed_file), model) if speed_file else None,
    }
    submission = collect(Path(runs), wish, facts)
    store.write(target, to_json(submission))
    print(row_of(submission))
    print(f"\nwrote {target}\n{NEXT.format(file=target, name=name)}")


def _speed(file: Path, model: str) -> dict[str, Any]:
    try:
        measured = {entry["model"]: entry for entry in json.loads(file.read_text("utf-8"))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"--speed {file} is no output of 'deeploc-bench speed {model} --json': {error}") from None
    if model not in measured:
        raise UsageError(f"--speed {file} measured {', '.join(measured)}, not {model}")
    return {key: value for key, value in measured[model].items() if key not in ("model", "pytest_benchmark")}
