"""Writes submissions that `verify` accepts, and tells how they stand in their leaderboard."""

from pathlib import Path

from deeploc_bench.contract.files import to_json, write
from deeploc_bench.data.suites import Progress, silent
from deeploc_bench.leaderboard.claims import Entry, claimed
from deeploc_bench.leaderboard.ranking import Ranked, rank
from deeploc_bench.leaderboard.submission import Submission, read_evidence
from deeploc_bench.leaderboard.verify import read_manifests, refuse_all, review, verified, weigh


def refresh(file: Path) -> Entry:
    """Recompute the claims of a submission, of an earlier schema too, from its records, which stay as they are.

    Raises SubmissionError where it cannot be read or `verify` would refuse it; then nothing is written.
    """
    evidence = read_evidence(file)
    findings, case = weigh(evidence, file, read_manifests(_board(file)))
    refuse_all(file, findings)
    assert case is not None  # nothing was found
    return save(claimed(evidence, case.records), file)


def save(submission: Submission, file: Path) -> Entry:
    """Write a submission, unless `verify` would refuse it; returns what a leaderboard keeps of it.

    It is held against the manifest of the leaderboard folder that it lies in, or of `leaderboard`. Raises
    SubmissionError with all that is wrong, DataError where a manifest is damaged, StoreError where nothing can be
    written.
    """
    content = to_json(submission)
    entry = verified(content, file, read_manifests(_board(file)))
    write(file, content)
    return entry


def standing_with(entry: Entry, file: Path, progress: Progress = silent) -> Ranked:
    """Return how an entry stands among the submissions of the leaderboard folder that its file lies in."""
    board = _board(file)
    others = review(board, progress=progress) if board.is_dir() else []
    suite = entry.about.suite
    known = [v.entry for v in others if v.entry and v.entry.about.suite == suite and v.entry.name != entry.name]
    return next(row for row in rank([*known, entry]).rows if row.entry is entry)


def _board(file: Path) -> Path:
    """Return the leaderboard folder that a submission lies in, or `leaderboard`."""
    return file.parent.parent.parent if file.parent.parent.name == "submissions" else Path("leaderboard")
