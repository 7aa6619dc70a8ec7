"""Writes submissions that `verify` accepts."""

from pathlib import Path

import msgspec

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.contract.files import sweep, to_json, write
from deeploc_bench.leaderboard.claims import Entry, claimed
from deeploc_bench.leaderboard.folder import board_of, read_manifests
from deeploc_bench.leaderboard.submission import Submission, read_evidence
from deeploc_bench.leaderboard.verify import refuse_all, verified, weigh


def refresh(file: Path) -> None:
    """Recompute the claims of a submission, of an earlier schema too, from its records, which stay as they are.

    Raises SubmissionError where it cannot be read or `verify` would refuse it; then nothing is written.
    """
    evidence = read_evidence(file)
    findings, case = weigh(evidence, file, read_manifests(board_of(file)))
    refuse_all(file, findings)
    assert case is not None  # nothing was found
    save(claimed(evidence, case.records), file)


def save(submission: Submission, file: Path) -> Entry:
    """Write a submission, unless `verify` would refuse it; returns what a leaderboard keeps of it.

    It is held against the manifest of the leaderboard folder that it lies in, or of `leaderboard`. Raises
    SubmissionError with all that is wrong, DataError where a manifest is damaged, StoreError where nothing can be
    written.
    """
    try:
        msgspec.json.encode(submission)  # which knows no lone surrogates, as of names that are no UTF-8
    except UnicodeEncodeError as error:  # of a flag whose bytes are no UTF-8
        raise SubmissionError(f"{file} is not written: {error.object!r:.80} holds what is no text") from None
    content = to_json(submission)
    entry = verified(content, file, read_manifests(board_of(file)))
    sweep(file.parent)
    write(file, content)
    return entry
