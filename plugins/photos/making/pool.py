"""What the networks learn from: random crops of the training photographs, and holes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from deeploc_bench_plugins.photos import PHOTOS
from deeploc_bench_plugins.photos.making.networks import Autoencoder
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SCALES = (256, 208, 168)  # sides that the photographs are shown at
GAMMAS = (0.8, 1.0, 1.25)
SIDE = 64


def photographs(folder: Path) -> list[Tensor]:
    """The training photographs, mirrored or not, darker or brighter, at every scale: (3, side, side) in [-1, 1]."""
    return [
        shown(Image.open(folder / f"{name}.png").convert("RGB"), side, gamma, mirrored)
        for name in PHOTOS["train"]
        for side in SCALES
        for gamma in GAMMAS
        for mirrored in (False, True)
    ]


def shown(image: Image.Image, side: int, gamma: float, mirrored: bool) -> Tensor:
    """A photograph in one of its guises."""
    pixels = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), np.float32) / 255
    values = torch.from_numpy(pixels**gamma).permute(2, 0, 1).contiguous() * 2 - 1
    return values.flip(2) if mirrored else values


@torch.inference_mode()
def encoded(images: list[Tensor], autoencoder: Autoencoder) -> list[Tensor]:
    """The latents of every image, (LATENT, side / 4, side / 4)."""
    return [autoencoder.scaled(image[None])[0] for image in images]


def masks(folder: Path, fold: int) -> Tensor:
    """All masks below a folder, white where pixels are missing, as holes of crops, (N, 1, SIDE / fold, SIDE / fold).

    A folded pixel is missing where one of its pixels is.
    """
    drawn = [np.asarray(Image.open(file).convert("1").resize((SIDE, SIDE))) for file in sorted(folder.rglob("*.png"))]
    if not drawn:
        raise SystemExit(f"{folder}: there are no masks (*.png); deeploc-bench data make draws some")
    return F.max_pool2d(torch.from_numpy(np.stack(drawn))[:, None].float(), fold)


def batch(
    images: list[Tensor], holes: Tensor, sizes: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crops of images, (N, C, side, side), and a hole somewhere in each, (N, 1, side, side); sizes are N and side."""
    count, side = sizes
    crops, missing = [], torch.zeros(count, 1, side, side)
    for k in range(count):
        image = images[integer(len(images), generator)]
        y, x = (integer(extent - side + 1, generator) for extent in image.shape[1:])
        crops.append(image[:, y : y + side, x : x + side])
        hole = holes[integer(len(holes), generator)]
        y, x = (integer(side - hole.shape[-1] + 1, generator) for _ in range(2))
        missing[k, :, y : y + hole.shape[-1], x : x + hole.shape[-1]] = hole
    return torch.stack(crops), missing


def integer(limit: int, generator: torch.Generator) -> int:
    """A random integer from 0 to below a limit."""
    return int(torch.randint(limit, (), generator=generator))
