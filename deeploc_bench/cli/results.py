"""`deeploc-bench results`: the tables of a runs folder again, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from deeploc_bench.cli import common, tables
from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.scoring.rows import Cell
from deeploc_bench.training import store
from deeploc_bench.training.protocols import PROTOCOLS
from deeploc_bench.training.recipe import Recipe, label


@click.command("results")
@click.argument("runs", default="runs")
@common.json_option
def command(runs: str, as_json: bool) -> None:
    """Print the tables of a runs folder again; needs no data and no plugin."""
    folders = store.training_folders(Path(runs))
    if not folders:
        raise StoreError(f"{runs} holds no training. Run 'deeploc-bench run' first, or name another folder.")
    trainings = [(folder, store.read_json(folder / "training.json") or {}) for folder in folders]
    suites = sorted({inputs["suite"] for _, inputs in trainings})
    found = {suite: _cells(Path(runs), suite, trainings) for suite in suites}
    if as_json:
        common.print_json(
            [{"suite": suite, "cells": [tables.cell_json(cell) for cell in cells]} for suite, cells in found.items()]
        )
        return
    print("\n\n".join(tables.render(suite, cells, _standard(suite, trainings)) for suite, cells in found.items()))


def _standard(suite: str, trainings: Sequence[tuple[Path, dict[str, Any]]]) -> list[str]:
    mine = [inputs["standard_generators"] for _, inputs in trainings if inputs["suite"] == suite]
    return sorted({name for names in mine for name in names})


def _cells(runs: Path, suite: str, trainings: Sequence[tuple[Path, dict[str, Any]]]) -> list[Cell]:
    cells = [
        cell
        for folder, inputs in trainings
        if inputs["suite"] == suite and inputs["loss_expression"]
        for cell in _cells_of(runs, folder, inputs)
    ]
    floors = [(folder, inputs) for folder, inputs in trainings if inputs["suite"] == suite and not inputs["loss"]]
    pairs = dict.fromkeys((cell.protocol, cell.train_generators, cell.test_generator) for cell in cells)
    for folder, inputs in floors:
        for protocol, train, test in pairs:
            if (folder / f"test-{test}.csv").exists():
                cells.append(_cell(runs, folder, inputs, protocol, "full", train, test))
    order = {name: place for place, name in enumerate(PROTOCOLS)}
    return sorted(cells, key=lambda c: (order[c.protocol], c.model, c.loss or "", _place(c), c.seed))


def _place(cell: Cell) -> tuple[str, ...]:
    return (cell.test_generator,) if cell.protocol == "loo" else (*cell.train_generators, cell.test_generator)


def _cells_of(runs: Path, folder: Path, inputs: dict[str, Any]) -> Iterator[Cell]:
    train = tuple(inputs["train_generators"])
    standard = inputs["standard_generators"]
    others = set(standard) - set(train)
    is_full = inputs["train_samples"] == inputs["available_samples"]
    tests = sorted(path.stem.removeprefix("test-") for path in folder.glob("test-*.csv"))
    for test in tests:
        if test == AUTHENTIC:
            continue
        if len(train) == 1 and set(standard) <= set(tests):
            yield _cell(runs, folder, inputs, "cross", "full", train, test)
        if train == (test,) or (len(train) == 1 and test not in standard):
            yield _cell(runs, folder, inputs, "same", "full", train, test)
        if len(others) == 1 and (test in others or test not in standard):
            yield _cell(runs, folder, inputs, "loo", "full" if is_full else "matched", train, test)


def _cell(
    runs: Path, folder: Path, inputs: dict[str, Any], protocol: str, budget: str, train: tuple[str, ...], test: str
) -> Cell:
    records = store.read_records(folder, test)
    if records is None:
        raise StoreError(f"{folder}: the records of {test} are missing")
    recipe = msgspec.convert({"name": inputs["recipe_name"], **inputs["recipe"]}, Recipe) if inputs["loss"] else None
    return Cell(
        protocol=protocol,
        budget=budget,
        model=inputs["model"]["name"],
        loss=inputs["loss_expression"],
        recipe=label(recipe) if recipe else inputs["recipe_name"],
        seed=inputs["seed"],
        train_generators=train,
        test_generator=test,
        training=str(folder.relative_to(runs)),
        records=records,
        authentic=store.read_records(folder, AUTHENTIC),
    )
