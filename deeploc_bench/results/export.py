"""All rows of runs folders, a value a column, for other programs."""

from collections.abc import Sequence
from math import isnan
from typing import TypeAlias

from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, number
from deeploc_bench.results.rows import Row
from deeploc_bench.results.sections import Section, sections
from deeploc_bench.results.tables import lines_of
from deeploc_bench.scoring.statistics import interval

Value: TypeAlias = str | int | float | bool | None
COLUMNS = (
    *("suite", "protocol", "budget", "perturbation", "model", "loss", "recipe", "experiment", "seeds"),
    *("train_generators", "test_generator", "seen", "added_by"),
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
    cell, pair, score = section.cells[0], row.pair, row.score
    bounds = interval(score, section.seeds(row)) if score else None
    found = section.above(row)
    values = (
        *(cell.facts.suite, cell.protocol, cell.budget, section.main or None, cell.facts.model.name),
        *(cell.facts.loss_expression, cell.recipe, cell.facts.experiment),
        " ".join(map(str, section.rows.seeds)),
        *(("+".join(_trained(cell, pair)), pair.test_generator) if pair else (None, None)),
        _seen(section, row),
        cell.added_by,
        *((score.iou, bounds.low, bounds.high) if score and bounds else (None, None, None)),
        ("sources and seeds" if section.seeds(row).freedom else "sources") if score else None,
        score.spread if score else None,
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
