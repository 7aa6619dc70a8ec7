"""What lies in a leaderboard folder, and what does not belong there."""

import re
from pathlib import Path

from deeploc_bench.contract.errors import DataError
from deeploc_bench.contract.files import read_json
from deeploc_bench.contract.findings import shown
from deeploc_bench.contract.specs import NAME_PATTERN, REGENERATED
from deeploc_bench.data.suites import MANIFEST_SCHEMA, Manifest

NAME = NAME_PATTERN.removeprefix(r"\A").removesuffix(r"\Z")
BELONGS = re.compile(
    rf"README\.md|figures/[^/]+\.svg|submissions/{NAME}/{NAME}\.json|suites/{NAME}\.json|"
    rf"published/(__init__\.py|{NAME}\.toml)"
)
"""The paths of all that a leaderboard folder may hold; which figures there should be, the page tells."""
CODE = "published/__init__.py"
"""The only file of it that Python may run: `published/` is installed as a package."""


def board_of(file: Path, default: Path = Path("leaderboard")) -> Path:
    """Return the leaderboard folder that a submission lies in, or a default."""
    return file.parent.parent.parent if file.parent.parent.name == "submissions" else default


def submission_files(board: Path) -> list[Path]:
    """Return the submissions of a leaderboard folder, sorted."""
    return sorted((board / "submissions").glob("*/*.json"))


def read_manifests(board: Path) -> dict[str, Manifest]:
    """Return the manifest of each suite of a leaderboard folder; raises DataError where one is damaged."""
    found = {}
    for file in sorted((board / "suites").glob("*.json")):
        cure = f"Make it again: deeploc-bench data manifest {file.stem}"
        try:
            manifest = read_json(file, Manifest, "manifest", DataError, schema=MANIFEST_SCHEMA)
        except DataError as error:
            raise DataError(shown(f"{error}. {cure}"), check=error.check) from None
        if wrong := _wrong(manifest, file):
            raise DataError(shown(f"manifest {file} {wrong}. {cure}"))
        found[file.stem] = manifest
    return found


def regenerated(manifest: Manifest | None) -> list[str]:
    """Return what is to be known of the masks of those generators of a suite that made whole images anew."""
    names = [name for name, part in manifest.generators.items() if part.regenerated] if manifest else []
    return [f"{', '.join(names)}: {REGENERATED}."] if names else []


def _wrong(manifest: Manifest, file: Path) -> str:
    """Return what contradicts itself in a manifest; nothing where it is sound."""
    if manifest.suite != file.stem:
        return f"is of suite {manifest.suite!r}, not {file.stem!r}"
    for name, part in manifest.generators.items():
        due = part.splits.get("test")
        if due and part.test is not None and len(part.test) != due.samples:
            return f"lists {len(part.test)} test images of {name}, which has {due.samples}"
    computed = manifest.fingerprint_of(manifest.generators)
    is_other = computed is not None and manifest.fingerprint not in (None, computed)
    return f"has fingerprint {manifest.fingerprint}; that of its splits is {computed}" if is_other else ""


def unlisted(suite: str) -> str:
    """Return the words for a suite without a manifest, and how to make one."""
    return (
        f"suite {suite!r} has no manifest in suites/ of the leaderboard folder, and nothing else tells what was "
        f"tested; whoever has its data makes one: deeploc-bench data manifest {suite} > leaderboard/suites/{suite}.json"
    )


def strangers(board: Path) -> list[str]:
    """Return the paths in a leaderboard folder of what does not belong there: links, and files of another name."""
    files = [path for path in sorted(board.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return [name for name in (file.relative_to(board).as_posix() for file in files) if _is_strange(board, name)]


def _is_strange(board: Path, name: str) -> bool:
    return (board / name).is_symlink() or not BELONGS.fullmatch(name)
