"""`deeploc-bench score`: predictions made elsewhere, scored like any training's."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.cli.results import protocols_of, read_cell
from deeploc_bench.contract.errors import StoreError, UsageError, unknown
from deeploc_bench.contract.findings import refuse
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import AUTHENTIC, NAME_PATTERN
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Suite, load_suite
from deeploc_bench.data.survey import survey
from deeploc_bench.plan import store
from deeploc_bench.plan.plan import BASELINES, SCHEMA
from deeploc_bench.results import tables
from deeploc_bench.scoring.metrics import false_alarm_area
from deeploc_bench.scoring.records import Records, to_csv
from deeploc_bench.scoring.rows import Cell


@click.command("score")
@click.argument("predictions")
@click.option("--suite", required=True, metavar="NAME|FILE.toml", help="Suite that the predictions are of.")
@click.option("--generator", required=True, metavar="NAME", help="Generator dataset whose test images were predicted.")
@click.option("--name", required=True, metavar="NAME", help="What to call whatever made the predictions.")
@click.option("--trained-on", metavar="G,...", help="What it was trained on; without it there is no held-out row.")
@common.data_option
@common.plugin_option
@click.option("--runs", default="runs", metavar="DIR", show_default=True, help="Folder of the artifacts.")
@common.json_option
def command(
    *,
    predictions: str,
    suite: str,
    generator: str,
    name: str,
    trained_on: str | None,
    data: str | None,
    plugins: tuple[str, ...],
    runs: str,
    as_json: bool,
) -> None:
    """Score heatmaps or masks made elsewhere, one file a test image, called by its id: PNG, NPY or NPZ, of any size.

    They become records like any training's, in the open division.
    """
    from deeploc_bench.training.predictions import score_predictions

    registry = common.load(plugins)
    _check_name(name, registry)
    loaded = load_suite(registry, suite, data=Path(data) if data else None, progress=common.progress)
    refuse(f"suite {loaded.name!r}", survey(loaded))
    if generator not in loaded.generators:
        raise UsageError(unknown("generator", generator, loaded.generators))
    train = _trained_on(trained_on, loaded)
    packed = loaded.generators[generator].splits["test"]
    with common.progress(f"score {generator}", len(packed)) as tick:
        records = score_predictions(Path(predictions), packed, tick)
    inputs = _inputs(loaded, name, train)
    folder = Path(runs) / loaded.name / name / ("+".join(train) or "undeclared") / f"seed0-{inputs['identity'][:8]}"
    _keep(folder, inputs, generator, records, packed.fingerprint)
    cells = [
        read_cell(Path(runs), folder, inputs, protocol, "full", train, generator)
        for protocol in protocols_of(train, generator, loaded.standard, [generator]) or ["score"]
        if generator != AUTHENTIC
    ]
    cells += [_floor(registry, model, cell, packed) for cell in cells[:1] for model in BASELINES]
    _print(loaded, cells, records, as_json)


def _check_name(name: str, registry: Registry) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--name {name!r} does not match {NAME_PATTERN}")
    if name in registry.models:
        raise UsageError(f"--name {name!r} is a model of plugin {registry.models[name].plugin.name!r}; choose another")


def _trained_on(text: str | None, suite: Suite) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in (text or "").split(",") if name.strip()}))
    for name in names:
        if name not in suite.standard:
            raise UsageError(f"--trained-on: {unknown('generator', name, suite.standard)}")
    return names


def _inputs(suite: Suite, name: str, train: tuple[str, ...]) -> dict[str, Any]:
    depends = {"schema": SCHEMA, "scored": name, "suite": suite.name, "train_generators": train}
    return {
        "identity": hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest(),
        "scored": True,
        "division": "open",
        "suite": suite.name,
        "standard_generators": suite.standard,
        "train_generators": train,
        "train_samples": [],
        "available_samples": [],
        "loss_expression": None,
        "recipe_name": "made elsewhere",
        "pretraining": None,
        "schema": SCHEMA,
        "model": {"name": name},
        "loss": None,
        "seed": 0,
    }


def _keep(folder: Path, inputs: dict[str, Any], generator: str, records: Records, fingerprint: str) -> None:
    with store.locked(folder):
        before = store.read_records(folder, generator)
        if before is not None and to_csv(before) != to_csv(records):
            raise StoreError(
                f"{folder} holds other records of {generator}; nothing is overwritten. Choose another --name or "
                "--runs, or delete them first."
            )
        store.write_json(folder / "training.json", inputs)
        store.write_records(folder, generator, records, fingerprint)


def _floor(registry: Registry, model: str, cell: Cell, packed: Pack) -> Cell:
    import dataclasses

    import torch

    from deeploc_bench.plan.recipe import load_recipe
    from deeploc_bench.training.build import build_model
    from deeploc_bench.training.evaluate import Localizer, evaluate

    owned = registry.model(model)
    localizer = Localizer(
        module=build_model(owned, load_recipe("quick")),
        model=owned,
        device=torch.device("cpu"),
        precision="fp32",
        input_size=None,
    )
    return dataclasses.replace(
        cell, model=model, recipe="quick", training="", records=evaluate(localizer, packed), authentic=None
    )


def _print(suite: Suite, cells: list[Cell], records: Records, as_json: bool) -> None:
    if as_json:
        values = [tables.cell_json(cell) for cell in cells]
        common.print_json({"suite": suite.name, "cells": values, "trained": 0, "reused": 0, "failed": []})
    elif cells:
        print(tables.render(suite.name, cells, suite.standard))
    else:
        print(f"{len(records)} authentic images · false alarm area {false_alarm_area(records):.4f}")
