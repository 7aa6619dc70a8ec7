"""Diffusion of what is missing: the cosine schedule, and sampling that puts the known part back at every step.

The schedule is Nichol and Dhariwal's (arXiv 2102.09672), the steps are Song et al.'s (arXiv 2010.02502); the known
part, and going over the same steps again so that both parts agree, are RePaint's (Lugmayr et al., arXiv 2201.09865).
"""

from __future__ import annotations

import math

import torch
from deeploc_bench_plugins.photos.making.networks import Denoiser
from torch import Tensor

TIMES = 200
START = 0.75  # of TIMES: what is missing starts as noise on a guess, so that its colours suit the surroundings
STEPS = 30
REPEATS = 2  # of each step but the last ones
RESTLESSNESS = 0.8  # 1: each step adds the noise of the diffusion's own, 0: none


def signal(times: Tensor) -> Tensor:
    """The share of the variance that is signal, at each time step."""
    return torch.cos((times / TIMES + 0.008) / 1.008 * math.pi / 2) ** 2


def noised(values: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Values, (N, C, H, W), with noise, given the shares of signal (N, 1, 1, 1) or (); and the noise."""
    noise = torch.randn(values.shape, generator=generator)
    return share.sqrt() * values + (1 - share).sqrt() * noise, noise


@torch.inference_mode()
def sample(
    denoiser: Denoiser, known: Tensor, holes: Tensor, guess: Tensor, *, limit: float, generator: torch.Generator
) -> Tensor:
    """Known values with holes filled, (N, C, H, W); `limit` bounds what clean values can be."""
    times = torch.linspace(START * TIMES, 0, STEPS + 1).round()
    values, _ = noised(guess, signal(times[0]), generator)
    for step, (time, following) in enumerate(zip(times, times[1:], strict=False)):
        for repeat in range(REPEATS if step < STEPS - 5 else 1):
            if repeat:  # back up again
                share = signal(time) / signal(following)
                values, _ = noised(values, share, generator)
            values = stepped(denoiser, values, known, holes, time, following, limit, generator)
            around, _ = noised(known, signal(following) if following else torch.tensor(1.0), generator)
            values = torch.where(holes > 0, values, around)
    return values


def stepped(
    denoiser: Denoiser,
    values: Tensor,
    known: Tensor,
    holes: Tensor,
    time: Tensor,
    following: Tensor,
    limit: float,
    generator: torch.Generator,
) -> Tensor:
    """Values of one time step, taken to the following one."""
    before, after = signal(time), signal(following) if following else torch.tensor(1.0)
    with torch.autocast("cpu", torch.bfloat16):
        noise = denoiser(values, time.expand(len(values)), known, holes).float()
    clean = ((values - (1 - before).sqrt() * noise) / before.sqrt()).clamp(-limit, limit)
    noise = (values - before.sqrt() * clean) / (1 - before).sqrt()
    fresh = RESTLESSNESS * ((1 - after) / (1 - before) * (1 - before / after)).clamp(min=0).sqrt()
    kept = (1 - after - fresh**2).clamp(min=0).sqrt()
    return after.sqrt() * clean + kept * noise + fresh * torch.randn(values.shape, generator=generator)
