"""`check`: whether plugins hold the contract."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


def check(what: str | Path, *, plugins: Sequence[str | Path] = (), data: str | Path | None = None) -> Any:
    """Return what the conformance checks found of a model, a loss, a suite, or all of a plugin's file or module."""
    return import_module("deeploc_bench.conformance").check(what, plugins=plugins, data=data)
