"""Checks submissions against themselves, their suite and their neighbours: consistency, not honesty. Runs no code."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from deeploc_bench.contract.errors import SubmissionError, UsageError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.data.suites import Manifest, Progress, silent
from deeploc_bench.leaderboard import checks, data_checks
from deeploc_bench.leaderboard.cautions import checks_beside, warn_of_itself
from deeploc_bench.leaderboard.checks import Case, Findings
from deeploc_bench.leaderboard.claims import Entry, entry_of, records_of, rows_of, shown_of
from deeploc_bench.leaderboard.folder import read_manifests, submission_files, unlisted
from deeploc_bench.leaderboard.gate import check_folder, check_unchanged, is_accepted
from deeploc_bench.leaderboard.submission import Evidence, Submission, parse, read
from deeploc_bench.leaderboard.transfers import check_transfers
from deeploc_bench.results.cells import grouped

Manifests: TypeAlias = Mapping[str, Manifest]
SHAPED: tuple[Callable[[Case], Findings], ...] = (
    checks.check_cells,
    checks.check_identities,
    checks.check_held_out,
    checks.check_loss,
    data_checks.check_suite,
)
"""Checks of what the checks of values rest on."""
VALUES: tuple[Callable[[Case], Findings], ...] = (
    data_checks.check_areas,
    data_checks.check_predictions,
    checks.check_division,
)
MOST_FOUND = 100
"""The most findings of one check that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the checks of one file found, and what is kept of it where nothing failed on its own."""

    file: Path
    findings: tuple[Finding, ...] = ()
    entry: Entry | None = None

    @property
    def is_ok(self) -> bool:
        """Tell whether nothing failed."""
        return not self.failures

    @property
    def failures(self) -> list[Finding]:
        """Return what it is refused for."""
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        """Return what a reader should look at."""
        return [finding for finding in self.findings if not finding.is_error]


def review(
    board: Path, files: Iterable[Path] | None = None, *, base: Path | None = None, progress: Progress = silent
) -> list[Verdict]:
    """Examine some files, or all of a leaderboard folder, and compare them with each other and with its others.

    `base` is the leaderboard folder before a change, whose manifests hold, and of which nothing may be lost or differ
    but words. One bad file stops no other. Raises UsageError where a folder is missing, DataError where a manifest is
    damaged.
    """
    for folder in filter(None, (board, base)):
        if not folder.is_dir() or "submissions" in (folder.resolve().name, folder.resolve().parent.name):
            raise UsageError(f"{folder} is no leaderboard folder; name the one that holds submissions/")
    manifests, everything = read_manifests(base or board), submission_files(board)
    asked = everything if files is None else list(files)
    if base:
        asked.sort(key=lambda file: not is_accepted(file, base))  # what is new is held against what was accepted
    known = {os.path.realpath(file) for file in asked}  # which a link to itself does not stop
    rest = [file for file in everything if os.path.realpath(file) not in known]
    verdicts, others = list[Verdict](), list[Entry]()
    with progress("verify", len(asked) + len(rest)) as tick:
        for file in asked:
            verdicts.append(_listed_suite(_kept(examine(file, manifests, base)), manifests))
            tick()
        for file in rest:
            others += filter(None, [_kept(examine(file, manifests)).entry])
            tick()
    changes = grouped(check_folder(board, base), lambda change: change[0]) if base else {}
    beside = [Verdict(file=file, findings=tuple(found for _, found in own)) for file, own in changes.items()]
    return [*compare(verdicts, others), *beside]


def _kept(verdict: Verdict) -> Verdict:
    return replace(verdict, entry=shown_of(verdict.entry)) if verdict.entry else verdict


def _listed_suite(verdict: Verdict, manifests: Manifests) -> Verdict:
    """Return a verdict, or that the suite has no manifest: a board cannot tell what was tested, and shows nothing."""
    if verdict.entry is None or verdict.entry.about.suite in manifests:
        return verdict
    finding = Finding(check="manifest", message=unlisted(verdict.entry.about.suite))
    return Verdict(file=verdict.file, findings=(finding,))


def examine(file: Path, manifests: Manifests, base: Path | None = None) -> Verdict:
    """Run every check on a file by itself; all that fails is listed at once, as far as the file can be read.

    `base` is the leaderboard folder before a change: nothing but words may differ from a file that stands there.
    """
    try:
        submission = read(file)
    except SubmissionError as error:
        return Verdict(file=file, findings=(Finding(check=error.check, message=str(error)),))
    return _judged(submission, file, manifests, base)


def entries_beside(file: Path, board: Path, progress: Progress = silent) -> tuple[list[Entry], list[Path]]:
    """Return the entry of a submission file, then those of its suite in a leaderboard folder, and the files left out.

    Left out is what would be refused, or was tested on other images. Raises SubmissionError with all that is wrong with
    the file, DataError where a manifest is damaged.
    """
    manifests = read_manifests(board)
    verdict = examine(file, manifests)
    if verdict.entry is None:
        lines = "\n  ".join(finding.line for finding in verdict.failures)
        raise SubmissionError(f"{file} is not a sound submission.\n  {lines}")
    own, images = verdict.entry, verdict.entry.rows["loo"].mean.images
    suite = [other for other in submission_files(board) if other.parent.name == own.about.suite]
    others = [other for other in suite if other.resolve() != file.resolve()]
    entries, left_out = [own], []
    with progress("read the leaderboard", len(others)) as tick:
        for other in others:
            entry = examine(other, manifests).entry
            if entry and entry.rows["loo"].mean.images == images:
                entries.append(entry)
            else:
                left_out.append(other)
            tick()
    return entries, left_out


def verified(content: bytes, file: Path, manifests: Manifests) -> Entry:
    """Return what is kept of a file of this content; raises SubmissionError with all that `examine` finds in it."""
    verdict = _judged(parse(content, f"submission {file}"), file, manifests)
    refuse_all(file, verdict.failures)
    assert verdict.entry is not None  # nothing failed
    return verdict.entry


def refuse_all(file: Path, findings: Sequence[Finding]) -> None:
    """Raise SubmissionError with all that was found, if anything was: the file is not to be written."""
    if findings:
        lines = "\n  ".join(finding.line for finding in findings)
        raise SubmissionError(f"{file} is not written: 'deeploc-bench verify' would refuse it.\n  {lines}")


def weigh(
    evidence: Evidence, file: Path, manifests: Manifests, base: Path | None = None
) -> tuple[list[Finding], Case | None]:
    """Run every check but that of the claims; returns what was found, and the case where its shape is sound."""
    findings = [
        *checks.check_place(evidence, file),
        *checks.check_date(evidence),
        *checks.check_origin(evidence),
        *_listed(checks.check_order(evidence)),
    ]
    findings += check_unchanged(evidence, file, base) if base else ()
    misshapen = _listed(checks.check_shape(evidence))
    if misshapen:
        return [*findings, *misshapen], None
    case = Case(evidence=evidence, records=records_of(evidence), manifest=manifests.get(evidence.suite))
    findings += [finding for check in SHAPED for finding in _listed(check(case))]
    if not findings:
        case = replace(case, rows=rows_of(evidence, case.records))
        findings += [finding for check in VALUES for finding in _listed(check(case))]
        if wrong := _listed(check_transfers(evidence, manifests)):
            return [*findings, *wrong], replace(case, rows={})  # nothing can be claimed of such
    return findings, case


def _listed(findings: Findings) -> list[Finding]:
    """Return the first findings of a check, so that a file of nothing but faults ends with a list that can be read."""
    return list(islice(findings, MOST_FOUND))


def _judged(submission: Submission, file: Path, manifests: Manifests, base: Path | None = None) -> Verdict:
    findings, case = weigh(submission, file, manifests, base)
    if case and case.rows:
        findings += _listed(checks.check_claims(case, submission.claims))
    if findings or case is None:
        return Verdict(file=file, findings=tuple(findings))
    entry = entry_of(submission, case.records, case.rows)
    return Verdict(file=file, findings=tuple(warn_of_itself(case)), entry=entry)


def compare(verdicts: Sequence[Verdict], others: Sequence[Entry] = ()) -> list[Verdict]:
    """Return verdicts with what is found beside each other and beside the entries of other files of their suite."""
    passed = [verdict.entry for verdict in verdicts if verdict.entry]
    names = {(entry.about.suite, entry.name) for entry in passed}
    standing = [entry for entry in others if (entry.about.suite, entry.name) not in names]
    by_suite = grouped([*standing, *passed], lambda entry: entry.about.suite)
    return [_compared(verdict, by_suite) for verdict in verdicts]


def _compared(verdict: Verdict, by_suite: Mapping[str, Sequence[Entry]]) -> Verdict:
    entry = verdict.entry
    if entry is None:
        return verdict
    found = checks_beside(entry, by_suite[entry.about.suite])
    return replace(verdict, findings=(*verdict.findings, *found))
