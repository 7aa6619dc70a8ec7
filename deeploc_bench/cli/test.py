"""`deeploc-bench test`: finished trainings on another suite than theirs."""

import sys
from pathlib import Path
from typing import Any

import click

from deeploc_bench.api.test import begun, tested
from deeploc_bench.cli import common
from deeploc_bench.plan.job import Job, Prepared
from deeploc_bench.training.engines import to_do
from deeploc_bench.training.workplace import Workplace

PERTURB = "Test on perturbed images too: jpeg:75, blur:2, noise:0.02, resize:0.5 (repeatable)."


@click.command("test")
@click.argument("trainings", nargs=-1, required=True, metavar="TRAINING...")
@click.option("--suite", required=True, metavar="NAME|FILE.toml", help="Suite to test on, another than the training's.")
@common.data_option
@click.option("--perturb", "perturbations", multiple=True, metavar="KIND:VALUE", help=PERTURB)
@common.plugin_option
@common.device_option("test")
@common.runs_option
@common.json_option
def command(*, trainings: tuple[str, ...], device: str, runs: str, as_json: bool, **asked: Any) -> None:
    """Test finished trainings on another suite than theirs, and print the tables.

    A training is its folder, or one that holds several; the baselines in the runs folder are tested beside them. What
    was tested before is not tested again. A test image that was trained on is an error.
    """
    job, registry = Job(**asked), common.load(asked["plugins"])
    prepared, place = begun(job, trainings, registry, runs=Path(runs), device=device, is_debug=common.is_debug())
    before, every = _left(prepared, place), sum(map(len, prepared.plan.tests.values()))
    found = tested(prepared, place)
    if as_json:
        counts = {"trained": found.trained, "reused": found.reused, "failed": found.failed}
        common.print_json({"suite": prepared.suite.name, "cells": found.scores(), **counts})
    else:
        common.put(f"{found}\n")
        after = _left(prepared, place)
        common.put(f"{before - after} tests done, {every - before} reused, {after} failed · {place.runs}")
    sys.exit(1 if found.failed else 0)


def _left(prepared: Prepared, place: Workplace) -> int:
    """Return how many tests are yet to be done."""
    return sum(len(tests) for _, tests in to_do(prepared, place)[0])
