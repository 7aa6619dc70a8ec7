"""Two generators: `inpaint(images, masks, random) -> images`, as `deeploc-bench data make` calls them.

Images are uint8 (N, H, W, 3), masks bool (N, H, W), True where pixels are to be made; sides are multiples of 8.
They are small networks that `train.py` trained.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from deeploc_bench_plugins.photos.making.diffusion import sample
from deeploc_bench_plugins.photos.making.networks import LATENT, Autoencoder, Denoiser, guessed
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Random = np.random.Generator

Network = TypeVar("Network", bound=nn.Module)

WEIGHTS = Path(__file__).parent / "weights"


def latent(images: Pixels, masks: Masks, random: Random) -> Pixels:
    """Latents of holes made by diffusion, and the whole image decoded: a miniature of latent diffusion with RePaint's
    conditioning (arXiv 2112.10752, 2201.09865). Pixels outside the masks change a little, too.
    """
    coder = autoencoder()
    with torch.inference_mode():
        holes = F.max_pool2d(as_holes(masks), 4)
        known = guessed(coder.scaled(as_values(images)), holes)
        filled = sample(denoiser("latents", LATENT, 1), known, holes, limit=4.0, generator=torch_random(random))
        return as_pixels(coder.decode(filled * coder.deviation + coder.mean))


def ddpm(images: Pixels, masks: Masks, random: Random) -> Pixels:
    """Pixels of holes made by diffusion with RePaint's conditioning (arXiv 2201.09865)."""
    holes = as_holes(masks)
    known = guessed(as_values(images), holes)
    return as_pixels(sample(denoiser("pixels", 3, 2), known, holes, limit=1.0, generator=torch_random(random)))


@cache
def autoencoder() -> Autoencoder:
    """The trained autoencoder of `latent`."""
    return trained(Autoencoder(), "autoencoder")


@cache
def denoiser(name: str, channels: int, fold: int) -> Denoiser:
    """The trained denoiser of `latent` or of `ddpm`."""
    return trained(Denoiser(channels, fold), name)


def trained(network: Network, name: str) -> Network:
    """A network with its weights, in single precision, ready to be asked."""
    network.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    return network.eval()


def torch_random(random: Random) -> torch.Generator:
    """A generator of torch's that follows numpy's."""
    return torch.Generator().manual_seed(int(random.integers(2**63)))


def as_values(images: Pixels) -> Tensor:
    """Levels as floats in [-1, 1], channels first; raises ValueError where 8 does not divide the sides."""
    height, width = images.shape[1:3]
    if height % 8 or width % 8:
        raise ValueError(f"images of {width} x {height} pixels cannot be made; crop or pad them to multiples of 8")
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_holes(masks: Masks) -> Tensor:
    """Masks as floats, (N, 1, H, W)."""
    return torch.from_numpy(masks)[:, None].float()


def as_pixels(values: Tensor) -> Pixels:
    """Floats as pixels, channels last."""
    levels = ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()
