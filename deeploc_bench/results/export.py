"""All rows of runs folders as one table of a value a column, for other programs."""

from collections.abc import Sequence
from math import isnan

from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, number
from deeploc_bench.results.rows import Row
from deeploc_bench.results.sections import Section, sections
from deeploc_bench.results.tables import lines_of
from deeploc_bench.scoring.statistics import interval

COLUMNS = (
    *("suite", "protocol", "budget", "perturbation", "model", "loss", "recipe", "experiment", "seeds"),
    *(
        "train_generators",
        "test_generator",
        "seen",
        "added_by",
        "iou",
        "low",
        "high",
        "covers",
        "sd_over_seeds",
        "sources",
    ),
    *("above_best_baseline", "above_low", "above_high", "false_alarm_area"),
)


def long_table(cells: Sequence[Cell]) -> Table:
    """Return a line for each row of each experiment, protocol and perturbation, and of each baseline.

    The mean has no generators; what is not known is empty.
    """
    lines = []
    for perturbed in grouped(cells, lambda cell: cell.perturbation).values():
        trained = [cell for cell in perturbed if not cell.facts.baseline]
        baselines = grouped((c for c in perturbed if c.facts.baseline), lambda cell: cell.facts.experiment)
        shown = [*(sections(perturbed) if trained else []), *(s for own in baselines.values() for s in sections(own))]
        lines += [_line(section, row) for section in shown for row in lines_of(section)]
    return Table(headers=COLUMNS, lines=tuple(lines))


def _line(section: Section, row: Row) -> tuple[str, ...]:
    cell, pair, score = section.cells[0], row.pair, row.score
    bounds = interval(score, section.seeds(row)) if score else None
    found = section.above(row)
    return (
        *(cell.facts.suite, cell.protocol, cell.budget, section.main, cell.facts.model.name),
        *(cell.facts.loss_expression or "", cell.recipe, cell.facts.experiment),
        " ".join(map(str, section.rows.seeds)),
        *(("+".join(pair.train_generators), pair.test_generator) if pair else ("", "")),
        str(any(one.is_seen for one in section.shown(row))).lower() if pair else "",
        cell.added_by or "",
        *map(_number, (score.iou, bounds.low, bounds.high) if score and bounds else (None, None, None)),
        ("sources and seeds" if section.seeds(row).freedom else "sources") if score else "",
        _number(score.spread if score else None),
        str(bounds.sources) if bounds else "",
        *map(_number, (found.difference, found.low, found.high) if found else (None, None, None)),
        _number(row.false_alarm_area),
    )


def _number(value: float | None) -> str:
    return "" if value is None or isnan(value) else number(value)
