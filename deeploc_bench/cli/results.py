"""`deeploc-bench results`: the tables of runs folders again, from their records alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from deeploc_bench.api.results import Results, dialects_of, publication_of, results
from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.files import rewrite
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.export import cell_json
from deeploc_bench.results.published import Publication, published_of
from deeploc_bench.results.references import FILE, write_references
from deeploc_bench.results.render import FORMATS, Table
from deeploc_bench.results.sections import title
from deeploc_bench.results.tables import VIEWS, dialect_ious
from deeploc_bench.scoring.dialects import Dialect

CSV, JSON, LATEX = "csv", "json", "latex"


@click.command("results")
@click.argument("runs", nargs=-1)
@click.option("--dialect", "dialects", multiple=True, metavar="NAME|all", help="IoU as others define it (repeatable).")
@click.option("--published", metavar="NAME", help="Beside published numbers: poster, declip, ...")
@click.option("--by", metavar="area|generator|seed", help="IoU by mask area, or a line a method, or a column a seed.")
@click.option("--format", "form", default="text", metavar="|".join([*FORMATS, JSON]), show_default=True, help="Form.")
@click.option("--curves", metavar="DIR", help="Draw validation IoU by epoch into this folder, as SVG and PNG.")
@click.option("--references", metavar="FILE", help=f"Where --format latex puts what is to be cited. [{FILE}]")
@common.json_option
def command(
    *,
    runs: tuple[str, ...],
    dialects: tuple[str, ...],
    published: str | None,
    by: str | None,
    form: str,
    curves: str | None,
    references: str | None,
    as_json: bool,
) -> None:
    """Print the tables of runs folders [runs] again; several are read as one. Needs no data and no plugin."""
    if as_json and form != JSON and (by or form != "text"):
        raise UsageError("--json prints cells; leave --by and --format out")
    form = JSON if as_json else form
    _check(by, form, [by, dialects, published])
    if references and form != LATEX:
        raise UsageError("--references goes with --format latex; add that, or leave it out")
    chosen, found = dialects_of(dialects), results(*runs)
    about, entry = publication_of(found, published) if published else (None, None)
    suites = grouped(found.cells, lambda cell: cell.facts.suite)
    if curves:
        _draw(suites, Path(curves))
    if form == JSON:
        common.print_json([{"suite": name, "cells": _json(cells, chosen, entry)} for name, cells in suites.items()])
        return
    if form == CSV and not (by or dialects or published):
        common.put(found.to_csv())
        return
    tables: list[Table] = []
    for name, cells in suites.items():
        own = Results(cells=tuple(cells))
        tables += own.tables(by) if by or form != CSV else ()
        tables += own.dialects(*dialects) if dialects else ()
        tables += own.published(published) if published and name == about else ()
    if form == LATEX:
        write_references(Path(references or FILE), found.cells)
    if tables:
        common.put(FORMATS[form](*tables))


def _check(by: str | None, form: str, kinds: Sequence[object]) -> None:
    if by is not None and by not in VIEWS:
        raise UsageError(f"--by: {unknown('view', by, VIEWS)}")
    if form not in (*FORMATS, JSON):
        raise UsageError(f"--format: {unknown('format', form, [*FORMATS, JSON])}")
    if by and form == JSON:
        raise UsageError("--format json prints cells; leave --by out")
    if form == CSV and sum(map(bool, kinds)) > 1:
        raise UsageError("--format csv prints one kind of table: choose one of --by, --dialect and --published")


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
                rewrite(folder / f"{stem}.{suffix}", content)
                common.say(f"drew {folder / stem}.{suffix}")
