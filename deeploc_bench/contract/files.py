"""Reads TOML files that users write."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from deeploc_bench.contract.errors import DeeplocError


def read_toml(path: Path, kind: str, error: type[DeeplocError]) -> dict[str, Any]:
    """Return the values of a TOML file of some `kind`; raises `error` where it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as reason:
        raise error(f"{kind} {path}: {reason.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise error(f"{kind} {path} is not TOML: {reason}") from None
