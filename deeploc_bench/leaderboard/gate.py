"""What must hold between an accepted submission and the file that would take its place."""

from collections.abc import Iterator
from pathlib import Path

from deeploc_bench.contract.errors import SubmissionError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.leaderboard.submission import Evidence, read_evidence

CHANGEABLE = ("contact", "license", "reference", "code", "reproduces", "confirmed", "speed", "schema")
"""What may change in an accepted file: words about it. Claims follow from the rest; a better run is another file."""


def check_unchanged(evidence: Evidence, file: Path, base: Path) -> Iterator[Finding]:
    """Check that nothing of a file that was accepted differs, but for words about it."""
    before = base / "submissions" / evidence.suite / file.name
    if not before.exists():
        return
    try:
        accepted = read_evidence(before)
    except SubmissionError as error:
        yield Finding(check="base", message=f"the accepted file cannot be read: {error}")
        return
    for name in accepted.__struct_fields__:
        if name not in CHANGEABLE and getattr(accepted, name) != getattr(evidence, name):
            message = f"{name} differs from the accepted file {before}; submit under another name"
            yield Finding(check="base", message=message)
