"""`deeploc-bench report`: one HTML file of a runs folder."""

from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract.files import rewrite
from deeploc_bench.results.cells import read_cells
from deeploc_bench.results.references import FILE, write_references


@click.command("report")
@click.argument("runs", default="runs")
@click.option("-o", "--output", default="report.html", metavar="FILE", show_default=True, help="HTML file.")
def command(runs: str, output: str) -> None:
    """Write one self-contained HTML file: tables, curves, train x test matrix, examples, dialects, provenance.

    references.bib beside it has what is to be cited.
    """
    from deeploc_bench.results.report import render_report

    cells = read_cells(Path(runs))
    content = render_report(cells).encode()
    write_references(Path(output).with_name(FILE), cells)
    rewrite(Path(output), content)
    common.put(f"wrote {output} ({len(content) / 2**20:.1f} MiB)")
