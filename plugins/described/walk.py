"""Finds the files below a folder that fit a pattern, without going round in circles, or on without end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from deeploc_bench import IMAGE_SUFFIXES, DataError

MOST_VISITED = 1_000_000
"""The most files and folders that are looked at for one pattern."""


def fitting(data: Path, pattern: str) -> Iterator[Path]:
    """Yield the paths below a folder that fit a pattern: names, between slashes, in which `*` stands for any text.

    An image's suffix fits in capitals, too. A link to a folder that it lies in is not followed. Raises DataError where
    a folder cannot be read, or there is too much to look at.
    """
    visited = count(1)

    def look() -> None:
        if next(visited) > MOST_VISITED:
            raise DataError(
                f"{data}: more than {MOST_VISITED} files and folders to look at for {pattern!r}; name folders in place "
                "of stars, or a part of the data as its root"
            )

    yield from _below(data, pattern.split("/"), (), look)


def _below(folder: Path, names: list[str], above: tuple[object, ...], look: Callable[[], None]) -> Iterator[Path]:
    """Yield what fits the names in a folder; `above` are the folders that it lies in."""
    inside = (*above, _identity(folder))
    name, *rest = names
    for path in map(folder.joinpath, _entries(folder, name, look)):
        if not rest:
            yield path
        elif os.path.isdir(path) and ("*" not in name or _identity(path) not in inside):
            yield from _below(path, rest, inside, look)


def _entries(folder: Path, name: str, look: Callable[[], None]) -> Iterator[str]:
    """Yield the names in a folder that fit one with stars, or itself, where it has none and is there."""
    if "*" not in name:
        look()
        yield from [name] if os.path.lexists(folder / name) else []
        return
    first, *middle, last = map(literal, name.split("*"))
    between = "".join(f"(?>.*?{part})" for part in middle)  # the first that fits: others need not be tried
    fits = re.compile(f"{first}{between}.*{last}", re.DOTALL).fullmatch
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                look()
                if fits(entry.name):
                    yield entry.name
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None


def literal(text: str) -> str:
    """Return the regular expression of text: as it is, but for the case of an image's suffix at its end."""
    head, dot, end = text.rpartition(".")
    if f"{dot}{end}".lower() not in IMAGE_SUFFIXES:
        return re.escape(text)
    return f"{re.escape(head)}(?i:{re.escape(dot + end)})"


def _identity(folder: Path) -> tuple[int, int]:
    """Return what a folder is known by, whichever link leads to it."""
    state = folder.stat()
    return state.st_dev, state.st_ino
