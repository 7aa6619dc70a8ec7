"""`results`: runs folders as values and tables."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.results.cells import Cell, grouped, read_cells
from deeploc_bench.results.export import Value, cell_json, long_rows, long_table
from deeploc_bench.results.published import Publication, find_publication, published_tables
from deeploc_bench.results.render import Table, as_csv, as_latex, as_markdown_page, as_text
from deeploc_bench.results.tables import VIEWS, dialect_tables, score_tables
from deeploc_bench.results.transfers import transfer_tables
from deeploc_bench.scoring.dialects import DIALECTS, Dialect, find_dialect
from deeploc_bench.scoring.metrics import image_ious


@dataclass(frozen=True, slots=True, repr=False)
class Tables:
    """Tables as values, to print; a notebook shows them."""

    tables: tuple[Table, ...]

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def __repr__(self) -> str:
        return as_text(*self.tables)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_markdown(self) -> str:
        """Return them as markdown, each with its caption above and its notes below."""
        return as_markdown_page(*self.tables)

    def to_latex(self) -> str:
        """Return them in LaTeX with the rules of the package booktabs, each caption a comment above."""
        return as_latex(*self.tables)

    def to_csv(self) -> str:
        """Return them as csv, their captions in the first column."""
        return as_csv(*self.tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell whose training failed, and why; `loss` is None for what has none."""

    protocol: str
    model: str
    loss: str | None
    seed: int
    train_generators: tuple[str, ...]
    test_generator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Results:
    """The cells of runs folders as values; printed, it is the tables that the command prints.

    Each of `cells` has the generators of its `pair`, its `protocol`, `budget` and `perturbation`, the `facts` of its
    training, whose `folder` is named, the `records` of N test images (`ids`, `sources`, `counts`, int64 (N, 6)), and
    those of `authentic` images or None. `trained` and `reused` are the numbers of trainings that `run` has done now and
    before. `beside` are further cells of which the variance between seeds is pooled.
    """

    cells: tuple[Cell, ...]
    trained: int = 0
    reused: int = 0
    failed: tuple[Failure, ...] = ()
    beside: tuple[Cell, ...] = ()

    def __repr__(self) -> str:
        return str(self.tables())

    def _repr_markdown_(self) -> str:
        return self.tables().to_markdown()

    def rows(self) -> list[dict[str, Value]]:
        """Return a plain dict for each row of scores, seeds averaged, and for the mean over generators.

        The mean has no generators; what is not known is None. Scores are fractions, `low` and `high` bound 95 %.
        """
        return long_rows(self.cells, self.beside)

    def scores(self) -> list[dict[str, Any]]:
        """Return a plain dict with every score of each cell, as `--json` prints it."""
        return [cell_json(cell) for cell in self.cells]

    def images(self) -> list[dict[str, Value]]:
        """Return a plain dict for each test image of each cell: its id, source, pixel counts and IoU."""
        return [image for cell in self.cells for image in _images(cell)]

    def tables(self, by: str | None = None) -> Tables:
        """Return the tables of scores, or seen by `area`, `generator` or `seed`; raises UsageError for another view."""
        if by is not None and by not in VIEWS:
            raise UsageError(unknown("view", by, VIEWS))
        if by is None:
            return self._of_each_suite(self._scores)
        return self._of_each_suite(VIEWS[by])

    def _scores(self, cells: Sequence[Cell]) -> list[Table]:
        return [*score_tables(cells, self.beside), *transfer_tables(cells, self.beside)]

    def dialects(self, *names: str) -> Tables:
        """Return IoU as others define it, `all` or some of the dialects by name; raises UsageError for another."""
        chosen = dialects_of(names)
        return self._of_each_suite(lambda cells: dialect_tables(cells, chosen))

    def published(self, name: str) -> Tables:
        """Return the tables of a publication's suite beside its numbers, such as those of `poster`.

        Raises UsageError where there is no such publication, or it is of another suite.
        """
        suite, entry = publication_of(self, name)
        return Tables(tuple(published_tables([cell for cell in self.cells if cell.facts.suite == suite], entry)))

    def _of_each_suite(self, tables: Callable[[Sequence[Cell]], Iterable[Table]]) -> Tables:
        suites = grouped(self.cells, lambda cell: cell.facts.suite).values()
        return Tables(tuple(table for cells in suites for table in tables(cells)))

    def to_csv(self) -> str:
        """Return all rows as one csv of a value a column, rounded to three decimals."""
        return as_csv(long_table(self.cells, self.beside))


def results(*runs: str | Path) -> Results:
    """Return what lies in some runs folders, read as one; by default in `runs`. Needs no data, plugin or torch.

    Raises StoreError where a folder is not there, or damaged.
    """
    return Results(cells=tuple(read_cells(*map(Path, runs or ["runs"]))))


def dialects_of(names: Sequence[str]) -> list[Dialect]:
    """Return the dialects of these names, each once, `all` standing for all; raises UsageError."""
    every = [name for chosen in names for name in (DIALECTS if chosen == "all" else [chosen])]
    return [find_dialect(name) for name in dict.fromkeys(every)]


def publication_of(found: Results, name: str) -> tuple[str, Publication]:
    """Return the suite and the publication of that name; raises UsageError where it is none on a suite of these."""
    suite, entry = find_publication(name)
    suites = {cell.facts.suite for cell in found.cells}
    if suite not in suites:
        held = ", ".join(sorted(suites)) or "none"
        raise UsageError(f"publication {name!r} is of suite {suite!r}; the runs hold: {held}")
    return suite, entry


def _images(cell: Cell) -> Iterator[dict[str, Value]]:
    about: dict[str, Value] = {
        "suite": cell.facts.suite,
        "protocol": cell.protocol,
        "budget": cell.budget,
        "perturbation": cell.perturbation.name if cell.perturbation else None,
        "model": cell.facts.model.name,
        "loss": cell.facts.loss_expression,
        "experiment": cell.facts.experiment,
        "seed": cell.facts.seed,
        "train_generators": "+".join(cell.pair.train_generators),
        "test_suite": cell.transferred or cell.facts.suite,
        "test_generator": cell.pair.test_generator,
    }
    records = cell.records
    counts = records.counts[:, :4].tolist()
    for id, source, found, iou in zip(records.ids, records.sources, counts, image_ious(records).tolist(), strict=True):
        yield {
            **about,
            "id": id,
            "source": source,
            **dict(zip(("tp", "fp", "fn", "tn"), found, strict=True)),
            "iou": iou,
        }
