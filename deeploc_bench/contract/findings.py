"""Something found in data, a submission or a plugin.

An error stops what was asked for, a warning is read, and a note says of sound data how it is.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias
from unicodedata import category

import msgspec

from deeploc_bench.contract.errors import DataError

Level: TypeAlias = Literal["error", "warning", "note"]

DATA_ERRORS = {
    "dataset": "generator datasets cannot be built",
    "split": "splits have no samples",
    "missing": "files are missing",
    "unreadable": "files cannot be read",
    "large": "files have more pixels than are read",
    "size": "masks differ in size from their image",
    "gray": "masks are gray",
    "empty": "masks are empty",
    "small": "images have a side under 32 pixels",
    "leak": "sources or images are both trained on and tested on",
    "edit": "splits are not edited where their masks are",
    "changing": "samples are not the same when they are read again",
}
DATA_WARNINGS = {
    "polarity": "splits have masks that cover most of the image: is 0 the manipulated side?",
    "full": "masks cover the whole image: are mask_above and inverted_masks right, or were the images made as a whole?",
    "levels": "masks have levels other than 0 and 255",
    "stems": "ids do not stand in every generator",
    "valid": "sources stand in a train and in a valid split",
    "duplicate": "images are the same as another",
    "turned": "images are turned by their EXIF data, and their masks are not: were they drawn on the turned image?",
    "elsewhere": "splits or images differ from the authentic ones no more inside the masks than outside",
    "order": "generator datasets give their samples in another order each time",
    "process": "samples cannot be read in another process",
}
DATA_NOTES = {
    "spliced": "generators leave their images as they were outside the masks",
    "regenerated": "generators change their images outside the masks, too, a little",
    "types": "folders of samples hold images of a type that is not read",
    "unused": "folders of samples hold images that no sample uses, such as masks without an image",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found: the check that found it, what it is, and where (empty where the message says it)."""

    check: str
    message: str
    where: str = ""
    level: Level = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    @property
    def is_error(self) -> bool:
        """Tell whether nothing may go on before it is mended."""
        return self.level == "error"

    @property
    def is_note(self) -> bool:
        """Tell whether nothing is wrong."""
        return self.level == "note"

    @property
    def line(self) -> str:
        """Return the finding as one printed line, whatever a stranger's words in it hold."""
        return shown(f"{self.level} [{self.check}] {self}")


def shown(text: str) -> str:
    """Return text as one line that is safe in a log: control signs, line ends and the like as Python escapes them."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def printable(text: str) -> str:
    """Return text of several lines without what a terminal or a log takes for a command, whatever a stranger wrote."""
    # lines that begin so are commands in the logs of GitHub; none of ours does
    text = re.sub(r"\n(?=\s*(?:::|##\[))", r"\\n", text)
    return escaped(text, shown)


def escaped(text: str, escape: Callable[[str], str]) -> str:
    """Return text whose control signs and the like, all but line ends and tabs, are as `escape` writes them."""
    return re.sub(r"[^\n\t -~]", lambda sign: escape(sign[0]) if category(sign[0])[0] == "C" else sign[0], text)


def data_finding(check: str, message: str) -> Finding:
    """Return a finding of one of the data's checks, whose level is the check's."""
    level: Level = "error" if check in DATA_ERRORS else "note" if check in DATA_NOTES else "warning"
    return Finding(check=check, message=message, level=level)


def as_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as every command prints them under `--json`."""
    return [{"level": one.level, "check": one.check, "message": shown(str(one))} for one in findings]


def summary(findings: Iterable[Finding], shown: int = 3) -> list[str]:
    """Return the count of each of the data's checks, errors first, notes last, each with its first few findings."""
    findings = list(findings)
    lines = []
    for check, title in (DATA_ERRORS | DATA_WARNINGS | DATA_NOTES).items():
        alike = [finding for finding in findings if finding.check == check]
        if alike:
            lines.append(f"{alike[0].level} [{check}] {len(alike)} {title}")
            lines += [f"    {_in_one_line(finding)}" for finding in alike[:shown]]
            lines += [f"    and {len(alike) - shown} more"] if len(alike) > shown else []
    return lines


def _in_one_line(finding: Finding) -> str:
    return shown(str(finding))


def refuse(where: str, findings: Sequence[Finding]) -> None:
    """Raise DataError where there are errors among the findings, with the first of each check."""
    errors = [finding for finding in findings if finding.is_error]
    if errors:
        lines = "\n  ".join(summary(errors))
        raise DataError(f"{where}: {len(errors)} errors in its data; 'deeploc-bench data check' lists all.\n  {lines}")
