"""Every error the harness raises on purpose.

DeeplocError                 one clear message, no traceback; exit code 2
 ├── UsageError              an invalid flag or name
 │    └── RecipeError        an invalid recipe, or one of its keys or values
 ├── PluginError             a plugin that breaks the contract
 ├── DataError               generator datasets that cannot be read, paired or split
 │    └── SampleError        a sample that cannot be used
 ├── SubmissionError         a submission that is refused
 ├── WeightsError            pretrained weights that cannot be had
 ├── DeviceError             a GPU that cannot be used any more
 ├── StoreError              a runs folder that cannot be read or written
 └── ProcessFailed           one of several processes that share a training cannot go on, which ends all
TrainingFailed               one training that cannot go on; the others do; exit code 1
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DeeplocError(Exception):
    """A mistake that the user can mend; the message says what, where and how, `check` by which check it was found."""

    def __init__(self, message: str, *, check: str = "") -> None:
        super().__init__(message)
        self.check = check


class UsageError(DeeplocError):
    """An invalid flag or name."""


class RecipeError(UsageError):
    """An invalid recipe, or one of its keys or values."""


class PluginError(DeeplocError):
    """A plugin that breaks the contract."""


class DataError(DeeplocError):
    """Generator datasets that cannot be read, paired or split."""


class SampleError(DataError):
    """A sample that cannot be used; `check` is one of the findings' checks."""


class SubmissionError(DeeplocError):
    """A submission that is refused."""


class WeightsError(DeeplocError):
    """Pretrained weights that cannot be had."""


class DeviceError(DeeplocError):
    """A GPU that cannot be used any more."""


class StoreError(DeeplocError):
    """A runs folder that cannot be read or written."""


class ProcessFailed(DeeplocError):
    """One of several processes that share a training cannot go on, which ends all; each tells its own reason."""


class TrainingFailed(Exception):
    """One training that cannot go on; the message is its reason."""


def reason_of(error: BaseException) -> str:
    """Return what was raised by somebody else's code, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is not a known `kind`, with the nearest known name and all there are."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{suggestion} Known: {', '.join(names) or 'none'}."
