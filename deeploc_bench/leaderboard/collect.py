"""Collects the finished trainings of one experiment out of a runs folder into a submission."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.leaderboard.claims import claimed, missing, pairs_of, records_of
from deeploc_bench.leaderboard.submission import (
    SCHEMA,
    SCORED,
    Counts,
    Evidence,
    LossTerm,
    ModelOrigin,
    Speed,
    Submission,
    TrainingRecords,
)
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Environment, TrainingFacts
from deeploc_bench.plan.protocols import BUDGETS, RANKED
from deeploc_bench.plan.recipe import division
from deeploc_bench.results.cells import Cell, grouped, made_by, read_cells
from deeploc_bench.scoring.records import Records

NO_LOSS = {"fitted": "fitted", "tested": "untrained", "scored": SCORED}
"""The loss expression of what has no loss: a baseline that fits itself, a model never trained, and predictions."""
FEWEST_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to collect; `experiment` (the beginning of its hash), `recipe`, `budget` and `seeds` choose among several.

    `loss` is None for a model that is never trained, and for a baseline that fits itself.
    """

    suite: str
    model: str
    loss: str | None = None
    recipe: str | None = None
    experiment: str = ""
    budget: str | None = None
    seeds: Sequence[int] = ()

    @property
    def title(self) -> str:
        """Return the model and its loss, as they are asked for."""
        return f"{self.model}+{self.loss}" if self.loss else self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What whoever submits says, and no record shows."""

    name: str
    contact: str
    date: datetime.date
    license: str | None = None
    reference: str | None = None
    code: str | None = None
    reproduces: str | None = None
    pretraining_generators: tuple[str, ...] = ()
    speed: Speed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One finished training as a submission holds it: its seed, what it was trained on, and all that it was tested on.

    A model that is never trained stands for a training on everything, with the same records.
    """

    facts: TrainingFacts
    folder: Path
    train_generators: tuple[str, ...]
    tests: Mapping[str, Records]


def collect(runs: Path, selection: Selection, declaration: Declaration) -> Submission:
    """Return the submission of the trainings that are meant, its claims made of their records.

    Raises UsageError where there is none, where there are several candidates, and where a seed or a cell is missing;
    StoreError where the runs folder is damaged.
    """
    cells = _one_candidate(_candidates(runs, selection), selection)
    trainings = list(_finished(cells, selection))
    if not trainings:
        asked, found = list(selection.seeds), sorted({cell.facts.seed for cell in cells})
        raise UsageError(f"{selection.title} has no finished training of seeds {asked}; it has those of {found}")
    evidence = _evidence(trainings, selection, declaration)
    records = records_of(evidence)
    lacking = missing(evidence, records, "loo")
    if lacking:
        tests = ", ".join(f"seed {seed} w/o {pair.test_generator}" for seed, pair in lacking[:4])
        more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
        raise UsageError(f"{selection.title} lacks tests of loo: {tests}{more}. {_cure(trainings[0].facts)}")
    return claimed(evidence, records)


def _candidates(runs: Path, selection: Selection) -> dict[str, list[Cell]]:
    """Return the cells of each experiment that a model and a loss may mean, by its hash."""
    every = [cell for cell in read_cells(runs) if cell.facts.suite == selection.suite]
    if every and not any(cell.facts.standard_generators for cell in every):
        raise UsageError(f"suite {selection.suite!r} is tested only, and has no leaderboard; 'results' shows its cells")
    tested = [cell for cell in every if cell.protocol in RANKED and not cell.added_by]
    # as one text, since a model that is made of another has a '+' in its name, too
    found = [c for c in tested if _title(c) == selection.title and not c.perturbation]
    if not found:
        known = sorted({*map(_title, tested)})
        raise UsageError(
            f"{runs} holds no finished training of {selection.title} on suite {selection.suite!r}; of this suite it "
            f"holds: {', '.join(known) or 'none'}. Run it first, all generators and seeds, with --protocol loo, "
            "or score its predictions with --protocol loo."
        )
    return grouped(found, lambda cell: cell.facts.experiment)


def _title(cell: Cell) -> str:
    """Return a cell's model and loss, as they are asked for."""
    return cell.facts.what.replace(" + ", "+")


def _cure(facts: TrainingFacts) -> str:
    """Return the words for how to make the tests that are missing."""
    suite, name = facts.suite, facts.model.name
    if facts.kind == "scored":
        command, more = f"score PREDICTIONS --suite {suite} --name {name}", "each --seed by itself"
        return f"Score them: deeploc-bench {command} --protocol loo, {more}"
    command, more = f"run --suite {suite} --model {name}", "with its loss, recipe and every seed"
    return f"Run them: deeploc-bench {command} --protocol loo, {more}"


def _one_candidate(candidates: Mapping[str, list[Cell]], selection: Selection) -> list[Cell]:
    named = {key: cells for key, cells in candidates.items() if key.startswith(selection.experiment.lower())}
    asked = {key: cells for key, cells in named.items() if selection.recipe in (None, cells[0].recipe)}
    if not asked:  # the name of a recipe that was changed
        asked = {key: cells for key, cells in named.items() if selection.recipe == cells[0].recipe.partition(",")[0]}
    if len(asked) == 1:
        return next(iter(asked.values()))
    shown = asked or candidates
    reason = "" if asked else ", none of them as asked for"
    lines = "\n  ".join(_described(shown))
    raise UsageError(f"{selection.title} has {len(shown)} candidates to submit{reason}; choose one:\n  {lines}")


def _described(candidates: Mapping[str, list[Cell]]) -> Iterator[str]:
    """Yield a line for each candidate: the flags that choose it, its code, its trainings and its seeds."""
    digits = FEWEST_DIGITS if len({key[:FEWEST_DIGITS] for key in candidates}) == len(candidates) else None
    for key, cells in candidates.items():
        trainings = {cell.facts.identity for cell in cells}
        seeds = ", ".join(map(str, sorted({cell.facts.seed for cell in cells})))
        flags = f"--experiment {key[:digits]}  --recipe {cells[0].recipe!r}"
        yield f"{flags}  code {cells[0].facts.model.source}, {len(trainings)} trainings, seeds {seeds}"


def _finished(cells: Sequence[Cell], selection: Selection) -> Iterator[Finished]:
    """Yield the trainings of one experiment, those of `loo` of one budget, by seed and generators trained on."""
    first = cells[0]
    if first.facts.kind == "tested":
        yield from _everywhere(cells)
        return
    budget = _budget(cells, selection)
    kept = [cell for cell in cells if cell.protocol != "loo" or cell.budget == budget]
    by_training = grouped(kept, lambda cell: (cell.facts.seed, tuple(sorted(cell.pair.train_generators))))
    every = sorted({seed for seed, _ in by_training})
    trained = {pair.train_generators for pair in pairs_of("loo", _generators(first))}
    complete = [seed for seed in every if all((seed, train) in by_training for train in trained)]
    for (seed, train), own in by_training.items():
        if seed in (selection.seeds or complete or every):
            yield Finished(facts=own[0].facts, folder=own[0].folder, train_generators=train, tests=tests_of(own))


def _everywhere(cells: Sequence[Cell]) -> Iterator[Finished]:
    """Yield a model that is never trained once for each training that `loo` and `same` ask for; a detector for `loo`.

    For a detector there is no same generator: what it has seen, it declares.
    """
    first, tests = cells[0], tests_of(cells)
    protocols = ("loo",) if first.facts.is_detector else ("loo", "same")
    pairs = [pair for protocol in protocols for pair in pairs_of(protocol, _generators(first))]
    for train in dict.fromkeys(pair.train_generators for pair in pairs):
        is_same = len(train) == 1 and "same" in protocols
        own = {test: records for test, records in tests.items() if is_same or test not in train}
        yield Finished(facts=first.facts, folder=first.folder, train_generators=train, tests=own)


def tests_of(cells: Sequence[Cell]) -> dict[str, Records]:
    """Return the records of a training's cells, by test generator, authentic images among them."""
    tests = {cell.pair.test_generator: cell.records for cell in cells}
    untouched = next((cell.authentic for cell in cells if cell.authentic is not None), None)
    return dict(sorted((tests | ({AUTHENTIC: untouched} if untouched else {})).items()))


def _generators(cell: Cell) -> tuple[str, ...]:
    return tuple(sorted(cell.facts.standard_generators))


def _budget(cells: Sequence[Cell], selection: Selection) -> str:
    found = sorted({cell.budget for cell in cells if cell.protocol == "loo"})
    if selection.budget is not None and selection.budget not in BUDGETS:
        raise UsageError(unknown("budget", selection.budget, BUDGETS))
    if selection.budget is not None and selection.budget not in found:
        raise UsageError(f"{selection.title} has no loo trainings of budget {selection.budget!r}; it has: {found}")
    if selection.budget is None and len(found) > 1:
        raise UsageError(f"{selection.title} has loo trainings of two budgets; choose: --budget full or matched")
    return selection.budget or (found[0] if found else "full")


def _evidence(trainings: Sequence[Finished], selection: Selection, declaration: Declaration) -> Evidence:
    facts = trainings[0].facts
    known = _known(trainings)
    folders = {one.folder for one in trainings if one.facts.kind != "scored"}
    environments = {folder: _environment(folder) for folder in folders}
    budgets = [one.facts.budget for one in trainings if len(one.train_generators) > 1]
    return Evidence(
        **asdict(declaration) | {"speed": declaration.speed},
        schema=SCHEMA,
        suite=facts.suite,
        model=ModelOrigin(**msgspec.structs.asdict(facts.model), weights=facts.weights, trained_on=_trained_on(facts)),
        baseline=facts.baseline,
        loss=tuple(LossTerm(**msgspec.structs.asdict(term)) for term in facts.loss),
        loss_expression=facts.loss_expression or NO_LOSS[facts.kind],
        recipe=msgspec.to_builtins(facts.recipe),
        budget="matched" if "matched" in budgets else "full",
        division=division(facts.recipe, facts.pretraining),
        pretraining=facts.pretraining,
        seeds=tuple(sorted(set(selection.seeds) or {one.facts.seed for one in trainings})),
        fingerprint=facts.fingerprint,
        generators=tuple(sorted(facts.standard_generators)),
        ids={name: records.ids for name, records in known.items()},
        sources={name: records.sources for name, records in known.items()},
        pixels={name: tuple(records.pixels.tolist()) for name, records in known.items()},
        trainings=tuple(_records(one, environments.get(one.folder)) for one in trainings),
    )


def _trained_on(facts: TrainingFacts) -> tuple[str, ...] | None:
    """Return what a detector declares, and the standard generators that are made by what it declares."""
    if facts.trained_on is None:
        return None
    return tuple(sorted({*facts.trained_on, *made_by(facts.trained_on, facts.standard_generators, facts.methods)}))


def _known(trainings: Sequence[Finished]) -> dict[str, Records]:
    """Return the records of some training for each test generator; raises UsageError where others are of other data."""
    known: dict[str, tuple[Path, Records]] = {}
    for one in trainings:
        if one.facts.fingerprint != trainings[0].facts.fingerprint:
            raise UsageError(
                f"{one.folder} and {trainings[0].folder} are of other data of suite {one.facts.suite!r}; "
                "run all seeds again on one"
            )
        for name, records in one.tests.items():
            folder, first = known.setdefault(name, (one.folder, records))
            if _images(records) != _images(first):
                raise UsageError(f"{one.folder} and {folder} were tested on other images of {name!r}; run them again")
    return {name: records for name, (_, records) in sorted(known.items())}


def _images(records: Records) -> tuple[object, ...]:
    return (records.ids, records.sources, records.pixels.tolist())


def _records(training: Finished, environment: Environment | None) -> TrainingRecords:
    return TrainingRecords(
        seed=training.facts.seed,
        train_generators=training.train_generators,
        identity=training.facts.identity,
        environment=environment,
        tests={name: counts_of(records) for name, records in training.tests.items()},
    )


def counts_of(records: Records) -> Counts:
    """Return records as a submission holds them."""
    tp, fp, fn = (tuple(column.tolist()) for column in (records.tp, records.fp, records.fn))
    return Counts(tp=tp, fp=fp, fn=fn, pred=records.preds)


def _environment(folder: Path) -> Environment:
    found = store.read_environment(folder)
    return Environment(**{key: getattr(found, key) for key in Environment.__struct_fields__})
