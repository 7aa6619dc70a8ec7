"""Trainings of one suite tested on others: a matrix of what was trained on by what was tested."""

from collections.abc import Sequence
from dataclasses import dataclass

from deeploc_bench.contract.files import digest
from deeploc_bench.plan.protocols import Pair
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.render import Table
from deeploc_bench.results.sections import Section, sections
from deeploc_bench.results.tables import BELOW, marked_iou, regenerated_notes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A suite that was tested and one of its generators, or None for the mean over the standard ones; their data."""

    suite: str
    test: str | None
    data: str


def transfer_tables(cells: Sequence[Cell], beside: Sequence[Cell] = ()) -> list[Table]:
    """Return a matrix an experiment: a line for all that was trained on, a column for all that was tested elsewhere.

    A suite of several standard generators has a column for their mean. What was tested on other images than the rest
    has columns of its own, called by the hash of its data. `beside` as `sections` has it.
    """
    own = [cell for cell in cells if cell.transferred]
    shown = sections(own, beside) if own else []
    return [_matrix(alike) for alike in grouped(shown, _experiment).values()]


def _experiment(section: Section) -> tuple[str, ...]:
    first = section.cells[0]
    return (first.facts.suite, first.facts.experiment, first.budget, section.main)


def _matrix(alike: Sequence[Section]) -> Table:
    columns = list(dict.fromkeys(column for section in alike for column in _columns(section)))
    trained = grouped(alike, lambda section: section.cells[0].pair.train_generators)
    lines = []
    for train, own in trained.items():
        found = {column: _field(section, train, column.test) for section in own for column in _columns(section)}
        lines.append((f"{own[0].cells[0].facts.suite}/{'+'.join(train)}", *(found.get(one, "-") for one in columns)))
    first = alike[0].cells[0]
    budget = " (matched budget)" if first.budget == "matched" else ""
    main = f" · {alike[0].main}" if alike[0].main else ""
    is_marked = any("*" in field for line in lines for field in line[1:])
    return Table(
        caption=f"transfer{budget} · from {first.facts.suite} · {first.facts.what} · {first.recipe}{main}",
        headers=("train on \\ test on", *_headers(columns)),
        lines=tuple(lines),
        notes=(*([BELOW] if is_marked else []), *regenerated_notes([cell for one in alike for cell in one.cells])),
    )


def _columns(section: Section) -> list[_Column]:
    first = section.cells[0]
    suite, standard, data = first.transferred or "", first.tested.standard_generators, first.tested.test_data
    tests = [row.pair.test_generator for row in section.rows.pairs if row.pair]
    columns = [_Column(suite=suite, test=test, data=data.get(test, "")) for test in tests]
    if len(standard) > 1 and not first.added_by:
        columns.append(_Column(suite=suite, test=None, data=digest(data[name] for name in standard)))
    return columns


def _headers(columns: Sequence[_Column]) -> list[str]:
    names = [f"{one.suite}/{one.test or 'mean'}" for one in columns]
    pairs = zip(names, columns, strict=True)
    return [f"{name} (data {one.data[:8]})" if names.count(name) > 1 else name for name, one in pairs]


def _field(section: Section, train: tuple[str, ...], test: str | None) -> str:
    pair = Pair(train_generators=train, test_generator=test) if test else None
    row = section.rows.row_of(pair)
    seen = " (seen)" if pair and any(cell.is_seen for cell in section.shown(row)) else ""
    return marked_iou(section, row) + seen
