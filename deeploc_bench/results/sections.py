"""What is shown of a runs folder: each experiment and protocol apart, beside its baselines and its like."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deeploc_bench.plan.protocols import PROTOCOLS
from deeploc_bench.results.cells import Cell, grouped
from deeploc_bench.results.rows import Kind, Pool, Row, Rows, above, kind_of, make_rows, seed_pools
from deeploc_bench.scoring.statistics import Comparison, SeedVariance, pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One experiment under one protocol: what it is called, its cells, its rows, and those of the baselines beside it.

    `has_namesake` tells that its hash is in its name, because another is called like it. `perturbed` are the rows of
    each perturbation but the `main` one, of the seeds of `rows`. `pool` is the variance between seeds over all
    experiments whose rows may stand beside these.
    """

    name: str
    has_namesake: bool
    cells: tuple[Cell, ...]
    rows: Rows
    main: str
    perturbed: Mapping[str, Rows]
    baselines: Mapping[str, Rows]
    pool: Pool

    @property
    def title(self) -> str:
        """Return what its tables are about."""
        left_out = ", ".join(map(str, self.rows.left_out))
        seeds = self.rows.seed_words + (f" (incomplete, left out: {left_out})" if left_out else "")
        return f"{self.name} · {seeds}" + (f" · {self.main}" if self.main else "")

    @property
    def knows_seeds(self) -> bool:
        """Tell whether intervals of it hold what is between seeds: something has several, or nothing is drawn."""
        return not self.cells[0].facts.is_seeded or self.has_seeds

    @property
    def has_seeds(self) -> bool:
        """Tell whether something of its kind has several seeds."""
        rows = [row for row in (*self.rows.pairs, self.rows.mean) if row.score and row.score.seeded]
        return any(self.seeds(row).freedom for row in rows)

    def seeds(self, row: Row) -> SeedVariance:
        """Return the variance between seeds of a row; where nothing else has any, its own."""
        found = self.pool.get(row.pair, SeedVariance())
        return found if found.freedom or not row.score else pooled([row.score])

    def above(self, row: Row) -> Comparison | None:
        """Return a row minus the best baseline of its pair; None where there is none."""
        return above(row, (rows.row_of(row.pair) for rows in self.baselines.values()), self.seeds(row))

    def shown(self, row: Row) -> Iterator[Cell]:
        """Yield the cells that a row is made of, one a seed."""
        for cell in self.cells:
            is_averaged = cell.facts.seed in self.rows.seeds
            if is_averaged and cell.pair == row.pair and _perturbation(cell) == self.main:
                yield cell


def sections(cells: Sequence[Cell], beside: Sequence[Cell] = ()) -> list[Section]:
    """Return each experiment and protocol apart, baselines beside each; baselines alone where nothing else is.

    Experiments of one name are told apart by their hash. `beside` are cells that are not shown, of which the variance
    between seeds is pooled, too: those of the rest of a runs folder.
    """
    shown = [cell for cell in cells if not cell.facts.baseline] or cells
    baselines = [cell for cell in cells if cell.facts.baseline]
    groups = list(grouped(shown, lambda cell: cell.group).values())
    names = Counter(title(group[0]) for group in groups)
    pools = seed_pools([*cells, *beside])
    return [_section(group, baselines, pools, names[title(group[0])] > 1) for group in groups]


def _section(
    group: Sequence[Cell], baselines: Sequence[Cell], pools: Mapping[Kind, Pool], has_namesake: bool
) -> Section:
    by_perturbation = grouped(group, _perturbation)
    main = min(by_perturbation)
    first = by_perturbation.pop(main)
    rows = make_rows(first)
    return Section(
        name=title(first[0]) + (f" · experiment {first[0].facts.experiment[:8]}" if has_namesake else ""),
        has_namesake=has_namesake,
        cells=tuple(group),
        rows=rows,
        main=main,
        perturbed={name: make_rows(own, rows.seeds) for name, own in by_perturbation.items()},
        baselines=_beside(first[0], baselines),
        pool=pools.get(kind_of(first[0]), {}),
    )


def title(cell: Cell) -> str:
    """Return what a table of a cell's group is about, but for its seeds."""
    budget = " (matched budget)" if cell.budget == "matched" else ""
    is_told = cell.protocol not in PROTOCOLS and cell.pair.train_generators
    trained = f" · trained on {cell.train}" if is_told else ""
    added = f" · added by plugin {cell.added_by}" if cell.added_by else ""
    return f"{cell.protocol}{budget} · {cell.suites}{added} · {cell.facts.what} · {cell.recipe}{trained}"


def _perturbation(cell: Cell) -> str:
    return cell.perturbation.name if cell.perturbation else ""


def _beside(first: Cell, baselines: Sequence[Cell]) -> dict[str, Rows]:
    """Return the rows of each baseline, those of the row's own precision where there are several.

    Experiments of one name that are left are told apart by their hash.
    """
    own = [
        cell
        for cell in baselines
        if (cell.group[:4], cell.facts.data) == (first.group[:4], first.facts.data)
        and cell.facts.experiment != first.facts.experiment
        and cell.tested.test_data.get(cell.pair.test_generator) == first.tested.test_data.get(cell.pair.test_generator)
        and not cell.perturbation
        and (first.protocol in PROTOCOLS or cell.pair.train_generators == first.pair.train_generators)
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
