"""Inpainting functions for `deeploc-bench data make --with deeploc_bench_plugins.makers.MODULE:FUNCTION`.

Each module needs an extra of its name: `pip install 'deeploc-bench[opencv]'`, `patchmatch`, `diffusers` or `onnx`.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeploc_bench import PluginError

Images = NDArray[np.uint8]  # (N, H, W, 3), or (H, W, 3)
Masks = NDArray[np.bool_]  # (N, H, W), or (H, W)


def needed(module: str, extra: str) -> Any:
    """Return a module; raises PluginError that names the extra which installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PluginError(f"{module} cannot be imported ({error}): pip install 'deeploc-bench[{extra}]'") from None


def padded(pixels: NDArray[Any], multiple: int) -> NDArray[Any]:
    """Return an image (H, W, 3) or a mask (H, W) mirrored over its lower and right border, to multiples of a side."""
    height, width = pixels.shape[:2]
    grown = [(0, -side % multiple) for side in (height, width)] + [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, grown, mode="symmetric")
