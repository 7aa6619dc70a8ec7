"""`deeploc-bench run`: train and test by a protocol, and print the table."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.plan import store
from deeploc_bench.plan.job import Job, Prepared, prepare
from deeploc_bench.plan.plan import PlannedCell
from deeploc_bench.plan.recipe import division, label
from deeploc_bench.results import tables
from deeploc_bench.scoring.rows import Cell
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import ENGINES, Outcome, Site, to_do

DEVICES = "auto, cpu, cuda, cuda:i"
PERTURB = "Test on perturbed images too: jpeg:75, blur:2, noise:0.02, resize:0.5 (repeatable)."


@click.command("run")
@click.option(
    "--suite", default="photos", metavar="NAME|FILE.toml", show_default=True, help="Suite of generator datasets."
)
@common.data_option
@click.option("--protocol", "protocols", multiple=True, metavar="same|loo|cross", help="Protocol (repeatable). [loo]")
@click.option("--budget", default="full", metavar="full|matched", show_default=True, help="Training samples of loo.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Model (repeatable).")
@click.option("--loss", "losses", multiple=True, metavar="EXPR", help="Loss or weighted sum (repeatable). [jaccard]")
@click.option("--recipe", metavar="NAME|FILE", help="Recipe. [quick for photos, else poster]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key (repeatable).")
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0, 2**31 - 1), help="Seed (repeatable). [0]")
@click.option("--perturb", "perturbations", multiple=True, metavar="KIND:VALUE", help=PERTURB)
@common.plugin_option
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:i]", show_default=True, help="Where to train.")
@click.option("--precision", metavar="auto|fp32|bf16|fp16", help="Short for --set precision=...")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. [all cores]")
@click.option("--engine", default="local", metavar="local|ray", show_default=True, help="What runs the trainings.")
@click.option("--runs", default="runs", metavar="DIR", show_default=True, help="Folder of the artifacts.")
@click.option("--dry-run", is_flag=True, help="Print the trainings and tests, and what is already done.")
@common.json_option
def command(
    *,
    suite: str,
    data: str | None,
    protocols: tuple[str, ...],
    budget: str,
    models: tuple[str, ...],
    losses: tuple[str, ...],
    recipe: str | None,
    settings: tuple[str, ...],
    seeds: tuple[int, ...],
    perturbations: tuple[str, ...],
    plugins: tuple[str, ...],
    device: str,
    precision: str | None,
    threads: int | None,
    engine: str,
    runs: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train and test by a protocol, and print the table.

    Trainings that are finished are never repeated; one that was stopped goes on after its last finished epoch.
    """
    if engine not in ENGINES:
        raise UsageError(unknown("engine", engine, ENGINES))
    if device not in ("auto", "cpu", "cuda") and not (device[:5] == "cuda:" and device[5:].isdigit()):
        raise UsageError(f"--device {device!r} cannot be. Allowed: {DEVICES}.")
    job = Job(
        suite=suite,
        data=data,
        protocols=protocols,
        budget=budget,
        models=models,
        losses=losses,
        recipe=recipe,
        settings=(*settings, f"precision={precision}") if precision else settings,
        seeds=seeds,
        perturbations=perturbations,
        plugins=common.plugin_requests(plugins),
    )
    prepared = prepare(job, common.progress, common.load(plugins))
    for line in prepared.warnings:
        common.say(line)
    threads = threads or max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    site = Site(runs=Path(runs), device=device, threads=threads, progress=common.progress, say=common.say)
    if dry_run:
        print(_plan_text(prepared, site.runs))
        return
    outcome = ENGINES[engine](prepared, site)
    if ranks.is_leader():
        _print(prepared, site.runs, outcome, as_json)
    sys.exit(1 if outcome.failed else 0)


def _print(prepared: Prepared, runs: Path, outcome: Outcome, as_json: bool) -> None:
    for place, reason in outcome.failed.items():
        common.say(f"failed: {place}: {reason}")
    cells = [_cell(prepared, cell, runs) for cell in prepared.plan.cells if cell.training.place not in outcome.failed]
    if as_json:
        common.print_json(
            {
                "suite": prepared.suite.name,
                "cells": [tables.cell_json(cell) for cell in cells],
                "trained": len(outcome.trained),
                "reused": len(outcome.reused),
                "failed": _failed_json(prepared, outcome),
            }
        )
        return
    print(tables.render(prepared.suite.name, cells, prepared.suite.standard))
    print(f"\n{len(outcome.trained)} trained, {len(outcome.reused)} reused, {len(outcome.failed)} failed · {runs}")


def _cell(prepared: Prepared, planned: PlannedCell, runs: Path) -> Cell:
    training = planned.training
    folder = runs / training.place
    records = store.read_records(folder, planned.test)
    assert records is not None
    return Cell(
        protocol=planned.protocol,
        budget=planned.budget,
        model=training.model.spec.name,
        loss=training.loss.text if training.loss else None,
        recipe=label(training.recipe),
        seed=training.seed,
        train_generators=planned.train_generators,
        test_generator=planned.test_generator,
        perturbation=planned.perturbation,
        training=training.place,
        records=records,
        authentic=store.read_records(folder, AUTHENTIC),
    )


def _failed_json(prepared: Prepared, outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "protocol": cell.protocol,
            "model": cell.training.model.spec.name,
            "loss": cell.training.loss.text if cell.training.loss else None,
            "seed": cell.training.seed,
            "train_generators": list(cell.train_generators),
            "test_generator": cell.test_generator,
            "reason": outcome.failed[cell.training.place],
        }
        for cell in prepared.plan.cells
        if cell.training.place in outcome.failed
    ]


def _plan_text(prepared: Prepared, runs: Path) -> str:
    remaining = to_do(prepared, runs)
    lines = []
    for training, tests in prepared.plan.tests.items():
        folder = runs / training.place
        epochs = training.recipe.epochs
        if training.loss is None:
            state = "never trained"
        elif store.is_trained(folder):
            state = "trained"
        else:
            state = f"to train, {store.finished_epochs(folder)} of {epochs} epochs done, {len(training.train)} samples"
        left = remaining.get(training, [])
        rating = division(training.recipe, training.model.spec.pretraining) if training.loss else "open"
        lines.append(f"{training.place}\n    {label(training.recipe)} ({rating} division) · {state}")
        lines += [f"    test on {test}: {'to do' if test in left else 'done'}" for test in tests]
    trainings = sum(1 for training in remaining if training.loss and not store.is_trained(runs / training.place))
    tests_left = sum(len(tests) for tests in remaining.values())
    return "\n".join([*lines, f"{trainings} trainings and {tests_left} tests to do"])
