"""`deeploc-bench results`: the tables of runs folders again, from their records alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.files import write
from deeploc_bench.results.cells import Cell, grouped, read_cells
from deeploc_bench.results.export import long_table
from deeploc_bench.results.published import Publication, find_publication, published_of, published_tables
from deeploc_bench.results.render import FORMATS, Table
from deeploc_bench.results.sections import title
from deeploc_bench.results.tables import VIEWS, View, cell_json, dialect_ious, dialect_tables, score_tables
from deeploc_bench.scoring.dialects import DIALECTS, Dialect, find_dialect

CSV, JSON = "csv", "json"


@click.command("results")
@click.argument("runs", nargs=-1)
@click.option("--dialect", "dialects", multiple=True, metavar="NAME|all", help="IoU as others define it (repeatable).")
@click.option("--published", metavar="NAME", help="Beside published numbers: poster, declip, ...")
@click.option("--by", metavar="area|generator|seed", help="IoU by mask area, or a line a method, or a column a seed.")
@click.option("--format", "form", default="text", metavar="|".join([*FORMATS, JSON]), show_default=True, help="Form.")
@click.option("--curves", metavar="DIR", help="Draw validation IoU by epoch into this folder, as SVG and PNG.")
@common.json_option
def command(
    *,
    runs: tuple[str, ...],
    dialects: tuple[str, ...],
    published: str | None,
    by: str | None,
    form: str,
    curves: str | None,
    as_json: bool,
) -> None:
    """Print the tables of runs folders [runs] again; several are read as one. Needs no data and no plugin."""
    if as_json and form != JSON and (by or form != "text"):
        raise UsageError("--json prints cells; leave --by and --format out")
    form = JSON if as_json else form
    _check(by, form, [by, dialects, published])
    chosen = _dialects(dialects)
    suite, entry = find_publication(published) if published else (None, None)
    suites = grouped(read_cells(*map(Path, runs or ["runs"])), lambda cell: cell.facts.suite)
    if suite and suite not in suites:
        raise UsageError(f"--published {published} is of suite {suite!r}; the runs hold: {', '.join(suites) or 'none'}")
    if curves:
        _draw(suites, Path(curves))
    if form == JSON:
        common.print_json([{"suite": name, "cells": _json(cells, chosen, entry)} for name, cells in suites.items()])
        return
    tables = _tables(suites, VIEWS[by] if by else None, form, chosen, entry)
    if tables:
        print(FORMATS[form](*tables))


def _check(by: str | None, form: str, kinds: Sequence[object]) -> None:
    if by is not None and by not in VIEWS:
        raise UsageError(f"--by: {unknown('view', by, VIEWS)}")
    if form not in (*FORMATS, JSON):
        raise UsageError(f"--format: {unknown('format', form, [*FORMATS, JSON])}")
    if by and form == JSON:
        raise UsageError("--format json prints cells; leave --by out")
    if form == CSV and sum(map(bool, kinds)) > 1:
        raise UsageError("--format csv prints one kind of table: choose one of --by, --dialect and --published")


def _tables(
    suites: Mapping[str, Sequence[Cell]],
    view: View | None,
    form: str,
    dialects: Sequence[Dialect],
    entry: Publication | None,
) -> list[Table]:
    """Return what was asked for; by default the scores, for csv as one table of a value a column."""
    if form == CSV and not (view or dialects or entry):
        return [long_table([cell for cells in suites.values() for cell in cells])]
    tables = []
    for cells in suites.values():
        tables += view(cells) if view else [] if form == CSV else score_tables(cells)
        tables += dialect_tables(cells, dialects) if dialects else []
        tables += published_tables(cells, entry) if entry else []
    return tables


def _dialects(names: Sequence[str]) -> list[Dialect]:
    every = [name for chosen in names for name in (DIALECTS if chosen == "all" else [chosen])]
    return [find_dialect(name) for name in dict.fromkeys(every)]


def _json(cells: Sequence[Cell], dialects: Sequence[Dialect], entry: Publication | None) -> list[dict[str, Any]]:
    values = [cell_json(cell) for cell in cells]
    for value, cell in zip(values, cells, strict=True):
        value |= {"dialects": dialect_ious(cell, dialects)} if dialects else {}
        value |= {"published": published_of(cell, entry)} if entry else {}
    return values


def _draw(suites: Mapping[str, Sequence[Cell]], folder: Path) -> None:
    from deeploc_bench.results.figures import curves_of, validation_curves

    for suite, cells in suites.items():
        drawn = [c for c in cells if c.facts.loss and c.protocol in ("same", "loo") and not c.added_by]
        for group in grouped(drawn, lambda cell: cell.group).values():
            first = group[0]
            names = (suite, first.protocol, first.budget, first.facts.what.replace(" + ", "-"), first.recipe)
            stem = "-".join((*names, first.facts.experiment[:8])).replace("*", "x").replace(", ", "-")
            for suffix, content in validation_curves(title(first), curves_of(group)).items():
                write(folder / f"{stem}.{suffix}", content)
                common.say(f"drew {folder / stem}.{suffix}")
