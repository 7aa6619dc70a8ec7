"""`deeploc-bench results`: the tables of a runs folder again, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.plan import store
from deeploc_bench.plan.plan import budget_of
from deeploc_bench.plan.protocols import PROTOCOLS
from deeploc_bench.plan.recipe import label, recorded
from deeploc_bench.results import comparisons, tables
from deeploc_bench.results.published import Entry, find_entry
from deeploc_bench.scoring.dialects import DIALECTS, Dialect, find_dialect
from deeploc_bench.scoring.rows import Cell

Trainings = Sequence[tuple[Path, dict[str, Any]]]


@click.command("results")
@click.argument("runs", default="runs")
@click.option("--dialect", "dialects", multiple=True, metavar="NAME|all", help="IoU as others define it (repeatable).")
@click.option("--published", metavar="NAME", help="Beside published numbers: poster, declip, ...")
@click.option("--curves", metavar="DIR", help="Draw validation IoU by epoch into this folder, as SVG and PNG.")
@common.json_option
def command(runs: str, dialects: tuple[str, ...], published: str | None, curves: str | None, as_json: bool) -> None:
    """Print the tables of a runs folder again; needs no data and no plugin."""
    chosen = _dialects(dialects)
    suite, entry = find_entry(published) if published else (None, None)
    found = read_cells(Path(runs))
    if suite and suite not in found:
        raise UsageError(f"--published {published} is of suite {suite!r}; {runs} holds {', '.join(found)}")
    if curves:
        _draw(Path(runs), found, Path(curves))
    if as_json:
        common.print_json([_suite_json(name, cells, chosen, entry) for name, (_, cells) in found.items()])
        return
    print("\n\n".join(_text(name, *parts, chosen, entry) for name, parts in found.items()))


def read_cells(runs: Path) -> dict[str, tuple[list[str], list[Cell]]]:
    """Return, by suite, the standard generators and the cells of every tested training below a runs folder.

    Raises StoreError where there is none.
    """
    folders = store.training_folders(runs)
    if not folders:
        raise StoreError(f"{runs} holds no training. Run 'deeploc-bench run' first, or name another folder.")
    trainings = [(folder, store.read_json(folder / "training.json") or {}) for folder in folders]
    suites: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder, inputs in trainings:
        suites.setdefault(inputs["suite"], []).append((folder, inputs))
    return {
        suite: (sorted({name for _, inputs in mine for name in inputs["standard_generators"]}), _cells(runs, mine))
        for suite, mine in sorted(suites.items())
    }


def _dialects(names: Sequence[str]) -> list[Dialect]:
    every = [name for chosen in names for name in (DIALECTS if chosen == "all" else [chosen])]
    return [find_dialect(name) for name in dict.fromkeys(every)]


def _text(suite: str, standard: list[str], cells: list[Cell], dialects: list[Dialect], entry: Entry | None) -> str:
    parts = [tables.render(suite, cells, standard)]
    if dialects:
        parts.append(comparisons.render_dialects(cells, dialects))
    if entry:
        parts.append(comparisons.render_published(cells, entry))
    return "\n\n".join(parts)


def _suite_json(suite: str, found: list[Cell], dialects: list[Dialect], entry: Entry | None) -> dict[str, Any]:
    cells = []
    for cell in found:
        value = tables.cell_json(cell)
        if dialects:
            value["dialects"] = comparisons.dialect_ious(cell, dialects)
        if entry:
            value["published"] = comparisons.published_of(cell, entry)
        cells.append(value)
    return {"suite": suite, "cells": cells}


def _draw(runs: Path, found: dict[str, tuple[list[str], list[Cell]]], folder: Path) -> None:
    from deeploc_bench.results.figures import validation_curves

    for suite, (standard, cells) in found.items():
        for group, mine in tables.grouped(cell for cell in cells if cell.loss and cell.protocol in ("same", "loo")):
            curves: dict[str, list[list[float]]] = {}
            for training, cell in {cell.training: cell for cell in mine}.items():
                name = tables.trained_on(cell.train_generators, cell.protocol, standard)
                curves.setdefault(name, []).append(store.read_validation(runs / training))
            protocol, budget, model, loss, recipe = group
            title = f"{protocol} · {suite} · {model} + {loss} · {recipe}"
            stem = f"{suite}-{protocol}-{budget}-{model}-{loss}-{recipe}".replace("*", "x").replace(", ", "-")
            for suffix, content in validation_curves(title, curves).items():
                store.write(folder / f"{stem}.{suffix}", content)
                common.say(f"drew {folder / stem}.{suffix}")


def _cells(runs: Path, trainings: Trainings) -> list[Cell]:
    own = [(folder, inputs) for folder, inputs in trainings if inputs["loss_expression"] or inputs.get("scored")]
    floors = [(folder, inputs) for folder, inputs in trainings if not inputs["loss"] and not inputs.get("scored")]
    cells = [cell for folder, inputs in own for cell in _cells_of(runs, folder, inputs)]
    pairs = dict.fromkeys((cell.protocol, cell.train_generators, cell.test_generator) for cell in cells)
    for folder, inputs in floors:
        for protocol, train, test in pairs:
            if (folder / f"test-{test}.csv").exists():
                cells.append(read_cell(runs, folder, inputs, protocol, "full", train, test))
    order = {name: place for place, name in enumerate(PROTOCOLS)}
    return sorted(cells, key=lambda c: (order.get(c.protocol, 9), c.model, c.loss or "", _place(c), c.seed))


def _place(cell: Cell) -> tuple[str, ...]:
    return (cell.test_generator,) if cell.protocol == "loo" else (*cell.train_generators, cell.test_generator)


def _cells_of(runs: Path, folder: Path, inputs: dict[str, Any]) -> Iterator[Cell]:
    train = tuple(inputs["train_generators"])
    standard = inputs["standard_generators"]
    tests = store.tested(folder)
    for test in tests:
        generator = test.partition("@")[0]
        if generator == AUTHENTIC:
            continue
        for protocol in protocols_of(train, generator, standard, tests):
            budget = budget_of(inputs) if protocol == "loo" else "full"
            yield read_cell(runs, folder, inputs, protocol, budget, train, test)


def protocols_of(train: tuple[str, ...], generator: str, standard: Sequence[str], tests: Sequence[str]) -> list[str]:
    """Return the protocols of which (train generators -> test generator) is a cell; `score` where there is none."""
    left_out = set(standard) - set(train)
    rules = {
        "cross": len(train) == 1 and set(standard) <= set(tests),
        "same": train == (generator,) or (len(train) == 1 and generator not in standard),
        "loo": bool(train) and len(left_out) == 1 and (generator in left_out or generator not in standard),
    }
    return [protocol for protocol, holds in rules.items() if holds] or ([] if len(train) == 1 else ["score"])


def read_cell(
    runs: Path, folder: Path, inputs: dict[str, Any], protocol: str, budget: str, train: tuple[str, ...], test: str
) -> Cell:
    """Return one cell from the records in a training's folder; raises StoreError where they are not there."""
    records = store.read_records(folder, test)
    if records is None:
        raise StoreError(f"{folder}: the records of {test} are missing")
    return Cell(
        protocol=protocol,
        budget=budget,
        model=inputs["model"]["name"],
        loss=inputs["loss_expression"],
        recipe=label(recorded(inputs)) if inputs["loss"] else inputs["recipe_name"],
        seed=inputs["seed"],
        train_generators=train,
        test_generator=test.partition("@")[0],
        perturbation=test.partition("@")[2],
        training=str(folder.relative_to(runs)),
        records=records,
        authentic=store.read_records(folder, AUTHENTIC),
    )
