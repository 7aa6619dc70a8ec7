"""`deeploc-bench results`: the tables of a runs folder again, from its records alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.files import write
from deeploc_bench.results.cells import Cell, grouped, read_cells
from deeploc_bench.results.published import Publication, find_publication, published_of, published_tables
from deeploc_bench.results.render import as_text
from deeploc_bench.results.tables import cell_json, dialect_ious, dialect_table, score_tables, title
from deeploc_bench.scoring.dialects import DIALECTS, Dialect, find_dialect


@click.command("results")
@click.argument("runs", default="runs")
@click.option("--dialect", "dialects", multiple=True, metavar="NAME|all", help="IoU as others define it (repeatable).")
@click.option("--published", metavar="NAME", help="Beside published numbers: poster, declip, ...")
@click.option("--curves", metavar="DIR", help="Draw validation IoU by epoch into this folder, as SVG and PNG.")
@common.json_option
def command(runs: str, dialects: tuple[str, ...], published: str | None, curves: str | None, as_json: bool) -> None:
    """Print the tables of a runs folder again; needs no data and no plugin."""
    chosen = _dialects(dialects)
    suite, entry = find_publication(published) if published else (None, None)
    suites = grouped(read_cells(Path(runs)), lambda cell: cell.facts.suite)
    if suite and suite not in suites:
        raise UsageError(f"--published {published} is of suite {suite!r}; {runs} holds {', '.join(suites)}")
    if curves:
        _draw(suites, Path(curves))
    if as_json:
        found = {name: [_cell_json(cell, chosen, entry) for cell in cells] for name, cells in suites.items()}
        common.print_json([{"suite": name, "cells": cells} for name, cells in found.items()])
        return
    tables = []
    for cells in suites.values():
        tables += score_tables(cells) + ([dialect_table(cells, chosen)] if chosen else [])
        tables += published_tables(cells, entry) if entry else []
    if tables:
        print(as_text(*tables))


def _dialects(names: Sequence[str]) -> list[Dialect]:
    every = [name for chosen in names for name in (DIALECTS if chosen == "all" else [chosen])]
    return [find_dialect(name) for name in dict.fromkeys(every)]


def _cell_json(cell: Cell, dialects: Sequence[Dialect], entry: Publication | None) -> dict[str, Any]:
    value = cell_json(cell)
    value |= {"dialects": dialect_ious(cell, dialects)} if dialects else {}
    return value | ({"published": published_of(cell, entry)} if entry else {})


def _draw(suites: Mapping[str, Sequence[Cell]], folder: Path) -> None:
    from deeploc_bench.results.figures import curves_of, validation_curves

    for suite, cells in suites.items():
        drawn = [cell for cell in cells if cell.facts.loss and cell.protocol in ("same", "loo")]
        for group in grouped(drawn, lambda cell: cell.group).values():
            first = group[0]
            names = (suite, first.protocol, first.budget, first.facts.what.replace(" + ", "-"), first.recipe)
            stem = "-".join((*names, first.facts.experiment[:8])).replace("*", "x").replace(", ", "-")
            for suffix, content in validation_curves(title(first), curves_of(group)).items():
                write(folder / f"{stem}.{suffix}", content)
                common.say(f"drew {folder / stem}.{suffix}")
