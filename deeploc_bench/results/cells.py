"""The one reader of a runs folder: its cells, with the facts of their trainings and their records."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias, TypeVar

from deeploc_bench.contract.errors import StoreError, UsageError
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.data.perturb import Perturbation
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TestedSuite, TrainingFacts
from deeploc_bench.plan.plan import Plan
from deeploc_bench.plan.protocols import (
    HELD_OUT,
    NOTHING,
    PROTOCOLS,
    SCORE,
    TRANSFER,
    Included,
    Pair,
    all_but,
    declared,
    pairs_of,
    trained_on,
)
from deeploc_bench.plan.recipe import label
from deeploc_bench.plan.store import Tested
from deeploc_bench.scoring.records import Records

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Group: TypeAlias = tuple[str, str, str, str, str]
"""What a table is about: suite, protocol, budget, the plugin that adds its test generators (or empty), experiment."""
Place: TypeAlias = tuple[Path, TrainingFacts, str, str, Pair, Tested]
"""Where the records of a cell may lie: folder, facts, protocol, budget, pair, and what was tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One (train generators -> test generator) pair of one protocol and training, with its records."""

    protocol: str
    """`score` where what was made elsewhere belongs to no protocol, `transfer` where another suite was tested."""
    budget: str
    pair: Pair
    perturbation: Perturbation | None
    facts: TrainingFacts
    folder: Path
    records: Records
    authentic: Records | None
    """The training's records on untouched images, if it has been tested on some."""
    transferred: str | None = None
    """The other suite that was tested; None where it is the training's own."""

    @property
    def group(self) -> Group:
        """Return what its table is about; what belongs to no protocol, by what it was trained on too."""
        trained = "" if self.protocol in PROTOCOLS else "+".join(self.pair.train_generators)
        experiment = f"{self.facts.experiment}{trained}"
        return (self.suites, self.protocol, self.budget, self.added_by or "", experiment)

    @property
    def suites(self) -> str:
        """Return the words for its suite, or for the one trained on and the one tested."""
        return f"{self.facts.suite} to {self.transferred}" if self.transferred else self.facts.suite

    @property
    def tested(self) -> TestedSuite | TrainingFacts:
        """Return what is known of the suite that was tested."""
        return self.facts.transfers[self.transferred] if self.transferred else self.facts

    @property
    def test(self) -> str:
        """Return the words for what was tested: its generator, behind its suite where that is another."""
        return f"{self.transferred}/{self.pair.test_generator}" if self.transferred else self.pair.test_generator

    @property
    def added_by(self) -> str | None:
        """Return the plugin that adds its test generator to another's suite; None where it is the suite's own."""
        return self.tested.added.get(self.pair.test_generator)

    @property
    def recipe(self) -> str:
        """Return the recipe's name and all in which it was changed; what was not trained here has none."""
        if self.facts.recipe:
            return label(self.facts.recipe)
        if self.facts.is_detector:
            return f"trained elsewhere: {declared(self.facts.trained_on)}"
        return {"fitted": "fitted", "tested": "never trained"}.get(self.facts.kind, "made elsewhere")

    @property
    def train(self) -> str:
        """Return the words for what was trained on, such as `w/o lama`; of a detector, what it declares."""
        if self.facts.is_detector:
            return declared(self.facts.trained_on)
        facts = self.facts
        return trained_on(self.pair.train_generators, self.protocol, facts.standard_generators, facts.included)

    @property
    def trained(self) -> tuple[str, ...] | None:
        """Return the generators trained on: of a detector those that it declares, None where it declares nothing."""
        return self.facts.trained_on if self.facts.is_detector else self.pair.train_generators

    @property
    def is_seen(self) -> bool | None:
        """Tell whether its test generator is made by the method of one that was trained on: it is not held out.

        None where a detector does not declare what it was trained on. What is trained here by a protocol on standard
        generators is told by the pair, but for those of several suites, which may share a method.
        """
        if self.trained is None:
            return None
        test, facts = self.pair.test_generator, self.facts
        is_told = self.protocol not in HELD_OUT or test not in facts.included
        if test in facts.standard_generators and is_told and not facts.is_detector and not self.transferred:
            return False
        own, theirs = self.facts.methods, self.tested.methods
        return theirs.get(test, test) in {own.get(name, name) for name in self.trained}


def read_cells(*runs: Path) -> list[Cell]:
    """Return the cells of every tested training below some runs folders, in the tables' order; raises StoreError."""
    return cells_in(folder for one in runs for folder in store.training_folders(one))


def cells_in(folders: Iterable[Path]) -> list[Cell]:
    """Return the cells of the tested trainings in some folders, in the tables' order.

    A training that lies there twice counts once, with all that it was tested on in either place. Records of other data
    than its facts tell of are left out. A model that is never trained stands in every cell that others of its data
    have; a baseline that was fitted also in those of predictions that were made elsewhere by what was trained on the
    same. Raises StoreError.
    """
    trainings = []
    for folder in folders:
        facts = store.read_facts(folder)
        if store.is_ready(folder, facts):
            trainings.append((folder, facts))
    own = [one for one in trainings if one[1].kind != "tested"]
    cells = _cells(place for folder, facts in own for place in _places(folder, facts))
    for folder, facts in trainings:
        others = [cell for cell in cells if (cell.facts.suite, cell.facts.data) == (facts.suite, facts.data)]
        cells += _cells(_beside(folder, facts, others))
    return sorted(map(_only, grouped(cells, _key).values()), key=_order)


def planned_cells(runs: Path, plan: Plan) -> list[Cell]:
    """Return those cells of a plan whose trainings are done, in the tables' order; raises StoreError."""
    places: list[Place] = []
    for cell in plan.cells:
        training = plan.trainings[cell.identity]
        folder = runs / training.place
        if store.is_ready(folder, training.facts):
            places.append((folder, training.facts, cell.protocol, cell.budget, cell.pair, cell.tested))
    return sorted(_cells(places), key=_order)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return the items of each key, keys and items in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def protocols_of(
    pair: Pair, standard: Sequence[str], test_only: Sequence[str], included: Included = NOTHING
) -> list[str]:
    """Return the protocols that a pair is a cell of."""
    return [name for name in PROTOCOLS if pair in _pairs_of(name, standard, test_only, included)]


def _pairs_of(protocol: str, standard: Sequence[str], test_only: Sequence[str], included: Included) -> list[Pair]:
    """Return the pairs of a protocol; none where the suite has none."""
    try:
        return PROTOCOLS[protocol](standard, test_only, included)
    except UsageError:
        return []


def made_by(trained_on: Sequence[str], generators: Sequence[str], methods: Mapping[str, str]) -> list[str]:
    """Return those generators that are made by the method of one that was trained on."""
    trained = {methods.get(name, name) for name in trained_on}
    return [name for name in generators if methods.get(name, name) in trained]


def _places(folder: Path, facts: TrainingFacts) -> Iterator[Place]:
    train, standard, every = facts.train_generators, facts.standard_generators, store.tested_in(folder)
    tests = [tested for tested in every if not tested.suite]
    generators = {tested.generator for tested in tests}

    def is_whole(protocol: str) -> bool:
        """Tell whether all standard generators were tested that the protocol asks for after this training."""
        pairs = PROTOCOLS[protocol](standard, (), facts.included)
        own = [pair.test_generator for pair in pairs if pair.train_generators == train]
        return set(own) <= generators

    for tested in tests:
        pair = Pair(train_generators=train, test_generator=tested.generator)
        test_only = [] if tested.generator in standard else [tested.generator]
        known = protocols_of(pair, standard, test_only, facts.included)
        protocols = [protocol for protocol in known if is_whole(protocol)]
        for protocol in protocols or ([SCORE] if facts.kind == "scored" else []):
            yield folder, facts, protocol, facts.budget if protocol in HELD_OUT else "full", pair, tested
    for tested in every:
        if tested.suite:
            pair = Pair(train_generators=train, test_generator=tested.generator)
            yield folder, facts, TRANSFER, facts.budget, pair, tested


def _beside(folder: Path, facts: TrainingFacts, others: Sequence[Cell]) -> Iterator[Place]:
    """Yield the places at which a model stands beside others.

    One that is never trained stands at all of theirs, or by itself at those of `loo` or `same`; a baseline that was
    fitted at those of predictions that were made elsewhere by what was trained on the same.
    """
    standard, tests = facts.standard_generators, store.tested_in(folder)
    test_only = sorted({tested.generator for tested in tests if not tested.suite} - {*standard, AUTHENTIC})
    alone = "loo" if len(standard) > 1 else "same" if standard else SCORE
    pairs = pairs_of(alone, standard, test_only) if facts.kind == "tested" else []
    own = [(None, alone, "full", pair) for pair in pairs]
    alike = [cell for cell in others if facts.kind == "tested" or (facts.kind == "fitted" and _is_like(cell, facts))]
    for suite, protocol, budget, pair in (
        dict.fromkeys((c.transferred, c.protocol, c.budget, c.pair) for c in alike) or own
    ):
        for tested in tests:
            if (tested.suite, tested.generator) == (suite, pair.test_generator):
                yield folder, facts, protocol, budget, pair, tested


def _is_like(cell: Cell, facts: TrainingFacts) -> bool:
    """Tell whether a cell is of predictions by what was trained on the same, or, where nobody says, was held out."""
    trained = cell.pair.train_generators or all_but(cell.pair.test_generator, facts.standard_generators)
    return cell.facts.kind == "scored" and (trained, cell.budget) == (facts.train_generators, facts.budget)


def _cells(places: Iterable[Place]) -> list[Cell]:
    """Return the cells whose records are there, and are of the data that the facts tell of."""
    read = cache(store.read_records)  # a training's records on untouched images belong to each of its cells
    cells = []
    for folder, facts, protocol, budget, pair, tested in places:
        about = facts.transfers.get(tested.suite) if tested.suite else facts
        data, untouched = (about.test_data.get(name) if about else None for name in (tested.generator, AUTHENTIC))
        records = read(folder, tested, data) if data and tested.generator != AUTHENTIC else None
        if records is not None:
            cell = Cell(
                protocol=protocol,
                budget=budget,
                pair=pair,
                perturbation=tested.perturbation,
                facts=facts,
                folder=folder,
                records=records,
                authentic=read(folder, Tested(generator=AUTHENTIC, suite=tested.suite), untouched)
                if untouched
                else None,
                transferred=tested.suite,
            )
            cells.append(cell)
    return cells


def _only(copies: Sequence[Cell]) -> Cell:
    first, *others = copies
    for other in others:
        if (other.records.ids, other.records.preds) != (first.records.ids, first.records.preds):
            raise StoreError(
                f"{first.folder} and {other.folder} hold one training with different records of "
                f"{first.pair.test_generator}, as two machines make them; name one of both runs folders"
            )
    return first


def _key(cell: Cell) -> tuple[object, ...]:
    # a model that is never trained has one identity in all suites
    facts = cell.facts
    return (cell.suites, facts.data, facts.identity, cell.protocol, cell.budget, cell.pair, cell.perturbation)


def _order(cell: Cell) -> tuple[object, ...]:
    """Baselines last; by protocol, model, loss and pair, as protocols list them, what was added last; then by seed."""
    facts, pair = cell.facts, cell.pair
    protocols = [*PROTOCOLS, TRANSFER, SCORE]
    names = (pair.test_generator,) if cell.protocol in HELD_OUT else (*pair.train_generators, pair.test_generator)
    method = (facts.model.name, facts.loss_expression or "", facts.experiment)
    place = (facts.suite, facts.baseline, protocols.index(cell.protocol), cell.suites, cell.budget, method)
    return (*place, cell.added_by or "", names, facts.seed)
