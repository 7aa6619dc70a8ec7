"""Cells gathered into rows of scores, and the tables in the poster's form; cells as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.plan.protocols import PROTOCOLS, Pair, trained_on
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, number
from deeploc_bench.scoring.metrics import false_alarm_area, image_ious, scores
from deeploc_bench.scoring.statistics import Summary, interval, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of scores: a pair, or the mean over the standard generators (None); `summary` is None where it lacks.

    `lacking` says of a mean how many of its pairs there are, such as `3 of 4`; it is empty where all are.
    """

    pair: Pair | None
    summary: Summary | None
    false_alarm_area: float = math.nan
    lacking: str = ""

    @property
    def iou(self) -> str:
        """Return the IoU as tables print it."""
        return self.lacking or number(self.summary.iou if self.summary else None)

    @property
    def fields(self) -> tuple[str, str, str, str]:
        """Return IoU, interval, spread over seeds and false alarm area as tables print them."""
        found = self.summary
        bounds = f"{number(found.interval.low)} to {number(found.interval.high)}" if found else "-"
        return self.iou, bounds, number(found.spread if found else None), number(self.false_alarm_area)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one experiment under one protocol: its pairs in order, their mean, and the seeds averaged."""

    pairs: tuple[Row, ...]
    mean: Row
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    """Seeds that not every cell has."""

    def row_of(self, pair: Pair | None) -> Row:
        """Return the row of a pair, or the mean (None); an empty one where there is none."""
        found = self.mean if pair is None else next((row for row in self.pairs if row.pair == pair), None)
        return found or Row(pair=pair, summary=None)


def make_rows(cells: Sequence[Cell], seeds: Sequence[int] | None = None) -> Rows:
    """Average the cells of one group and perturbation over seeds, image by image, paired by number.

    Only seeds that every cell has are averaged (where none is complete, all that there are), or exactly `seeds`, so
    that a column is over the seeds of the one beside it. The mean is over all standard generators, or says how many
    there are.
    """
    first = cells[0]
    standard = first.facts.standard_generators
    test_only = sorted({cell.pair.test_generator for cell in cells} - {*standard})
    found = grouped(cells, lambda cell: cell.pair)
    expected = PROTOCOLS[first.protocol](standard, test_only) if first.protocol in PROTOCOLS else list(found)
    ranked = [pair for pair in expected if pair.test_generator in standard]
    by_pair = {pair: {cell.facts.seed: cell for cell in found.get(pair, ())} for pair in expected}
    every = sorted({cell.facts.seed for cell in cells}) if seeds is None else list(seeds)
    complete = [seed for seed in every if all(seed in by_pair[pair] for pair in ranked)]
    averaged = complete or every
    chosen = {pair: [by_seed[seed] for seed in averaged if seed in by_seed] for pair, by_seed in by_pair.items()}
    if seeds is not None:
        chosen = {pair: taken if len(taken) == len(seeds) else [] for pair, taken in chosen.items()}
    return Rows(
        pairs=tuple(_row(pair, chosen[pair]) for pair in sorted(expected, key=lambda pair: pair not in ranked)),
        mean=_mean([chosen[pair] for pair in ranked]),
        seeds=tuple(averaged),
        left_out=tuple(seed for seed in every if seed not in averaged),
    )


def _row(pair: Pair, cells: Sequence[Cell]) -> Row:
    # an experiment fixes the standard generators' data, not that of the test-only ones
    if len({cell.facts.test_data[pair.test_generator] for cell in cells}) != 1:
        return Row(pair=pair, summary=None)
    return Row(pair=pair, summary=_summary([cells]), false_alarm_area=_false_alarm_area(cells))


def _mean(pairs: Sequence[Sequence[Cell]]) -> Row:
    counts = Counter(cell.facts.seed for cells in pairs for cell in cells)
    if not counts or min(counts.values()) < len(pairs):
        return Row(pair=None, summary=None, lacking=f"{max(counts.values(), default=0)} of {len(pairs)}")
    alarms = [_false_alarm_area(cells) for cells in pairs]
    return Row(pair=None, summary=_summary(pairs), false_alarm_area=float(np.mean(alarms)))


def _summary(pairs: Sequence[Sequence[Cell]]) -> Summary:
    return summary(
        [(cells[0].records.sources, {cell.facts.seed: image_ious(cell.records) for cell in cells}) for cells in pairs]
    )


def _false_alarm_area(cells: Sequence[Cell]) -> float:
    alarms = [false_alarm_area(cell.authentic) for cell in cells if cell.authentic is not None]
    data = {cell.facts.test_data.get(AUTHENTIC) for cell in cells}  # of one data set, or nothing is known
    return float(np.mean(alarms)) if alarms and len(data) == 1 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is shown of one experiment under one protocol: what it is called, its cells, and its tables."""

    title: str
    cells: tuple[Cell, ...]
    tables: tuple[Table, ...]


def score_tables(cells: Sequence[Cell]) -> list[Table]:
    """Return the tables of each experiment and protocol, baselines beside each; baselines alone where nothing else is.

    Experiments of one name are told apart by their hash.
    """
    return [table for section in sections(cells) for table in section.tables]


def sections(cells: Sequence[Cell]) -> list[Section]:
    """Return the cells and `score_tables` of each experiment and protocol apart."""
    shown = [cell for cell in cells if not cell.facts.baseline] or list(cells)
    baselines = [cell for cell in cells if cell.facts.baseline]
    groups = list(grouped(shown, lambda cell: cell.group).values())
    titles = Counter(title(group[0]) for group in groups)
    found = []
    for group in groups:
        name = title(group[0])
        name += f" · experiment {group[0].facts.experiment[:8]}" if titles[name] > 1 else ""
        found.append(Section(title=name, cells=tuple(group), tables=tuple(_tables(group, baselines, name))))
    return found


def title(cell: Cell) -> str:
    """Return what a table of a cell's group is about, but for its seeds."""
    budget = " (matched budget)" if cell.budget == "matched" else ""
    return f"{cell.protocol}{budget} · {cell.facts.suite} · {cell.facts.what} · {cell.recipe}"


def _tables(cells: Sequence[Cell], baselines: Sequence[Cell], name: str) -> list[Table]:
    first = cells[0]
    by_perturbation = grouped(cells, lambda cell: cell.perturbation.name if cell.perturbation else "")
    main = "" if "" in by_perturbation else next(iter(by_perturbation))
    rows = make_rows(by_perturbation.pop(main))
    columns = {perturbation: make_rows(own, rows.seeds) for perturbation, own in by_perturbation.items()}
    caption = f"{name} · {_seeds(rows)}" + (f" · {main}" if main else "")
    if first.protocol == "cross":
        perturbed = [_matrix(own, f"{caption} · {perturbation}") for perturbation, own in columns.items()]
        return [_matrix(rows, caption), *perturbed]
    return [_list(rows, columns | _beside(first, baselines), caption, first)]


def _beside(first: Cell, baselines: Sequence[Cell]) -> dict[str, Rows]:
    """Return the rows of each baseline experiment, those of one name told apart by their hash."""
    own = [cell for cell in baselines if _is_beside(cell, first)]
    groups = grouped(own, lambda cell: (cell.facts.model.name, cell.facts.experiment))
    names = Counter(name for name, _ in groups)
    return {
        f"{name} {experiment[:8]}" if names[name] > 1 else name: make_rows(cells)
        for (name, experiment), cells in groups.items()
    }


def _is_beside(baseline: Cell, first: Cell) -> bool:
    is_alike = (baseline.group[:3], baseline.facts.data) == (first.group[:3], first.facts.data)
    return is_alike and not baseline.perturbation and baseline.facts.experiment != first.facts.experiment


def _seeds(rows: Rows) -> str:
    words = f"seed{'s' if len(rows.seeds) > 1 else ''} {', '.join(map(str, rows.seeds))}"
    left_out = ", ".join(map(str, rows.left_out))
    return f"{words} (incomplete, left out: {left_out})" if left_out else words


def _list(rows: Rows, columns: Mapping[str, Rows], caption: str, first: Cell) -> Table:
    """Return one line per pair, the mean below the standard generators, a column for each of the others."""
    standard = first.facts.standard_generators
    ranked = [row for row in rows.pairs if row.pair and row.pair.test_generator in standard]
    has_spread = len(rows.seeds) > 1
    lines = []
    for row in [*ranked, *([rows.mean] if len(ranked) > 1 else []), *rows.pairs[len(ranked) :]]:
        names = ("mean", "")
        if row.pair:
            names = (trained_on(row.pair.train_generators, first.protocol, standard), row.pair.test_generator)
        iou, bounds, spread, alarm = row.fields
        others = [other.row_of(row.pair).iou for other in columns.values()]
        lines.append((*names, iou, bounds, *([spread] if has_spread else []), alarm, *others))
    sources = max((row.summary.interval.sources for row in rows.pairs if row.summary), default=0)
    scores = ("IoU", f"95 % interval ({sources} sources)", *(["sd over seeds"] if has_spread else []))
    headers = ("train on", "test on", *scores, "false alarm area", *columns)
    return Table(caption=caption, headers=headers, lines=tuple(lines))


def _matrix(rows: Rows, caption: str) -> Table:
    ious = {row.pair: row.iou for row in rows.pairs if row.pair}
    tests = tuple(dict.fromkeys(pair.test_generator for pair in ious))
    trains = dict.fromkeys(pair.train_generators for pair in ious)
    lines = [
        ("+".join(train), *(ious.get(Pair(train_generators=train, test_generator=test), "-") for test in tests))
        for train in trains
    ]
    return Table(caption=caption, headers=("train on \\ test on", *tests), lines=tuple(lines))


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as `--json` prints it."""
    bounds = interval([(cell.records.sources, image_ious(cell.records))])
    facts = cell.facts
    return {
        "protocol": cell.protocol,
        "budget": cell.budget,
        "model": facts.model.name,
        "loss": facts.loss_expression,
        "recipe": cell.recipe,
        "seed": facts.seed,
        "experiment": facts.experiment,
        "train_generators": list(cell.pair.train_generators),
        "test_generator": cell.pair.test_generator,
        "perturbation": cell.perturbation.name if cell.perturbation else None,
        "images": len(cell.records),
        "sources": bounds.sources,
        "interval": [bounds.low, bounds.high],
        **scores(cell.records),
        "false_alarm_area": None if cell.authentic is None else false_alarm_area(cell.authentic),
        "training": "/".join(cell.folder.parts[-4:]),
    }
