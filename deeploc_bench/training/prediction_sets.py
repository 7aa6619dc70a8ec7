"""Where the predictions of a suite lie: a folder for each generator dataset, and what made them was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeploc_bench.contract.errors import DataError, UsageError, unknown
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.data.suites import Suite
from deeploc_bench.plan.protocols import PROTOCOLS, Pair

ONE_EACH = ("loo", "same")
"""The protocols that test each generator by one training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSet:
    """Predictions on one test set, what they were trained on, and what lies beside them in their folder."""

    place: Path
    pair: Pair
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What whatever made the predictions was trained on: by a protocol, or these generators (none: nobody says)."""

    protocol: str | None = None
    generators: tuple[str, ...] = ()


def declared(suite: Suite, protocol: str | None, trained_on: str | None) -> Declared:
    """Return what was declared in the words of the flags; raises UsageError."""
    if protocol and trained_on:
        raise UsageError("--protocol says what was trained on, and so does --trained-on; leave one out")
    if protocol and protocol not in ONE_EACH:
        raise UsageError(f"--protocol {protocol} is not one of predictions. Allowed: {', '.join(ONE_EACH)}")
    named = {one.strip() for one in (trained_on or "").split(",") if one.strip()}
    for name in sorted(named - set(suite.standard)):
        raise UsageError(f"--trained-on: {unknown('generator', name, suite.standard)}")
    return Declared(protocol=protocol, generators=tuple(one for one in suite.standard if one in named))


def one_set(predictions: Path, suite: Suite, generator: str, made: Declared) -> list[PredictionSet]:
    """Return the set that holds the predictions on one generator dataset; raises UsageError."""
    if generator not in suite.generators:
        raise UsageError(unknown("generator", generator, suite.generators))
    if not made.protocol:
        return [PredictionSet(place=predictions, pair=_pair(made.generators, generator))]
    if generator not in suite.standard:
        raise UsageError(f"--protocol {made.protocol} tells nothing of {generator!r}; say --trained-on G,... instead")
    return [PredictionSet(place=predictions, pair=_pairs(made.protocol, suite)[generator])]


def all_sets(predictions: Path, suite: Suite, made: Declared) -> list[PredictionSet]:
    """Return the sets of a folder that holds a folder for each generator dataset.

    Of a protocol, the folder of a generator holds the predictions on it by its own training, and may hold folders with
    the same training's on the test-only generator datasets. Raises DataError with what is missing or strange.
    """
    test_only = tuple(name for name in suite.generators if name not in suite.standard)
    folders = _folders(predictions)
    _refuse(predictions, folders, suite.standard, () if made.protocol else test_only)
    if not made.protocol:
        return [
            PredictionSet(place=predictions / name, pair=_pair(made.generators, name))
            for name in suite.generators
            if name in folders
        ]
    sets = []
    for name, pair in _pairs(made.protocol, suite).items():
        beside = tuple(one for one in test_only if (predictions / name / one).is_dir())
        sets.append(PredictionSet(place=predictions / name, pair=pair, beside=beside))
        sets += [
            PredictionSet(place=predictions / name / one, pair=_pair(pair.train_generators, one)) for one in beside
        ]
    return sets


def lacking(sets: Sequence[PredictionSet], suite: Suite) -> list[str]:
    """Return a line for the test-only generator datasets on which there are no predictions by some training."""
    trained = {one.pair.train_generators: one.place.name for one in sets if one.pair.test_generator in suite.standard}
    tested = {one.pair for one in sets}
    lines = []
    for test in (name for name in suite.generators if name not in suite.standard):
        without = [name for train, name in trained.items() if _pair(train, test) not in tested]
        if without:
            by = f" beside those of {', '.join(without)}" if len(trained) > 1 else ""
            why = ": false alarms are not known, and a leaderboard wants them" if test == AUTHENTIC else ""
            lines.append(f"no predictions on {test!r}{by}{why}")
    return lines


def _refuse(predictions: Path, folders: Sequence[str], needed: Sequence[str], allowed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in folders]
    strange = [name for name in folders if name not in (*needed, *allowed)]
    if not missing and not strange:
        return
    lines = [f"{predictions}: it needs a folder of predictions for each generator, called {', '.join(needed)}"]
    lines += [f"missing: {', '.join(missing)}"] if missing else []
    lines += [f"strange: {', '.join(strange)}"] if strange else []
    if AUTHENTIC in strange:
        lines.append(f"each training predicts {AUTHENTIC} images: put them into {needed[0]}/{AUTHENTIC}, and so on")
    if len(missing) == len(needed):
        lines.append("does it hold the predictions on one generator? Name it: --generator G")
    raise DataError("\n  ".join(lines))


def _folders(predictions: Path) -> list[str]:
    if not predictions.is_dir():
        raise DataError(
            f"{predictions} is no folder; name one that holds a folder of predictions for each generator, or say "
            "--generator G where it is an archive of those on one"
        )
    return sorted(entry.name for entry in predictions.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pairs(protocol: str, suite: Suite) -> dict[str, Pair]:
    return {pair.test_generator: pair for pair in PROTOCOLS[protocol](suite.standard, ())}


def _pair(train: tuple[str, ...], test: str) -> Pair:
    return Pair(train_generators=train, test_generator=test)
