"""Checks a submission against itself, its suite and its neighbours: consistency, not honesty. Runs nothing of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deeploc_bench.board import claims
from deeploc_bench.board.submission import Counts, Submission, read
from deeploc_bench.contract.errors import RecipeError, SubmissionError
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.training.recipe import division, from_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A failure, or a warning for a reader: the check that found it and what it found."""

    check: str
    message: str


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What the checks of one file found."""

    file: str
    submission: Submission | None = None
    failures: list[Mark] = field(default_factory=list)
    warnings: list[Mark] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Tell whether nothing failed."""
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A leaderboard folder: the manifest of each suite, and the accepted submissions."""

    manifests: Mapping[str, Mapping[str, Any]]
    accepted: Mapping[Path, Submission]


Marks = Iterator[Mark]
Check = Callable[[Submission, Board], Marks]


def load_board(folder: Path) -> Board:
    """Read a leaderboard folder; submissions in it that cannot be read are left out (verifying them says why)."""
    manifests = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted((folder / "suites").glob("*.json"))}
    accepted = {}
    for file in submission_files(folder):
        try:
            accepted[file.resolve()] = read(file)
        except SubmissionError:
            continue
    return Board(manifests=manifests, accepted=accepted)


def submission_files(folder: Path) -> list[Path]:
    """Return the submissions of a leaderboard folder, sorted."""
    return sorted((folder / "submissions").glob("*/*.json"))


def verify(file: Path, board: Board, base: Path | None = None) -> Verdict:
    """Run every check on a file; all failures are listed at once, as far as the file can be read.

    `base` is the leaderboard folder before a change: no number of a file that stands there may differ.
    """
    verdict = Verdict(file=str(file))
    try:
        submission = board.accepted.get(file.resolve()) or read(file)
    except SubmissionError as error:
        verdict.failures.append(Mark(check=error.check, message=str(error)))
        return verdict
    verdict.submission = submission
    verdict.failures += _place(submission, file)
    for check in SHAPE_CHECKS:
        verdict.failures += check(submission, board)
    if not verdict.failures:
        for check in VALUE_CHECKS:
            verdict.failures += check(submission, board)
    if base is not None:
        verdict.failures += _unchanged(submission, file, base)
    if not verdict.failures:
        others = {path: other for path, other in board.accepted.items() if path != file.resolve()}
        verdict.warnings += _reader_warnings(submission, others)
    return verdict


def _place(submission: Submission, file: Path) -> Marks:
    if submission.name != file.stem:
        yield Mark(check="name", message=f"name {submission.name!r} is not the file's stem, {file.stem!r}")
    if file.parent.parent.name == "submissions" and submission.suite != file.parent.name:
        yield Mark(check="place", message=f"suite {submission.suite!r} lies in the folder of {file.parent.name!r}")


def _lists(submission: Submission, board: Board) -> Marks:
    """Seeds, generators and ids are sorted and stand there once."""
    if submission.seeds != sorted(set(submission.seeds)) or not submission.seeds:
        yield Mark(check="seeds", message=f"seeds {submission.seeds} must be sorted, without repeats, and not empty")
    if submission.generators != sorted(set(submission.generators)):
        yield Mark(check="generators", message="generators must be sorted, without repeats")
    if len(submission.generators) < 2 or not {*submission.generators} <= {*submission.ids}:
        yield Mark(check="generators", message="loo needs two standard generators or more, each with its ids")
    for name, ids in submission.ids.items():
        if ids != sorted(set(ids)) or not ids:
            yield Mark(check="ids", message=f"ids of {name} must be sorted, without repeats, and not empty")


def _lengths(submission: Submission, board: Board) -> Marks:
    """What belongs together has one length."""
    for name, ids in submission.ids.items():
        for what, other in (("sources", submission.sources), ("pixels", submission.pixels)):
            if len(other.get(name, ())) != len(ids):
                yield Mark(check="lengths", message=f"{name} has {len(ids)} ids and {len(other.get(name, ()))} {what}")
    for training in submission.trainings:
        where = f"seed {training.seed} on {'+'.join(training.train_generators)}"
        for name, counts in training.tests.items():
            lengths = {len(part) for part in (counts.tp, counts.fp, counts.fn, counts.pred)}
            if lengths != {len(submission.ids.get(name, ()))}:
                yield Mark(check="lengths", message=f"{where}, test {name}: lists of {sorted(lengths)} for its ids")


def _cells(submission: Submission, board: Board) -> Marks:
    """`loo` is complete; `same` and `cross` are complete or absent; nothing stands twice or beside them."""
    generators = submission.generators
    count = Counter((training.seed, tuple(training.train_generators)) for training in submission.trainings)
    known = {train for protocol in ("loo", "same") for train, _ in claims.pairs_of(protocol, generators)}
    for (seed, train), times in count.items():
        if times > 1:
            yield Mark(check="cells", message=f"seed {seed} on {'+'.join(train)} stands there {times} times")
        if train not in known:
            yield Mark(check="cells", message=f"training on {'+'.join(train)} belongs to no protocol")
        if seed not in submission.seeds:
            yield Mark(check="seeds", message=f"seed {seed} has records but is not declared")
    if not claims.is_complete(submission, "loo"):
        yield Mark(check="cells", message="loo is required: each generator held out, with every declared seed")
    has_same = any(set(training.tests) & set(training.train_generators) for training in submission.trainings)
    if has_same and not claims.is_complete(submission, "same"):
        yield Mark(check="cells", message="same is optional, but complete: every generator with every declared seed")


def _held_out(submission: Submission, board: Board) -> Marks:
    for name in sorted({*submission.pretraining_generators} & {*submission.generators}):
        yield Mark(check="held-out", message=f"{name} is held out, but the declared pretraining has seen it")
    for training in submission.trainings:
        unknown = {*training.train_generators} - {*submission.generators}
        if unknown:
            yield Mark(check="held-out", message=f"trained on {', '.join(sorted(unknown))}, no standard generator")


def _suite(submission: Submission, board: Board) -> Marks:
    """Ids, sources, pixels and fingerprint are those of the suite's manifest."""
    manifest = board.manifests.get(submission.suite)
    if manifest is None:
        return
    if submission.fingerprint != manifest["fingerprint"]:
        yield Mark(
            check="fingerprint", message=f"data {submission.fingerprint}; the suite's is {manifest['fingerprint']}"
        )
    standard = sorted(name for name, part in manifest["generators"].items() if part["role"] == "standard")
    if submission.generators != standard:
        yield Mark(check="generators", message=f"generators {submission.generators}; the suite's are {standard}")
    for name, ids in submission.ids.items():
        if name not in manifest["generators"]:
            yield Mark(check="generators", message=f"{name} is no generator of suite {submission.suite}")
            continue
        test = manifest["generators"][name]["test"]
        for check, mine, key in (
            ("ids", ids, "id"),
            ("sources", submission.sources.get(name), "source"),
            ("pixels", submission.pixels.get(name), "pixels"),
        ):
            if mine != [image[key] for image in test]:
                yield Mark(check=check, message=f"{check} of {name} are not those of the suite's manifest")


def _areas(submission: Submission, board: Board) -> Marks:
    """tp + fn is the area of each mask, and no more pixels are counted than there are."""
    areas = _mask_areas(submission, board)
    for training, name, counts in _tests(submission):
        tp, fp, fn = (np.array(part, np.int64) for part in (counts.tp, counts.fp, counts.fn))
        where = f"seed {training.seed} on {'+'.join(training.train_generators)}, test {name}"
        wrong = np.flatnonzero(tp + fn != areas[name])
        if len(wrong):
            id = submission.ids[name][int(wrong[0])]
            yield Mark(check="area", message=f"{where}: tp + fn is not the mask's area on {len(wrong)} images, as {id}")
        over = np.flatnonzero(tp + fp + fn > np.array(submission.pixels[name], np.int64))
        if len(over):
            id = submission.ids[name][int(over[0])]
            yield Mark(check="pixels", message=f"{where}: more pixels than there are on {len(over)} images, as {id}")


def _mask_areas(submission: Submission, board: Board) -> dict[str, Any]:
    manifest = board.manifests.get(submission.suite)
    if manifest is not None:
        parts = manifest["generators"]
        return {name: np.array([image["mask_area"] for image in parts[name]["test"]]) for name in submission.ids}
    others = [o for o in board.accepted.values() if o.suite == submission.suite and o.ids == submission.ids]
    first = next((other for other in others if other.name != submission.name), submission)
    areas: dict[str, Any] = {}
    for _, name, counts in _tests(first):
        areas.setdefault(name, np.array(counts.tp, np.int64) + np.array(counts.fn, np.int64))
    return areas


def _tests(submission: Submission) -> Iterator[tuple[Any, str, Counts]]:
    for training in submission.trainings:
        for name, counts in training.tests.items():
            yield training, name, counts


def _division(submission: Submission, board: Board) -> Marks:
    """The division follows from the recipe and the declared facts alone."""
    try:
        recipe = from_values(submission.recipe, "of the submission")
    except RecipeError as error:
        yield Mark(check="recipe", message=str(error))
        return
    found = division(recipe, submission.pretraining) if submission.loss else "open"
    if submission.division != found:
        yield Mark(check="division", message=f"division {submission.division!r}; by its recipe it is {found!r}")


def _claims(submission: Submission, board: Board) -> Marks:
    """Every claim equals what the records give, to the last digit."""
    mine, theirs = (_flat(msgspec.to_builtins(c)) for c in (claims.claims_of(submission), submission.claims))
    for key in sorted({*mine, *theirs}):
        if mine.get(key) != theirs.get(key):
            yield Mark(
                check="claims", message=f"{key} is claimed as {theirs.get(key)}; the records give {mine.get(key)}"
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{prefix}.{name}".lstrip(".")).items()
    }


def _unchanged(submission: Submission, file: Path, base: Path) -> Marks:
    before = base / "submissions" / submission.suite / file.name
    if not before.exists():
        return
    old = read(before)
    numbers = ("trainings", "claims", "ids", "sources", "pixels", "seeds", "recipe", "fingerprint", "generators")
    for name in numbers:
        if getattr(old, name) != getattr(submission, name):
            yield Mark(
                check="base", message=f"{name} differ from the accepted file {before}; submit under another name"
            )


SHAPE_CHECKS: tuple[Check, ...] = (_lists, _lengths, _cells, _held_out, _suite)
VALUE_CHECKS: tuple[Check, ...] = (_areas, _division, _claims)


def _reader_warnings(submission: Submission, others: Mapping[Path, Submission]) -> Marks:
    mine = submission.claims.loo
    rivals = [other for other in others.values() if other.suite == submission.suite]
    for name, value in mine.by_generator.items():
        best = max((other.claims.loo.by_generator.get(name, 0.0) for other in rivals), default=1.0)
        if value > best:
            yield Mark(check="best", message=f"held-out {name}: {value:.4f} is better than the best known, {best:.4f}")
    for other in rivals:
        if other.name != submission.reproduces and _preds(other) & _preds(submission):
            yield Mark(check="copy", message=f"whole prediction sets are equal to those of {other.name!r}")
    if len(submission.seeds) > 1 and mine.spread == 0:
        yield Mark(check="spread", message=f"no spread over {len(submission.seeds)} seeds")
    for training, name, counts in _tests(submission):
        predicted = np.array(counts.tp, np.int64) + np.array(counts.fp, np.int64)
        trivial = np.mean((predicted == 0) | (predicted == np.array(submission.pixels[name], np.int64)))
        if name not in (AUTHENTIC, *training.train_generators) and len(training.train_generators) > 1 and trivial > 0.5:
            where = f"seed {training.seed} on {'+'.join(training.train_generators)}, test {name}"
            yield Mark(
                check="trivial", message=f"{where}: predictions are empty or full on {trivial:.0%} of the images"
            )


def _preds(submission: Submission) -> set[tuple[str, ...]]:
    return {tuple(counts.pred) for _, name, counts in _tests(submission) if name != AUTHENTIC}
