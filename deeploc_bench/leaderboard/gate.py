"""What must hold between a leaderboard folder that was accepted and the one that would take its place."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from deeploc_bench.contract.errors import DataError, SubmissionError
from deeploc_bench.contract.files import read_bytes
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.specs import AUTHENTIC
from deeploc_bench.data.suites import Manifest, ManifestGenerator
from deeploc_bench.leaderboard.data_checks import check_images
from deeploc_bench.leaderboard.folder import CODE, read_manifests, strangers, submission_files
from deeploc_bench.leaderboard.submission import Evidence, read_evidence

CHANGEABLE = ("license", "reference", "confirmed")
"""What may change in an accepted file. Its claims follow from the rest; a better run, or another's, is another file."""


def is_accepted(file: Path, base: Path) -> bool:
    """Tell whether a file of this suite and name was accepted."""
    return (base / "submissions" / file.parent.name / file.name).is_file()


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


def check_folder(board: Path, base: Path) -> Iterator[tuple[Path, Finding]]:
    """Check that all that was accepted is there, its manifests as they were, and that nothing strange came beside it.

    Raises DataError where a manifest is damaged, or a file cannot be read.
    """
    for file in (file.relative_to(base) for file in submission_files(base)):
        if not (board / file).is_file():
            message = "was accepted, and is gone; an accepted file stays, under its name"
            yield board / file, Finding(check="base", message=message)
    for name in sorted({*strangers(board)} - {*strangers(base)}):
        yield board / name, Finding(check="stranger", message="does not belong in a leaderboard folder; remove it")
    if _content(board / CODE) != _content(base / CODE):
        yield board / CODE, Finding(check="base", message="is code, which no submission changes")
    for name in sorted({file.name for folder in (board, base) for file in (folder / "published").glob("*.toml")}):
        file = Path("published") / name
        if _content(board / file) != _content(base / file):
            message = "tells other numbers than the accepted file: look them up where they were published"
            yield board / file, Finding(check="published", message=message, level="warning")
    yield from _check_manifests(board, base)


def _check_manifests(board: Path, base: Path) -> Iterator[tuple[Path, Finding]]:
    accepted, found = read_manifests(base), read_manifests(board)
    for suite in sorted({*accepted, *found}):
        finding = _found_of(accepted.get(suite), found.get(suite))
        if finding:
            yield board / "suites" / f"{suite}.json", finding


def _found_of(before: Manifest | None, after: Manifest | None) -> Finding | None:
    """Return what is found of a manifest beside the accepted one; what it tells anew is for a maintainer to confirm."""
    if before == after:
        return None
    if after is None:
        return Finding(check="manifest", message="was accepted, and is gone; a suite stays")
    if before and (wrong := _contradicted(before, after)):
        message = f"differs from the accepted manifest: {', '.join(wrong):.200}. Other data is another suite"
        return Finding(check="manifest", message=message)
    what = "tells more than the accepted manifest" if before else "a new suite"
    message = f"{what}: merge it only where somebody else who has the data made the same"
    return Finding(check="manifest", message=message, level="warning")


def _contradicted(before: Manifest, after: Manifest) -> Sequence[str]:
    """Return what a manifest does not leave as it was known; only test-only generators of edits may be added."""
    parts = after.generators
    wrong = [name for name, part in before.generators.items() if name not in parts or not _agrees(part, parts[name])]
    added = [name for name in parts if name not in before.generators]
    wrong += [name for name in added if parts[name].role == "standard" or name == AUTHENTIC]
    is_other = before.fingerprint not in (None, after.fingerprint, after.fingerprint_of(before.generators))
    return [*wrong, *(["fingerprint"] if is_other else [])]


def _agrees(before: ManifestGenerator, after: ManifestGenerator) -> bool:
    """Tell whether nothing that was known of a generator is otherwise now, and nothing that was known is missing."""
    if before.role != after.role or before.splits.keys() - after.splits.keys():
        return False
    for split, one in before.splits.items():
        other = after.splits[split]
        if one.samples != other.samples or one.fingerprint not in (None, other.fingerprint):
            return False
    if after.test is None or before.test is not None:
        return (before.test, before.endings, before.pixels) == (after.test, after.endings, after.pixels)
    ids, sources = [image.id for image in after.test], [image.source for image in after.test]
    return not [*check_images("it", before, ids, sources, [image.pixels for image in after.test], "")]


def _content(file: Path) -> bytes | None:
    try:
        return read_bytes(file) if file.is_file() else None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
