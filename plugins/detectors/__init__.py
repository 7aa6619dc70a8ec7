"""Detectors trained elsewhere, in a TorchScript or an ONNX file, each described by one TOML file: `--model FILE.toml`.

What a description says, and how a network is exported, docs/detectors.md tells. The terms of a network and its weights
are those of whoever trained it: say them in its description.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeploc_bench import Model, PluginError, hookimpl

if TYPE_CHECKING:
    from deeploc_bench_plugins.detectors.description import Description
    from torch import nn


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the detector that a TOML file describes, or None where it describes a suite; raises PluginError."""
    if not name.endswith(".toml"):
        return None
    from deeploc_bench_plugins.detectors.description import read_description

    path = Path(name).absolute()
    description = read_description(path)
    if description is None:
        return None
    try:
        return Model(
            name=description.name,
            build=partial(_build, description, path),
            reference=description.reference,
            pretraining=description.pretraining,
            license=description.license,
            recipe={"input_size": description.input.size} if description.input.size else {},
            trainable=False,
            weights=path.parent / description.file,
            trained_on=description.trained_on,
            description=path,
        )
    except PluginError as error:
        raise PluginError(f"detector {path}: {error}") from None


def _build(description: Description, path: Path, weights: str) -> nn.Module:
    """Build a detector out of its file; raises PluginError where that is not what the description says."""
    from deeploc_bench_plugins.detectors.network import OPENERS, Detector

    return Detector(OPENERS[description.file_format](Path(weights), description), description, f"detector {path}")
