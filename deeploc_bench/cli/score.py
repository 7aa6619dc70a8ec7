"""`deeploc-bench score`: predictions made elsewhere, scored like any training's."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import msgspec

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import AUTHENTIC, NAME_PATTERN, NAME_RULE
from deeploc_bench.data.suites import Suite
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Code, TrainingFacts, identified, keeping_added
from deeploc_bench.plan.job import Job, prepare_baselines
from deeploc_bench.plan.plan import untrained_facts
from deeploc_bench.plan.store import Tested
from deeploc_bench.results.cells import cells_in
from deeploc_bench.results.render import as_text
from deeploc_bench.results.tables import cell_json, score_tables
from deeploc_bench.scoring.metrics import false_alarm_area
from deeploc_bench.scoring.records import Records, to_csv


@click.command("score")
@click.argument("predictions")
@click.option("--suite", required=True, metavar="NAME|FILE.toml", help="Suite that the predictions are of.")
@click.option("--generator", required=True, metavar="NAME", help="Generator dataset whose test images were predicted.")
@click.option("--name", required=True, metavar="NAME", help="What to call whatever made the predictions.")
@click.option("--trained-on", metavar="G,...", help="What it was trained on; without it there is no held-out row.")
@common.data_option
@common.plugin_option
@common.runs_option
@common.json_option
def command(
    *, predictions: str, generator: str, name: str, trained_on: str | None, runs: str, as_json: bool, **asked: Any
) -> None:
    """Score heatmaps or masks made elsewhere, one file a test image, called by its id: PNG, NPY or NPZ, of any size.

    They become records like any training's, in the open division.
    """
    from deeploc_bench.training.engines import Workplace, run_local
    from deeploc_bench.training.predictions import score_predictions

    registry = common.load(asked["plugins"])
    _check_name(name, registry)
    train = {one.strip() for one in (trained_on or "").split(",") if one.strip()}
    prepared = prepare_baselines(Job(**asked), registry, common.progress, generator=generator, trained_on=train)
    facts = _facts(prepared.suite, name, train)
    pack = prepared.suite.generators[generator].splits["test"]
    with common.progress(f"score {generator}", len(pack)) as tick:
        records = score_predictions(Path(predictions), pack, tick)
    _keep(Path(runs), facts, Tested(generator=generator), records, pack.fingerprint)
    if generator == AUTHENTIC and not as_json:
        print(f"{len(records)} authentic images · false alarm area {false_alarm_area(records):.4f}")
        return
    # the baselines are kept beside the row, so that `results` prints what is printed here
    place = Workplace(runs=Path(runs), device="cpu", threads=common.cores(), progress=common.progress, say=common.say)
    for identity, reason in run_local(prepared, place).failed.items():
        common.say(f"failed: {prepared.plan.trainings[identity].title}: {reason}")
    folders = [place.runs / training.place for training in prepared.plan.trainings.values()]
    found = cells_in([Path(runs) / store.place_of(facts), *folders])
    own = {(cell.protocol, cell.pair) for cell in found if cell.facts.identity == facts.identity}
    cells = [c for c in found if c.pair.test_generator == generator and (c.protocol, c.pair) in own]
    if as_json:
        values = [cell_json(cell) for cell in cells]
        common.print_json({"suite": prepared.suite.name, "cells": values, "trained": 0, "reused": 0, "failed": []})
    else:
        print(as_text(*score_tables(cells)))


def _check_name(name: str, registry: Registry) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--name is {name!r}; expected {NAME_RULE}")
    if name in registry.models:
        raise UsageError(f"--name {name!r} is a model of plugin {registry.models[name].plugin.name!r}; choose another")


def _facts(suite: Suite, name: str, trained_on: Collection[str]) -> TrainingFacts:
    facts = untrained_facts(suite, "scored", Code(name=name, distribution=None, version=None, source=None))
    train = tuple(one for one in suite.standard if one in trained_on)
    return identified(msgspec.structs.replace(facts, train_generators=train))


def _keep(runs: Path, facts: TrainingFacts, tested: Tested, records: Records, data: str) -> None:
    folder = runs / store.place_of(facts)
    with store.locked(folder):
        before = store.read_records(folder, tested, data)
        if before is not None and to_csv(before) != to_csv(records):
            raise StoreError(
                f"{folder} holds other records of {tested.name}; nothing is overwritten. Choose another --name or "
                "--runs, or delete them first."
            )
        if (folder / "training.json").exists():
            facts = keeping_added(facts, store.read_facts(folder))
        store.write_facts(folder, facts)
        store.write_records(folder, tested, records, data)
