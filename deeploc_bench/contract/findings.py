"""What can be wrong with data: errors, on which nothing is trained, and warnings, which are only told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deeploc_bench.contract.errors import DataError

ERRORS = {
    "dataset": "generator datasets cannot be built",
    "split": "splits have no samples",
    "missing": "files are missing",
    "unreadable": "files cannot be read",
    "size": "masks differ in size from their image",
    "gray": "masks are gray",
    "empty": "masks are empty",
    "leak": "sources are both trained on and tested on",
}
WARNINGS = {
    "polarity": "splits have masks that cover most of the image: is 0 the manipulated side?",
    "levels": "masks have levels other than 0 and 255",
    "stems": "ids do not stand in every generator",
    "valid": "sources stand in a train and in a valid split",
    "duplicate": "images are the same as another",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: the check that found it (a key of ERRORS or WARNINGS), and what and where it is."""

    check: str
    what: str

    @property
    def is_error(self) -> bool:
        """Tell whether nothing may be trained before it is mended."""
        return self.check in ERRORS


class SampleError(DataError):
    """A sample that cannot be used."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(what)
        self.finding = Finding(check=check, what=what)


def summary(findings: Iterable[Finding], shown: int = 3) -> list[str]:
    """Return the counts of each check, errors first, each followed by its first few findings."""
    found = list(findings)
    lines = []
    for level, checks in (("error", ERRORS), ("warning", WARNINGS)):
        for check, title in checks.items():
            whats = [finding.what for finding in found if finding.check == check]
            if whats:
                lines.append(f"{level} [{check}] {len(whats)} {title}")
                lines += [f"    {what}" for what in whats[:shown]]
                lines += [f"    and {len(whats) - shown} more"] if len(whats) > shown else []
    return lines


def refuse(where: str, findings: Sequence[Finding]) -> None:
    """Raise DataError where there are errors among the findings, with the first of each check."""
    errors = [finding for finding in findings if finding.is_error]
    if errors:
        lines = "\n  ".join(summary(errors))
        raise DataError(f"{where}: {len(errors)} errors in its data; 'deeploc-bench data check' lists all.\n  {lines}")
