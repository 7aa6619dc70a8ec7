"""Diffusion of what is missing: the cosine schedule, and sampling that puts the known part back at every step.

The schedule is Nichol and Dhariwal's (arXiv 2102.09672), the steps are Song et al.'s (arXiv 2010.02502); the known
part, and going over the same steps again so that both parts agree, are RePaint's (Lugmayr et al., arXiv 2201.09865).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from deeploc_bench_plugins.photos.making.networks import Denoiser
from torch import Tensor

TIMES = 200
START = 0.5  # of TIMES: what is missing starts as noise on a guess, so that its colours suit the surroundings
STEPS = 16
LAST = 4  # steps that are gone over once; the ones before, twice
RESTLESSNESS = 0.8  # 1: each step adds the noise of the diffusion's own, 0: none


def signal(times: Tensor) -> Tensor:
    """The share of the variance that is signal, at each time step."""
    return torch.cos((times / TIMES + 0.008) / 1.008 * math.pi / 2) ** 2


def noised(values: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Values, (N, C, H, W), with noise, given the shares of signal (N, 1, 1, 1) or (); and the noise."""
    noise = torch.randn(values.shape, generator=generator)
    return share.sqrt() * values + (1 - share).sqrt() * noise, noise


@torch.inference_mode()
def sample(denoiser: Denoiser, known: Tensor, holes: Tensor, *, limit: float, generator: torch.Generator) -> Tensor:
    """Known values with their holes filled, (N, C, H, W); `limit` bounds what clean values can be.

    What stands in the holes of `known` is the guess that is begun with.
    """
    walk = Walk(denoiser=denoiser, known=known, holes=holes, limit=limit, generator=generator)
    times = torch.linspace(START * TIMES, 0, STEPS + 1).round()
    shares = [*signal(times[:-1]), torch.tensor(1.0)]
    values, _ = noised(known, shares[0], generator)
    for step, time in enumerate(times[:-1]):
        before, after = shares[step : step + 2]
        values = walk.step(values, time, before, after)
        if step < STEPS - LAST:
            values, _ = noised(values, before / after, generator)  # back, to go over it once more
            values = walk.step(values, time, before, after)
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A way from noise to what is missing."""

    denoiser: Denoiser
    known: Tensor
    holes: Tensor
    limit: float
    generator: torch.Generator

    def step(self, values: Tensor, time: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Values of one time step taken to the next, given both shares of signal; the known part is put back."""
        with torch.autocast("cpu", torch.bfloat16):
            noise = self.denoiser(values, time.expand(len(values)), self.known, self.holes).float()
        clean = ((values - (1 - before).sqrt() * noise) / before.sqrt()).clamp(-self.limit, self.limit)
        noise = (values - before.sqrt() * clean) / (1 - before).sqrt()
        fresh = RESTLESSNESS * ((1 - after) / (1 - before) * (1 - before / after)).sqrt()
        made = after.sqrt() * clean + (1 - after - fresh**2).sqrt() * noise
        made = made + fresh * torch.randn(values.shape, generator=self.generator)
        around, _ = noised(self.known, after, self.generator)
        return torch.where(self.holes > 0, made, around)
