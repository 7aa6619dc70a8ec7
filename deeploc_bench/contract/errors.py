"""Every error the harness raises on purpose.

DeeplocError                 one clear message, no traceback; exit code 2
 ├── UsageError              a flag or a name that cannot be
 │    └── RecipeError        a recipe, or one of its keys or values
 ├── PluginError             a plugin that breaks the contract
 ├── DataError               generator datasets that cannot be read, paired or split
 ├── SubmissionError         a submission that is refused; its `check` says by which check
 ├── WeightsError            pretrained weights that cannot be had
 └── StoreError              a runs folder that cannot be read or written
TrainingFailed               one training that cannot go on; the others do; exit code 1
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DeeplocError(Exception):
    """A mistake that the user can mend; the message says what, where and how."""


class UsageError(DeeplocError):
    """A flag or a name that cannot be."""


class RecipeError(UsageError):
    """A recipe, or one of its keys or values, that cannot be."""


class PluginError(DeeplocError):
    """A plugin that breaks the contract."""


class DataError(DeeplocError):
    """Generator datasets that cannot be read, paired or split."""


class SubmissionError(DeeplocError):
    """A submission that is refused."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class WeightsError(DeeplocError):
    """Pretrained weights that cannot be had."""


class StoreError(DeeplocError):
    """A runs folder that cannot be read or written."""


class TrainingFailed(Exception):
    """One training that cannot go on; the message is its reason."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is no known `kind`, with the nearest known name and all there are."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{suggestion} Known: {', '.join(names) or 'none'}."
