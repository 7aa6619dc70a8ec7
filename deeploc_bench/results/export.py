"""All rows of runs folders, a value a column, for other programs."""

from collections.abc import Sequence
from math import isnan
from typing import Any, TypeAlias

from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, number
from deeploc_bench.results.rows import Row
from deeploc_bench.results.sections import Section, sections
from deeploc_bench.results.tables import lines_of
from deeploc_bench.scoring.metrics import (
    false_alarm_area,
    image_auc,
    image_false_positives,
    image_ious,
    scores,
)
from deeploc_bench.scoring.statistics import SeedVariance, interval, score

Value: TypeAlias = str | int | float | bool | None
COLUMNS = (
    *("suite", "protocol", "budget", "perturbation", "model", "loss", "recipe", "experiment", "seeds"),
    *("train_generators", "test_suite", "test_generator", "seen", "added_by"),
    *("iou", "low", "high", "covers", "sd_over_seeds", "sources"),
    *("above_best_baseline", "above_low", "above_high", "false_alarm_area"),
)


def long_rows(cells: Sequence[Cell], beside: Sequence[Cell] = ()) -> list[dict[str, Value]]:
    """Return the values of each row of each experiment, protocol and perturbation, and of each baseline, by column.

    The mean has no generators; what is not known is None, and what a detector does not declare. `beside` as `sections`
    has it.
    """
    rows = []
    for perturbed in grouped(cells, lambda cell: cell.perturbation).values():
        trained = [cell for cell in perturbed if not cell.facts.baseline]
        baselines = grouped((c for c in perturbed if c.facts.baseline), lambda cell: cell.facts.experiment)
        shown = sections(perturbed, beside) if trained else []
        shown += [section for own in baselines.values() for section in sections(own)]
        rows += [
            dict(zip(COLUMNS, _values(section, row), strict=True)) for section in shown for row in lines_of(section)
        ]
    return rows


def long_table(cells: Sequence[Cell], beside: Sequence[Cell] = ()) -> Table:
    """Return `long_rows` as a table whose numbers have three decimals; what is not known is empty."""
    lines = [tuple(map(_text, row.values())) for row in long_rows(cells, beside)]
    return Table(headers=COLUMNS, lines=tuple(lines))


def _values(section: Section, row: Row) -> tuple[Value, ...]:
    cell, pair, own = section.cells[0], row.pair, row.score
    bounds = interval(own, section.seeds(row)) if own else None
    found = section.above(row)
    values = (
        *(cell.facts.suite, cell.protocol, cell.budget, section.main or None, cell.facts.model.name),
        *(cell.facts.loss_expression, cell.recipe, cell.facts.experiment),
        " ".join(map(str, section.rows.seeds)),
        "+".join(_trained(cell, pair)) if pair else None,
        cell.transferred or cell.facts.suite,
        pair.test_generator if pair else None,
        _seen(section, row),
        cell.added_by,
        *((own.iou, bounds.low, bounds.high) if own and bounds else (None, None, None)),
        ("sources and seeds" if section.seeds(row).freedom else "sources") if own else None,
        own.spread if own else None,
        bounds.sources if bounds else None,
        *((found.difference, found.low, found.high) if found else (None, None, None)),
        row.false_alarm_area,
    )
    return tuple(None if isinstance(value, float) and isnan(value) else value for value in values)


def _trained(cell: Cell, pair: Pair) -> tuple[str, ...]:
    return (cell.trained or ()) if cell.facts.is_detector else pair.train_generators


def _seen(section: Section, row: Row) -> bool | None:
    seen = {cell.is_seen for cell in section.shown(row)}
    return None if row.pair is None or None in seen else True in seen


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value)
    return "" if value is None else str(value)


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as `--json` prints it; its interval is over sources only, because a cell is of one seed."""
    facts, authentic = cell.facts, cell.authentic
    bounds = interval(score([(cell.records.sources, {facts.seed: image_ious(cell.records)})]), SeedVariance())
    return {
        "protocol": cell.protocol,
        "budget": cell.budget,
        "model": facts.model.name,
        "loss": facts.loss_expression,
        "recipe": cell.recipe,
        "seed": facts.seed,
        "experiment": facts.experiment,
        "train_generators": None if cell.trained is None else list(cell.trained),
        "test_suite": cell.transferred or facts.suite,
        "test_generator": cell.pair.test_generator,
        "seen": cell.is_seen,
        "added_by": cell.added_by,
        "perturbation": cell.perturbation.name if cell.perturbation else None,
        "images": len(cell.records),
        "sources": bounds.sources,
        "interval": [bounds.low, bounds.high],
        **scores(cell.records),
        "false_alarm_area": None if authentic is None else false_alarm_area(authentic),
        "image_auc": None if authentic is None else image_auc(cell.records, authentic),
        "image_false_positives": None if authentic is None else image_false_positives(authentic),
        "training": "/".join(cell.folder.parts[-4:]),
    }
