"""Cells gathered into rows of scores, and the tables in the poster's form or by dialect of IoU; cells as JSON."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.plan.protocols import PROTOCOLS, Pair, trained_on
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table, number
from deeploc_bench.scoring.dialects import Dialect
from deeploc_bench.scoring.metrics import false_alarm_area, image_ious, iou, scores
from deeploc_bench.scoring.records import merge
from deeploc_bench.scoring.statistics import Summary, interval, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of scores: a pair, or the mean over the standard generators (None); `summary` is None where it lacks."""

    pair: Pair | None
    summary: Summary | None = None
    false_alarm_area: float = math.nan
    lacking: str = ""
    """Of a mean: how many of its pairs there are, such as `3 of 4`; empty where all are."""

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
        return next((row for row in (*self.pairs, self.mean) if row.pair == pair), Row(pair=pair))


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
    trained = first.pair.train_generators
    scored = [Pair(train_generators=trained, test_generator=name) for name in (*standard, *test_only)]
    expected = PROTOCOLS[first.protocol](standard, test_only) if first.protocol in PROTOCOLS else scored
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
        return Row(pair=pair)
    return Row(pair=pair, summary=_summary([cells]), false_alarm_area=_false_alarm_area(cells))


def _mean(pairs: Sequence[Sequence[Cell]]) -> Row:
    counts = Counter(cell.facts.seed for cells in pairs for cell in cells)
    if not counts or min(counts.values()) < len(pairs):
        return Row(pair=None, lacking=f"{max(counts.values(), default=0)} of {len(pairs)}")
    alarms = [_false_alarm_area(cells) for cells in pairs]
    return Row(pair=None, summary=_summary(pairs), false_alarm_area=float(np.mean(alarms)))


def _summary(pairs: Sequence[Sequence[Cell]]) -> Summary:
    return summary(
        [(cells[0].records.sources, {cell.facts.seed: image_ious(cell.records) for cell in cells}) for cells in pairs]
    )


def _false_alarm_area(cells: Sequence[Cell]) -> float:
    alarms = [false_alarm_area(cell.authentic) for cell in cells if cell.authentic is not None]
    data = {cell.facts.test_data.get(AUTHENTIC) for cell in cells}
    # of every training, and on one data set, or nothing is known
    return float(np.mean(alarms)) if len(alarms) == len(cells) and len(data) == 1 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is shown of one experiment under one protocol: what it is called, its cells, and its tables."""

    title: str
    cells: tuple[Cell, ...]
    tables: tuple[Table, ...]


def score_tables(cells: Sequence[Cell]) -> list[Table]:
    """Return the tables of each experiment and protocol."""
    return [table for section in sections(cells) for table in section.tables]


def sections(cells: Sequence[Cell]) -> list[Section]:
    """Return each experiment and protocol apart, baselines beside each; baselines alone where nothing else is.

    Experiments of one name are told apart by their hash.
    """
    shown = [cell for cell in cells if not cell.facts.baseline] or cells
    baselines = [cell for cell in cells if cell.facts.baseline]
    groups = grouped(shown, lambda cell: cell.group).values()
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
    trained = f" · trained on {cell.train}" if cell.protocol == "score" and cell.pair.train_generators else ""
    return f"{cell.protocol}{budget} · {cell.facts.suite} · {cell.facts.what} · {cell.recipe}{trained}"


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
    """Return the rows of each baseline, those of the row's own precision where there are several.

    Experiments of one name that are left are told apart by their hash.
    """
    own = [
        cell
        for cell in baselines
        if (cell.group[:3], cell.facts.data) == (first.group[:3], first.facts.data)
        and cell.facts.experiment != first.facts.experiment
        and not cell.perturbation
        and (first.protocol != "score" or cell.pair.train_generators == first.pair.train_generators)
    ]
    alike = {cell.facts.model.name for cell in own if _precision(cell) == _precision(first)}
    kept = [cell for cell in own if cell.facts.model.name not in alike or _precision(cell) == _precision(first)]
    groups = grouped(kept, lambda cell: (cell.facts.model.name, cell.facts.experiment))
    names = Counter(name for name, _ in groups)
    return {
        f"{name} {experiment[:8]}" if names[name] > 1 else name: make_rows(cells)
        for (name, experiment), cells in groups.items()
    }


def _precision(cell: Cell) -> str | None:
    return cell.facts.settings.precision if cell.facts.settings else None


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
    pairs = [row.pair for row in rows.pairs if row.pair]
    tests = tuple(dict.fromkeys(pair.test_generator for pair in pairs))
    lines = [
        ("+".join(train), *(rows.row_of(Pair(train_generators=train, test_generator=test)).iou for test in tests))
        for train in dict.fromkeys(pair.train_generators for pair in pairs)
    ]
    return Table(caption=caption, headers=("train on \\ test on", *tests), lines=tuple(lines))


def dialect_ious(cell: Cell, dialects: Iterable[Dialect]) -> dict[str, float]:
    """Return the IoU of a cell in each dialect; those that count authentic images as loaded, with and without them."""
    found, together = {}, None
    if cell.authentic is not None and not cell.perturbation:
        # in one order of ids, as a loader that lists both folders would; equal ids stay two images
        apart = tuple(f"{id}-authentic" for id in cell.authentic.ids)
        together = merge([cell.records, replace(cell.authentic, ids=apart)])
    for dialect in dialects:
        found[dialect.name] = dialect.score(cell.records)
        if dialect.counts_authentic and together is not None:
            found[f"{dialect.name} + authentic"] = dialect.score(together)
    return found


def dialect_table(cells: Sequence[Cell], dialects: Collection[Dialect]) -> Table:
    """Return one table of all cells, a column a dialect, with what each dialect is below."""
    ious = [{"iou": iou(cell.records), **dialect_ious(cell, dialects)} for cell in cells]
    names = list(dict.fromkeys(name for found in ious for name in found))
    lines = []
    for cell, found in zip(cells, ious, strict=True):
        test = cell.pair.test_generator + (f"@{cell.perturbation.name}" if cell.perturbation else "")
        about = (
            cell.protocol,
            cell.facts.what,
            str(cell.facts.seed),
            "+".join(cell.pair.train_generators) or "-",
            test,
        )
        lines.append((*about, *(f"{found[name]:.3f}" if name in found else "-" for name in names)))
    return Table(
        caption="IoU by dialect",
        headers=("protocol", "model", "seed", "train on", "test on", *names),
        lines=tuple(lines),
        notes=tuple(f"{dialect.name}: {dialect.what}" for dialect in dialects),
    )


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
