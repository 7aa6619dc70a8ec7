"""The generator `cyclegan`, as `deeploc-bench data make` calls it; its network lies in the package vintagify 0.1.2."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve
from torch import nn

LICENSE = "MIT"
REFERENCE = "https://arxiv.org/abs/1703.10593"

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
SIDES = ndimage.generate_binary_structure(2, 1)


def cyclegan(images: Pixels, masks: NDArray[np.bool_], random: np.random.Generator) -> Pixels:
    """Images in the style of old photographs, by a CycleGAN; in the masks they meet the originals at the border."""
    with torch.inference_mode():
        values = network()(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1)
    styled = (values.permute(0, 2, 3, 1).numpy().astype(float) + 1) * 127.5
    blended = [
        fill + membrane(image - fill, mask)
        for image, fill, mask in zip(images.astype(float), styled, masks, strict=True)
    ]
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


@cache
def network() -> nn.Module:
    """The network that the package vintagify ships, read from its files: nothing else of the package is imported."""
    found = find_spec("vintagify")
    if found is None or found.origin is None:
        raise ImportError("vintagify is not installed: pip install --no-deps vintagify==0.1.2")
    folder = Path(found.origin).parent
    spec = spec_from_file_location("vintagify_generator", folder / "generator.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    generator: nn.Module = module.ResnetGenerator()
    weights = torch.load(folder / "resources/G_A2B_epoch33.pth", map_location="cpu", weights_only=True)
    generator.load_state_dict(weights)
    return generator.eval()


def membrane(values: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    """Values (H, W, C), and inside the mask the solution of Laplace's equation between those around it."""
    if mask.all():
        return np.zeros_like(values)
    around = ndimage.binary_dilation(mask, SIDES)
    number = np.full(mask.shape, -1)
    number[around] = np.arange(around.sum())
    pairs = [(a[mask & (b >= 0)], b[mask & (b >= 0)]) for a, b in ((number, shifted) for shifted in neighbours(number))]
    rows, columns = (np.concatenate(part) for part in zip(*pairs, strict=True))
    inside = mask[around]
    count = np.bincount(rows, minlength=len(inside))
    places = np.arange(len(inside))
    matrix = csr_matrix(
        (
            np.concatenate([np.where(inside, count, 1), np.full(len(rows), -1)]).astype(float),
            (np.concatenate([places, rows]), np.concatenate([places, columns])),
        )
    )
    right = np.where(inside[:, None], 0, values[around])
    solved = values.copy()
    solved[around] = np.stack([spsolve(matrix, channel) for channel in right.T], axis=1)
    return solved


def neighbours(number: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The numbers of the pixels above, below, left and right, -1 where there is none."""
    padded = np.pad(number, 1, constant_values=-1)
    return [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
