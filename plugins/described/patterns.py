"""Matches the regular expressions of a description, in a process whose time is limited: some would never end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from deeploc_bench import DataError

SECONDS = 1
"""The processor's time that 50,000 names may take; a usual expression takes a millionth of it a name."""
LONGEST = 500
"""The most characters of a regular expression, a template or a pattern."""
WHOLE = "(.*)"
"""The expression that stands for the whole name, and needs no search."""
SEARCH = """
import json, re, signal, sys
signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
pattern, texts = json.load(sys.stdin)
search = re.compile(pattern).search
print(json.dumps([found and found.groups() for found in map(search, texts)]))
"""


Groups: TypeAlias = "Mapping[str, tuple[str | None, ...] | None]"


def check_pattern(pattern: str, where: str) -> None:
    """Raise DataError where a pattern is no regular expression with a group."""
    check_length(pattern, where)
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{where}: {pattern!r} is not a regular expression: {reason}") from None
    if groups < 1:
        raise DataError(f"{where}: {pattern!r} has no group; put (...) round the part that is meant")


def check_length(text: str, where: str) -> None:
    """Raise DataError where a pattern or a template is longer than any needs to be, or holds what no path can."""
    if len(text) > LONGEST:
        raise DataError(f"{where}: {text!r:.60}... has {len(text)} characters; allowed are at most {LONGEST}")
    if "\0" in text:
        raise DataError(f"{where}: {text!r} holds a NUL character; no path does")


def first_groups(pattern: str, names: Iterable[str]) -> Mapping[str, str]:
    """Return by name the first group of a pattern found in it, or else the whole name; raises DataError.

    Where groups have names, it is all those, one after the other.
    """
    distinct = list(dict.fromkeys(names))
    if pattern == WHOLE or not distinct:
        return dict(zip(distinct, distinct, strict=True))
    named = sorted(re.compile(pattern).groupindex.values()) or [1]
    found = groups_of(pattern, distinct, pattern)
    return {
        name: "".join(groups[place - 1] or "" for place in named if groups) if groups else name
        for name, groups in found.items()
    }


def matching(pattern: str, names: Iterable[str]) -> set[str]:
    """Return the names in which a pattern is found; raises DataError."""
    found = groups_of(pattern, list(dict.fromkeys(names)), pattern)
    return {name for name, groups in found.items() if groups is not None}


def groups_of(pattern: str, names: Sequence[str], told: str) -> Groups:
    """Return by name the groups of a pattern found in it, None where it is not.

    Raises DataError that tells of `told` where that takes too long.
    """
    seconds = SECONDS + len(names) // 50_000
    command = [sys.executable, "-I", "-S", "-c", SEARCH, str(seconds)]
    done = subprocess.run(command, input=json.dumps([pattern, names]), capture_output=True, text=True)
    if done.returncode == -signal.SIGPROF:
        raise DataError(
            f"{told!r} takes longer than {seconds} s of the processor's time on {len(names)} names, such as "
            f"{max(names, key=len)!r:.80}. Write it without a repeat inside of a repeat, and with fewer stars"
        )
    if done.returncode:
        raise DataError(f"{told!r} cannot be searched for: {done.stderr.strip()[-200:]}")
    return dict(zip(names, json.loads(done.stdout), strict=True))


def groups_at_once(pattern: str, names: Sequence[str]) -> Groups:
    """Return what `groups_of` does, of a pattern that is known to be quick."""
    search = re.compile(pattern).search
    return {name: (found := search(name)) and found.groups() for name in names}
