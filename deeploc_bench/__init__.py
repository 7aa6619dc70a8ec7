"""deeploc-bench: does a deepfake localizer still find the edited pixels when it has never seen the generator?"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from deeploc_bench.contract.waiting import wait_briefly

if TYPE_CHECKING:
    from deeploc_bench.api.check import check
    from deeploc_bench.api.compare import compare
    from deeploc_bench.api.results import results
    from deeploc_bench.api.run import run
    from deeploc_bench.api.test import test
    from deeploc_bench.contract.errors import DataError, DeeplocError, PluginError, WeightsError
    from deeploc_bench.contract.files import read_bytes, read_toml
    from deeploc_bench.contract.hookspecs import hookimpl
    from deeploc_bench.contract.specs import Contained, GeneratorDataset, Inclusion, Loss, Model, Sample
    from deeploc_bench.data.folders import IMAGE_SUFFIXES, distinct_samples, paired_samples, sample_of

__all__ = [
    "Contained",
    "DataError",
    "DeeplocError",
    "GeneratorDataset",
    "IMAGE_SUFFIXES",
    "Inclusion",
    "Loss",
    "Model",
    "PluginError",
    "Sample",
    "WeightsError",
    "__version__",
    "check",
    "compare",
    "distinct_samples",
    "hookimpl",
    "paired_samples",
    "read_bytes",
    "read_toml",
    "results",
    "run",
    "sample_of",
    "test",
]

_HOMES = {
    "Contained": "contract.specs",
    "DataError": "contract.errors",
    "DeeplocError": "contract.errors",
    "GeneratorDataset": "contract.specs",
    "IMAGE_SUFFIXES": "data.folders",
    "Inclusion": "contract.specs",
    "Loss": "contract.specs",
    "Model": "contract.specs",
    "PluginError": "contract.errors",
    "Sample": "contract.specs",
    "WeightsError": "contract.errors",
    "check": "api.check",
    "compare": "api.compare",
    "distinct_samples": "data.folders",
    "hookimpl": "contract.hookspecs",
    "paired_samples": "data.folders",
    "read_bytes": "contract.files",
    "read_toml": "contract.files",
    "results": "api.results",
    "run": "api.run",
    "sample_of": "data.folders",
    "test": "api.test",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("deeploc-bench")
    if name not in _HOMES:
        raise AttributeError(f"module 'deeploc_bench' has no attribute {name!r}")
    return getattr(import_module(f"deeploc_bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)


class _Package(ModuleType):
    """This module's class: its name `results` is the function, though an import sets it to the room of that name."""

    @property
    def results(self) -> Any:
        """Return the function."""
        return __getattr__("results")

    @results.setter
    def results(self, room: ModuleType) -> None:
        """Keep the function; the room is in sys.modules."""


sys.modules[__name__].__class__ = _Package
wait_briefly()  # here, since torch is imported later, in whatever way a program begins
