"""Tables in the poster's form, and cells as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deeploc_bench.plan.plan import BASELINES
from deeploc_bench.results.render import markdown, number
from deeploc_bench.scoring.metrics import false_alarm_area, image_ious, scores
from deeploc_bench.scoring.rows import Cell, Group, Row, make_rows, mean_row
from deeploc_bench.scoring.statistics import interval as interval_of


def render(suite: str, cells: Sequence[Cell], standard: Sequence[str]) -> str:
    """Return one markdown table for each protocol, model, loss and recipe; trivial baselines stand beside each."""
    baselines = {
        (c.protocol, c.model, c.train_generators, c.test_generator): c
        for c in cells
        if c.model in BASELINES and not c.perturbation
    }
    own = dict.fromkeys(cell.group for cell in cells if cell.model not in BASELINES)
    shown = own or dict.fromkeys(cell.group for cell in cells)
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
        "perturbation": cell.perturbation or None,
        "images": len(cell.records),
        "sources": bounds.sources,
        "interval": [bounds.low, bounds.high],
        **scores(cell.records),
        "false_alarm_area": None if cell.authentic is None else false_alarm_area(cell.authentic),
        "training": cell.training,
    }


def grouped(cells: Iterable[Cell]) -> list[tuple[Group, list[Cell]]]:
    """Return the cells of each table, by what it is about."""
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return list(groups.items())


def _table(suite: str, cells: Sequence[Cell], baselines: dict[Any, Cell], standard: Sequence[str]) -> str:
    first = cells[0]
    seeds = sorted({cell.seed for cell in cells})
    what = first.model if first.loss is None else f"{first.model} + {first.loss}"
    budget = " (matched budget)" if first.budget == "matched" else ""
    words = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    caption = f"{first.protocol}{budget} · {suite} · {what} · {first.recipe} · {words}"
    rows = {
        name: make_rows([cell for cell in cells if cell.perturbation == name])
        for name in dict.fromkeys(cell.perturbation for cell in cells)
    }
    if first.protocol == "cross":
        return "\n\n".join(
            "\n".join([f"{caption} · {name}" if name else caption, _matrix(part)]) for name, part in rows.items()
        )
    return f"{caption}\n{_list(rows, cells, baselines, standard)}"


def _list(
    by_perturbation: Mapping[str, Sequence[Row]],
    cells: Sequence[Cell],
    baselines: dict[Any, Cell],
    standard: Sequence[str],
) -> str:
    protocol = cells[0].protocol
    rows = by_perturbation[""]
    beside = sorted({model for p, model, _, _ in baselines if p == protocol and model != cells[0].model})
    floors: dict[str, Sequence[Row]] = {
        model: make_rows([cell for (p, m, _, _), cell in baselines.items() if (p, m) == (protocol, model)])
        for model in beside
    }
    columns = {**{name: part for name, part in by_perturbation.items() if name}, **floors}
    ious = {
        (column, row.train_generators, row.test_generator): row.iou for column in columns for row in columns[column]
    }
    ranked = [row for row in rows if row.test_generator in standard]
    lines = [
        [
            trained_on(row.train_generators, protocol, standard),
            row.test_generator,
            *_figures(row),
            *(number(ious.get((name, row.train_generators, row.test_generator), math.nan)) for name in columns),
        ]
        for row in [*ranked, *(row for row in rows if row.test_generator not in standard)]
    ]
    if len(ranked) > 1:
        means = [
            number(mean_row([row for row in part if row.test_generator in standard]).iou) for part in columns.values()
        ]
        lines.insert(len(ranked), ["mean", "", *_figures(mean_row(ranked)), *means])
    sources = rows[0].interval.sources
    spread = ["sd over seeds"] if len(rows[0].seed_ious) > 1 else []
    headers = [
        "train on",
        "test on",
        "IoU",
        f"95 % interval ({sources} sources)",
        *spread,
        "false alarm area",
        *columns,
    ]
    return markdown(lines, headers)


def _figures(row: Row) -> list[str]:
    bounds = f"{number(row.interval.low)} to {number(row.interval.high)}"
    spread = [number(row.spread)] if len(row.seed_ious) > 1 else []
    return [number(row.iou), bounds, *spread, number(row.false_alarm_area)]


def _matrix(rows: Sequence[Row]) -> str:
    tests = list(dict.fromkeys(row.test_generator for row in rows))
    trains = list(dict.fromkeys(row.train_generators for row in rows))
    ious = {(row.train_generators, row.test_generator): row.iou for row in rows}
    lines = [["+".join(train), *(number(ious.get((train, test), math.nan)) for test in tests)] for train in trains]
    return markdown(lines, ["train on \\ test on", *tests])


def trained_on(train_generators: Sequence[str], protocol: str, standard: Sequence[str]) -> str:
    """Return the words of a table for the generators trained on, such as `w/o lama`."""
    left_out = [name for name in standard if name not in train_generators]
    if protocol == "loo" and len(left_out) == 1:
        return f"w/o {left_out[0]}"
    return "+".join(train_generators) or "not declared"
