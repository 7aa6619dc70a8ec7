"""deeploc-bench: does a deepfake localizer still find the edited pixels when it has never seen the generator?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeploc_bench.contract.errors import DataError, DeeplocError, PluginError, WeightsError
    from deeploc_bench.contract.hookspecs import hookimpl
    from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model, Sample
    from deeploc_bench.data.folders import paired_samples

__all__ = [
    "DataError",
    "DeeplocError",
    "GeneratorDataset",
    "Loss",
    "Model",
    "PluginError",
    "Sample",
    "WeightsError",
    "hookimpl",
    "paired_samples",
]

_HOMES = {
    "DataError": "contract.errors",
    "DeeplocError": "contract.errors",
    "GeneratorDataset": "contract.specs",
    "Loss": "contract.specs",
    "Model": "contract.specs",
    "PluginError": "contract.errors",
    "Sample": "contract.specs",
    "WeightsError": "contract.errors",
    "hookimpl": "contract.hookspecs",
    "paired_samples": "data.folders",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deeploc_bench' has no attribute {name!r}")
    return getattr(import_module(f"deeploc_bench.{_HOMES[name]}"), name)
