"""Checks a submission against itself, its suite and its neighbours: consistency, not honesty. Runs nothing of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from deeploc_bench.contract.errors import RecipeError, SubmissionError
from deeploc_bench.leaderboard import claims
from deeploc_bench.leaderboard.claims import Entry, Tables
from deeploc_bench.leaderboard.submission import Submission, read
from deeploc_bench.plan.recipe import division, from_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A failure, or a warning for a reader: the check that found it and what it found."""

    check: str
    message: str


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What the checks of one file found, and what is kept of it if it passed."""

    file: Path
    entry: Entry | None = None
    failures: list[Mark] = field(default_factory=list)
    warnings: list[Mark] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Tell whether nothing failed."""
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A submission under examination, its records as arrays, and the manifest of its suite, if there is one."""

    submission: Submission
    tables: Tables
    manifest: Mapping[str, Any] | None


Marks = Iterator[Mark]
Manifests = Mapping[str, Mapping[str, Any]]


def read_manifests(folder: Path) -> Manifests:
    """Return the manifest of each suite of a leaderboard folder."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted((folder / "suites").glob("*.json"))}


def submission_files(folder: Path) -> list[Path]:
    """Return the submissions of a leaderboard folder, sorted."""
    return sorted((folder / "submissions").glob("*/*.json"))


def examine(file: Path, manifests: Manifests, base: Path | None = None) -> Verdict:
    """Run every check on a file by itself; all failures are listed at once, as far as the file can be read.

    `base` is the leaderboard folder before a change: no number of a file that stands there may differ.
    """
    verdict = Verdict(file=file)
    try:
        submission = read(file)
    except SubmissionError as error:
        verdict.failures.append(Mark(check=error.check, message=str(error)))
        return verdict
    verdict.failures += [*_place(submission, file), *_lists(submission), *_lengths(submission)]
    if len(submission.generators) < 2 or any(mark.check == "lengths" for mark in verdict.failures):
        return verdict
    tables = claims.tables_of(submission)
    case = Case(submission=submission, tables=tables, manifest=manifests.get(submission.suite))
    for check in SHAPE_CHECKS:
        verdict.failures += check(case)
    if not verdict.failures:
        for check in VALUE_CHECKS:
            verdict.failures += check(case)
    if base is not None:
        verdict.failures += _unchanged(submission, file, base)
    if not verdict.failures:
        verdict.warnings += _of_itself(case)
        verdict.entry = claims.entry_of(submission, tables)
    return verdict


def compare(verdicts: Sequence[Verdict], others: Iterable[Entry] = ()) -> None:
    """Set the files that passed beside each other and beside other entries: areas that differ, copies, records."""
    passed = [verdict.entry for verdict in verdicts if verdict.entry]
    names = {(entry.submission.suite, entry.submission.name) for entry in passed}
    rivals = [*passed, *(o for o in others if (o.submission.suite, o.submission.name) not in names)]
    for verdict in verdicts:
        if verdict.entry:
            mine = [one for one in rivals if one.submission.suite == verdict.entry.submission.suite]
            verdict.failures += _same_areas(verdict.entry, mine[0])
            verdict.warnings += _beside(verdict.entry, [one for one in mine if one is not verdict.entry])


def _place(submission: Submission, file: Path) -> Marks:
    if submission.name != file.stem:
        yield Mark(check="name", message=f"name {submission.name!r} is not the file's stem, {file.stem!r}")
    if file.parent.parent.name == "submissions" and submission.suite != file.parent.name:
        yield Mark(check="place", message=f"suite {submission.suite!r} lies in the folder of {file.parent.name!r}")


def _lists(submission: Submission) -> Marks:
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


def _lengths(submission: Submission) -> Marks:
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


def _cells(case: Case) -> Marks:
    """`loo` is complete; `same` and `cross` are complete or absent; nothing stands twice or beside them."""
    submission = case.submission
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
    if not claims.is_complete(submission, case.tables, "loo"):
        yield Mark(check="cells", message="loo is required: each generator held out, with every declared seed")
    has_same = any(set(training.tests) & set(training.train_generators) for training in submission.trainings)
    if has_same and not claims.is_complete(submission, case.tables, "same"):
        yield Mark(check="cells", message="same is optional, but complete: every generator with every declared seed")


def _held_out(case: Case) -> Marks:
    submission = case.submission
    for name in sorted({*submission.pretraining_generators} & {*submission.generators}):
        yield Mark(check="held-out", message=f"{name} is held out, but the declared pretraining has seen it")
    for training in submission.trainings:
        unknown = {*training.train_generators} - {*submission.generators}
        if unknown:
            yield Mark(check="held-out", message=f"trained on {', '.join(sorted(unknown))}, no standard generator")


def _suite(case: Case) -> Marks:
    """Ids, sources, pixels and fingerprint are those of the suite's manifest."""
    submission, manifest = case.submission, case.manifest
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


def _areas(case: Case) -> Marks:
    """tp + fn is the area of each mask, and no more pixels are counted than there are."""
    submission, areas = case.submission, _mask_areas(case)
    for (train, test), by_seed in case.tables.items():
        pixels = np.array(submission.pixels[test], np.int64)
        for seed, counts in by_seed.items():
            where = f"seed {seed} on {'+'.join(train)}, test {test}"
            wrong = np.flatnonzero(counts[:, 0] + counts[:, 2] != areas[test])
            if len(wrong):
                id = submission.ids[test][int(wrong[0])]
                yield Mark(
                    check="area", message=f"{where}: tp + fn is not the mask's area on {len(wrong)} images, as {id}"
                )
            over = np.flatnonzero(counts.sum(axis=1) > pixels)
            if len(over):
                id = submission.ids[test][int(over[0])]
                yield Mark(
                    check="pixels", message=f"{where}: more pixels than there are on {len(over)} images, as {id}"
                )


def _mask_areas(case: Case) -> dict[str, NDArray[np.int64]]:
    """Return the mask areas of the manifest, or without one those that the first training gives."""
    if case.manifest is not None:
        parts = case.manifest["generators"]
        return {test: np.array([image["mask_area"] for image in parts[test]["test"]]) for _, test in case.tables}
    areas: dict[str, NDArray[np.int64]] = {}
    for (_, test), by_seed in case.tables.items():
        counts = next(iter(by_seed.values()))
        areas.setdefault(test, counts[:, 0] + counts[:, 2])
    return areas


def _division(case: Case) -> Marks:
    """The division follows from the recipe and the declared facts alone."""
    submission = case.submission
    try:
        recipe = from_values(submission.recipe, "of the submission")
    except RecipeError as error:
        yield Mark(check="recipe", message=str(error))
        return
    found = division(recipe, submission.pretraining) if submission.loss else "open"
    if submission.division != found:
        yield Mark(check="division", message=f"division {submission.division!r}; by its recipe it is {found!r}")


def _claims(case: Case) -> Marks:
    """Every claim equals what the records give, to the last digit."""
    found = claims.claims_of(case.submission, case.tables)
    mine, theirs = (_flat(msgspec.to_builtins(each)) for each in (found, case.submission.claims))
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


SHAPE_CHECKS: tuple[Callable[[Case], Marks], ...] = (_cells, _held_out, _suite)
VALUE_CHECKS: tuple[Callable[[Case], Marks], ...] = (_areas, _division, _claims)


def _of_itself(case: Case) -> Marks:
    submission = case.submission
    if not submission.loss:
        return
    if len(submission.seeds) > 1 and submission.claims.loo.spread == 0:
        yield Mark(check="spread", message=f"no spread over {len(submission.seeds)} seeds")
    for train, test in claims.pairs_of("loo", submission.generators):
        pixels = np.array(submission.pixels[test], np.int64)
        for seed, counts in case.tables[train, test].items():
            predicted = counts[:, 0] + counts[:, 1]
            trivial = float(np.mean((predicted == 0) | (predicted == pixels)))
            if trivial > 0.5:
                where = f"seed {seed} on {'+'.join(train)}, test {test}"
                yield Mark(
                    check="trivial", message=f"{where}: predictions are empty or full on {trivial:.0%} of the images"
                )


def _same_areas(entry: Entry, first: Entry) -> Marks:
    """Without a manifest, entries of a suite must agree on the masks' areas."""
    for name, areas in entry.areas.items():
        if entry.ids == first.ids and not np.array_equal(areas, first.areas.get(name, areas)):
            message = f"mask areas of {name} are not those of {first.submission.name!r}"
            yield Mark(check="area", message=message)


def _beside(entry: Entry, rivals: Sequence[Entry]) -> Marks:
    mine = entry.submission
    for name, value in mine.claims.loo.by_generator.items():
        best = max((rival.submission.claims.loo.by_generator.get(name, 0.0) for rival in rivals), default=1.0)
        if value > best:
            yield Mark(check="best", message=f"held-out {name}: {value:.4f} is better than the best known, {best:.4f}")
    alike = [o.submission.name for o in rivals if o.submission.name != mine.reproduces and o.preds & entry.preds]
    if alike:
        names = ", ".join(repr(name) for name in alike[:3])
        more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        yield Mark(check="copy", message=f"whole prediction sets are equal to those of {names}{more}")
