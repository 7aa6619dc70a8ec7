"""Removes packed data that no file stands behind any more, and what a packing that was stopped has left."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from deeploc_bench.contract.errors import DataError, StoreError
from deeploc_bench.contract.files import parse_json
from deeploc_bench.contract.seals import read_json
from deeploc_bench.data.origins import PACK_SCHEMA, key_of
from deeploc_bench.data.packing import PACKING
from deeploc_bench.data.packs import Index

JUST_MADE = 60
"""Seconds for which a packing is left alone, since its maker may not hold its files yet, or no longer."""
Action = Literal["removed", "in use", "cannot be removed"]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of packed data without files behind it: what was done about it, why, and how large it is."""

    folder: str
    action: Action
    reason: str
    bytes: int


class _AnyIndex(msgspec.Struct):
    schema: int


def clean(cache: Path, data: Path | None = None) -> Iterator[Cleaned]:
    """Remove what is stale among the packs of a suite, whose folder `cache` is; yield all that is stale.

    Packs of images that lie elsewhere than below `data` are kept. What another process is making or reading is left
    alone; what a later version packed is not judged.
    """
    for folder in sorted(cache.glob("*/*")):
        with suppress(FileNotFoundError, NotADirectoryError):  # its maker has just renamed or removed it; no folder
            size = sum(file.stat().st_size for file in folder.iterdir())
            if reason := _why_stale(folder, data):
                yield Cleaned(folder=str(folder), action=_remove(folder), reason=reason, bytes=size)


def _why_stale(folder: Path, data: Path | None) -> str | None:
    """Return why nothing will read a folder of the cache again, or None where something may."""
    if folder.name.startswith(PACKING):
        is_new = time.time() - folder.stat().st_mtime < JUST_MADE
        return None if is_new else "its packing was stopped"
    try:
        content = (folder / "index.json").read_bytes()
        schema = parse_json(content, _AnyIndex, "index", DataError).schema
        if schema != PACK_SCHEMA:
            return "an earlier version packed it" if schema < PACK_SCHEMA else None
        index = read_json(folder / "index.json", Index, "index", place=folder.name)
    except (OSError, DataError, StoreError):
        return "it is damaged"
    files = [Path(file) for origin in index.origins for file in (origin.image, origin.mask) if file]
    is_elsewhere = data is not None and not any(file.is_relative_to(data.absolute()) for file in files)
    if is_elsewhere or key_of(index.origins, index.rule) == folder.name:
        return None
    lost = [file for file in files if not file.exists()]
    return f"{len(lost)} of its files are gone, such as {lost[0]}" if lost else "its files have changed"


def _remove(folder: Path) -> Action:
    """Remove a folder, unless a living process holds its images."""
    try:
        with (folder / "images").open("r+b") as images:
            fcntl.flock(images, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _removed(folder)
    except BlockingIOError:
        return "in use"
    except FileNotFoundError:
        return _removed(folder)
    except OSError:
        return "cannot be removed"


def _removed(folder: Path) -> Action:
    """Remove a folder that nobody holds; it is renamed first, so that nobody opens half of it."""
    try:
        renamed = folder if folder.name.startswith(PACKING) else folder.rename(folder.with_name(PACKING + folder.name))
        shutil.rmtree(renamed)
    except OSError:
        return "cannot be removed"
    return "removed"
