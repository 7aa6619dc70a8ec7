"""Tables in the poster's form, and cells as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from deeploc_bench.scoring.metrics import false_alarm_area, image_ious, scores
from deeploc_bench.scoring.rows import Cell, Row, make_rows, mean_row
from deeploc_bench.scoring.statistics import interval as interval_of


def render(suite: str, cells: Sequence[Cell], standard: Sequence[str]) -> str:
    """Return one markdown table for each protocol, model, loss and recipe; trivial baselines stand beside each."""
    baselines = {(c.protocol, c.model, c.train_generators, c.test_generator): c for c in cells if c.loss is None}
    trained = dict.fromkeys(cell.group for cell in cells if cell.loss is not None)
    shown = trained or dict.fromkeys(cell.group for cell in cells)
    return "\n\n".join(
        _table(suite, [cell for cell in cells if cell.group == group], baselines, standard) for group in shown
    )


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as `run --json` prints it."""
    bounds = interval_of([(cell.records.sources, image_ious(cell.records))])
    return {
        "protocol": cell.protocol,
        "budget": cell.budget,
        "model": cell.model,
        "loss": cell.loss,
        "recipe": cell.recipe,
        "seed": cell.seed,
        "train_generators": list(cell.train_generators),
        "test_generator": cell.test_generator,
        "images": len(cell.records),
        "sources": bounds.sources,
        "interval": [bounds.low, bounds.high],
        **scores(cell.records),
        "false_alarm_area": None if cell.authentic is None else false_alarm_area(cell.authentic),
        "training": cell.training,
    }


def _table(suite: str, cells: Sequence[Cell], baselines: dict[Any, Cell], standard: Sequence[str]) -> str:
    first = cells[0]
    seeds = sorted({cell.seed for cell in cells})
    what = first.model if first.loss is None else f"{first.model} + {first.loss}"
    budget = " (matched budget)" if first.budget == "matched" else ""
    words = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    caption = f"{first.protocol}{budget} · {suite} · {what} · {first.recipe} · {words}"
    rows = make_rows(cells)
    body = _matrix(rows) if first.protocol == "cross" else _list(rows, cells, baselines, standard)
    return f"{caption}\n{body}"


def _list(rows: Sequence[Row], cells: Sequence[Cell], baselines: dict[Any, Cell], standard: Sequence[str]) -> str:
    protocol = cells[0].protocol
    beside = sorted({model for p, model, _, _ in baselines if p == protocol and model != cells[0].model})
    floors = {
        model: make_rows([cell for (p, m, _, _), cell in baselines.items() if (p, m) == (protocol, model)])
        for model in beside
    }
    floor_ious = {
        (model, row.train_generators, row.test_generator): row.iou for model in beside for row in floors[model]
    }
    ranked = [row for row in rows if row.test_generator in standard]
    lines = [
        [
            _trained_on(row, protocol, standard),
            row.test_generator,
            *_figures(row),
            *(_number(floor_ious.get((m, row.train_generators, row.test_generator), math.nan)) for m in beside),
        ]
        for row in [*ranked, *(row for row in rows if row.test_generator not in standard)]
    ]
    if len(ranked) > 1:
        means = [
            _number(mean_row([row for row in floors[model] if row.test_generator in standard]).iou) for model in beside
        ]
        lines.insert(len(ranked), ["mean", "", *_figures(mean_row(ranked)), *means])
    sources = rows[0].interval.sources
    spread = ["sd over seeds"] if len(rows[0].seed_ious) > 1 else []
    headers = ["train on", "test on", "IoU", f"95 % interval ({sources} sources)", *spread, "false alarm area", *beside]
    return _markdown(lines, headers)


def _figures(row: Row) -> list[str]:
    bounds = f"{_number(row.interval.low)} to {_number(row.interval.high)}"
    spread = [_number(row.spread)] if len(row.seed_ious) > 1 else []
    return [_number(row.iou), bounds, *spread, _number(row.false_alarm_area)]


def _matrix(rows: Sequence[Row]) -> str:
    tests = list(dict.fromkeys(row.test_generator for row in rows))
    trains = list(dict.fromkeys(row.train_generators for row in rows))
    ious = {(row.train_generators, row.test_generator): row.iou for row in rows}
    lines = [["+".join(train), *(_number(ious.get((train, test), math.nan)) for test in tests)] for train in trains]
    return _markdown(lines, ["train on \\ test on", *tests])


def _markdown(lines: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)


def _trained_on(row: Row, protocol: str, standard: Sequence[str]) -> str:
    left_out = [name for name in standard if name not in row.train_generators]
    if protocol == "loo" and len(left_out) == 1:
        return f"w/o {left_out[0]}"
    return "+".join(row.train_generators)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
