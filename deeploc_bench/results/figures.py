"""Figures of finished trainings, their curves gathered and drawn by matplotlib as SVG and PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deeploc_bench.plan import store
from deeploc_bench.results.cells import Cell, grouped

Curve = Sequence[float]
STYLE: Any = {
    "backend": "agg",
    "svg.hashsalt": "deeploc-bench",  # the same ids in every drawing
    "svg.fonttype": "none",
    "figure.figsize": (6.4, 4.0),  # inches
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def curves_of(cells: Sequence[Cell]) -> dict[str, list[list[float]]]:
    """Return the validation IoU of each epoch, one curve per training, by what it was trained on (such as `w/o lama`).

    What was not trained here has no curve. Raises StoreError where an epochs.csv is missing or damaged.
    """
    trainings = {cell.folder: cell for cell in cells if cell.facts.kind == "trained"}
    by_label = grouped(trainings.values(), lambda cell: cell.train)
    return {label: [store.read_validation(cell.folder) for cell in own] for label, own in by_label.items()}


@mpl.rc_context(STYLE)
def validation_curves(title: str, curves: Mapping[str, Sequence[Curve]]) -> dict[str, bytes]:
    """Draw validation IoU by epoch, one line per label (the mean over its seeds, the seeds' range shaded).

    Returns the figure by file suffix, `svg` and `png`. A line covers the epochs that all its seeds have.
    """
    figure = Figure()
    axes = figure.add_subplot()
    for label, seeds in curves.items():
        points = list(zip(*seeds, strict=False))  # the seeds' values of each epoch that all of them have
        epochs = range(1, len(points) + 1)
        axes.plot(epochs, [sum(point) / len(point) for point in points], label=label, marker="o", markersize=3)
        if len(seeds) > 1:
            axes.fill_between(epochs, [min(p) for p in points], [max(p) for p in points], alpha=0.2)
    axes.set(title=title, xlabel="epoch", ylabel="validation IoU (generators trained on)", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title="trained on")
    return {suffix: _saved(figure, suffix) for suffix in ("svg", "png")}


@mpl.rc_context(STYLE)
def iou_histogram(ious: Mapping[str, Sequence[float]]) -> bytes:
    """Draw how many test images have which IoU, in 20 bins, one line per test generator; returns SVG."""
    figure = Figure()
    axes = figure.add_subplot()
    for label, values in ious.items():
        axes.hist(values, bins=20, range=(0, 1), histtype="step", linewidth=1.8, label=label)
    axes.set(xlabel="IoU of a test image", ylabel="images", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title="tested on")
    return _saved(figure, "svg")


def _saved(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
    return buffer.getvalue()
