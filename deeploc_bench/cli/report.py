"""`deeploc-bench report`: one HTML file of a runs folder."""

from __future__ import annotations

from pathlib import Path

import click

from deeploc_bench.cli.results import read_cells
from deeploc_bench.plan import store
from deeploc_bench.results.report import Part, render_report


@click.command("report")
@click.argument("runs", default="runs")
@click.option("-o", "--output", default="report.html", metavar="FILE", show_default=True, help="HTML file.")
def command(runs: str, output: str) -> None:
    """Write one self-contained HTML file: tables, curves, train x test matrix, examples, dialects, provenance."""
    found = read_cells(Path(runs))
    parts = [
        Part(suite=suite, standard=standard, cells=cells, runs=Path(runs)) for suite, (standard, cells) in found.items()
    ]
    content = render_report(parts).encode()
    store.write(Path(output), content)
    print(f"wrote {output} ({len(content) / 2**20:.1f} MiB)")
