"""`deeploc-bench test`: finished trainings on other suites than theirs."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from deeploc_bench.api.test import begun, tested
from deeploc_bench.cli import common
from deeploc_bench.plan.job import Job, Prepared
from deeploc_bench.training.engines import to_do
from deeploc_bench.training.workplace import Workplace

SUITE = "Suite to test on, another than the training's (repeatable)."
PERTURB = "Test on perturbed images too: jpeg:75, blur:2, noise:0.02, resize:0.5 (repeatable)."


@click.command("test")
@click.argument("trainings", nargs=-1, required=True, metavar="TRAINING...")
@click.option("--suite", "suites", multiple=True, required=True, metavar="NAME|FILE.toml", help=SUITE)
@common.data_option
@click.option("--perturb", "perturbations", multiple=True, metavar="KIND:VALUE", help=PERTURB)
@common.plugin_option
@common.device_option("test")
@common.runs_option
@common.json_option
def command(
    *, trainings: tuple[str, ...], suites: tuple[str, ...], device: str, runs: str, as_json: bool, **asked: Any
) -> None:
    """Test finished trainings on other suites than theirs, and print the tables.

    A training is its folder, or one that holds several; the baselines in the runs folder are tested beside them. What
    was tested before is not tested again. A test image that was trained on is an error.
    """
    job, registry = Job(**asked), common.load(asked["plugins"])
    every = begun(job, suites, trainings, registry, runs=Path(runs), device=device, is_debug=common.is_debug())
    before, planned = _left(every), sum(len(tests) for prepared, _ in every for tests in prepared.plan.tests.values())
    found = tested(every)
    if as_json:
        counts = {"trained": found.trained, "reused": found.reused, "failed": found.failed}
        names = "+".join(prepared.suite.name for prepared, _ in every)
        common.print_json({"suite": names, "cells": found.scores(), **counts})
    else:
        common.put(f"{found}\n")
        after = _left(every)
        common.put(f"{before - after} tests done, {planned - before} reused, {after} failed · {every[0][1].runs}")
    sys.exit(1 if found.failed else 0)


def _left(every: Iterable[tuple[Prepared, Workplace]]) -> int:
    """Return how many tests are yet to be done."""
    return sum(len(tests) for prepared, place in every for _, tests in to_do(prepared, place)[0])
