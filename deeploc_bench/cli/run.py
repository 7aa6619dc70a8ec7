"""`deeploc-bench run`: train and test by a protocol, and print the table."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from deeploc_bench.api.results import Results
from deeploc_bench.api.run import ENGINES, MOST_PER_GPU, begun, check_engine, results_of
from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError
from deeploc_bench.plan import store
from deeploc_bench.plan.job import DEFAULT_SUITE, Job, Prepared
from deeploc_bench.plan.recipe import division, label
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import to_do
from deeploc_bench.training.workplace import Workplace

PERTURB = "Test on perturbed images too: jpeg:75, blur:2, noise:0.02, resize:0.5 (repeatable)."
SUITE = "Suite to run on; repeated, a suite of them all."
PER_GPU = "Trainings that share a GPU, by --engine ray."


@click.command("run")
@click.option(
    "--suite", "suites", multiple=True, default=[DEFAULT_SUITE], metavar="NAME|FILE.toml", show_default=True, help=SUITE
)
@common.data_option
@click.option(
    "--protocol", "protocols", multiple=True, metavar="same|loo|cross|lodo", help="Protocol (repeatable). [loo]"
)
@click.option(
    "--budget", default="full", metavar="full|matched", show_default=True, help="Training samples of loo, lodo."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|FILE.toml",
    help="Model, or a detector's description (repeatable). [the suite's default]",
)
@click.option("--loss", "losses", multiple=True, metavar="EXPR", help="Loss or weighted sum (repeatable). [jaccard]")
@click.option("--recipe", metavar="NAME|FILE", help="Recipe. [the suite's default]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key (repeatable).")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0, 2**31 - 1), help="Seed (repeatable). [0]")
@click.option("--perturb", "perturbations", multiple=True, metavar="KIND:VALUE", help=PERTURB)
@common.plugin_option
@common.device_option("train")
@click.option("--precision", metavar="auto|fp32|bf16|fp16", help="Short for --set precision=...")
@common.threads_option
@click.option("--engine", default="local", metavar="local|ray", show_default=True, help="What runs the trainings.")
@click.option("--per-gpu", type=click.IntRange(1, MOST_PER_GPU), default=1, metavar="N", help=PER_GPU)
@common.runs_option
@click.option("--dry-run", is_flag=True, help="Print the trainings and tests, and what is already done.")
@common.json_option
def command(
    *,
    suites: tuple[str, ...],
    settings: tuple[str, ...],
    device: str,
    precision: str | None,
    threads: int,
    engine: str,
    per_gpu: int,
    runs: str,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Train and test by a protocol, and print the table.

    Trainings that are finished are never repeated; one that was stopped goes on after its last finished epoch.
    """
    check_engine(engine, per_gpu)
    if dry_run and as_json:
        raise UsageError("--dry-run prints text; leave --json out")
    settings = (*settings, f"precision={precision}") if precision else settings
    job, registry = Job(suite="+".join(suites), settings=settings, **asked), common.load(asked["plugins"])
    is_asked = click.get_current_context().get_parameter_source("threads") is not ParameterSource.DEFAULT
    prepared, place = begun(
        job,
        registry,
        runs=Path(runs),
        device=device,
        threads=threads if is_asked else None,
        per_gpu=per_gpu,
        is_debug=common.is_debug(),
    )
    if dry_run:
        common.put(_plan_text(prepared, place))
        return
    found = results_of(prepared, place.runs, ENGINES[engine](prepared, place))
    if ranks.is_leader():
        _print(prepared.suite.name, found, runs, as_json)
    sys.exit(1 if found.failed else 0)


def _print(suite: str, found: Results, runs: str, as_json: bool) -> None:
    if as_json:
        counts = {"trained": found.trained, "reused": found.reused, "failed": found.failed}
        common.print_json({"suite": suite, "cells": found.scores(), **counts})
    else:
        if found.failed and all(cell.facts.baseline for cell in found.cells):
            common.say("all that was asked for failed, so that there are no scores to show")
        else:
            common.put(f"{found}\n")
        common.put(f"{found.trained} trained, {found.reused} reused, {len(found.failed)} failed · {runs}")


def _plan_text(prepared: Prepared, place: Workplace) -> str:
    remaining = {training.facts.identity: tests for training, tests in to_do(prepared, place)[0]}
    lines, states = [], Counter[str]()
    for identity, training in prepared.plan.trainings.items():
        folder, epochs = place.runs / training.place, training.recipe.epochs
        if not training.facts.is_learned:
            state = "trained elsewhere" if training.facts.is_detector else "never trained"
        elif store.is_trained(folder):
            state = training.facts.kind
        elif training.loss is None:
            state = f"to fit, {len(training.train)} samples"
        else:
            state = f"to train, {store.finished_epochs(folder)} of {epochs} epochs done, {len(training.train)} samples"
        left = remaining.get(identity, [])
        states.update(trainings=state.startswith("to train"), fits=state.startswith("to fit"), tests=len(left))
        rating = division(training.facts.recipe, training.facts.pretraining)
        lines.append(f"{training.place}\n    {label(training.recipe)} ({rating} division) · {state}")
        tests = prepared.plan.tests[identity]
        lines += [f"    test on {tested.name}: {'to do' if tested in left else 'done'}" for tested in tests]
    totals = f"{states['trainings']} trainings, {states['fits']} fits of baselines and {states['tests']} tests to do"
    return "\n".join([*lines, totals])
