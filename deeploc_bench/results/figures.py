"""Figures of finished trainings, their curves gathered and drawn by matplotlib as SVG and PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from deeploc_bench.plan import store
from deeploc_bench.results.cells import Cell, grouped

Curve = Sequence[float]
SIZE = (6.4, 4.0)
"""Width and height of a figure in inches."""
STYLE: Any = {
    "svg.hashsalt": "deeploc-bench",  # the same ids in every drawing
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def curves_of(cells: Sequence[Cell]) -> dict[str, list[list[float]]]:
    """Return the validation IoU of each epoch, one curve per training, by what it was trained on (such as `w/o lama`).

    What was not trained here has no curve. Raises StoreError where an epochs.csv is missing or damaged.
    """
    trainings = {cell.folder: cell for cell in cells if cell.facts.kind == "trained"}
    by_label = grouped(trainings.values(), lambda cell: cell.train)
    return {label: [store.read_validation(cell.folder) for cell in own] for label, own in by_label.items()}


def validation_curves(title: str, curves: Mapping[str, Sequence[Curve]]) -> dict[str, bytes]:
    """Draw validation IoU by epoch, one line per label (the mean over its seeds, the seeds' range shaded).

    Returns the figure by file suffix, `svg` and `png`. A line covers the epochs that all its seeds have.
    """
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "backend": "agg"}):
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        for label, seeds in curves.items():
            length = min(len(curve) for curve in seeds)
            epochs = range(1, length + 1)
            points = list(zip(*(curve[:length] for curve in seeds), strict=True))
            axes.plot(epochs, [sum(point) / len(point) for point in points], label=label, marker="o", markersize=3)
            if len(seeds) > 1:
                axes.fill_between(epochs, [min(p) for p in points], [max(p) for p in points], alpha=0.2)
        axes.set(title=title, xlabel="epoch", ylabel="validation IoU (generators trained on)", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(title="trained on", frameon=False)
        return {suffix: _saved(figure, suffix) for suffix in ("svg", "png")}


def iou_histogram(ious: Mapping[str, Sequence[float]]) -> bytes:
    """Draw how many test images have which IoU, in 20 bins, one line per test generator; returns SVG."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "backend": "agg"}):
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        for label, values in ious.items():
            axes.hist(values, bins=20, range=(0, 1), histtype="step", linewidth=1.8, label=label)
        axes.set(xlabel="IoU of a test image", ylabel="images", xlim=(0, 1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(title="tested on", frameon=False)
        return _saved(figure, "svg")


def _saved(figure: Any, suffix: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
    return buffer.getvalue()
