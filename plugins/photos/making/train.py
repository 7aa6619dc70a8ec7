"""Train a network: `python -m deeploc_bench_plugins.photos.making.train NETWORK PHOTOS MASKS`.

It sees the training photographs alone. It saves its state now and then, and goes on from there when it is started
again; randomness comes from seed and step, so that a training that was stopped ends like one that was not. `latents`
needs the autoencoder. The weights, an average over the last steps, are written in half precision into `weights/`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from deeploc_bench_plugins.photos.making.diffusion import TIMES, noised, signal
from deeploc_bench_plugins.photos.making.networks import LATENT, Autoencoder, Critic, Denoiser, guessed
from deeploc_bench_plugins.photos.making.pool import batch, encoded, masks, photographs
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

WEIGHTS = Path(__file__).parent / "weights"
SEED = 2026
SAVED_EVERY = 100  # steps
WARM_UP = 50  # steps
AVERAGED = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a step sees: images or latents, their holes, the share of the steps that is done, and randomness."""

    values: Tensor
    holes: Tensor
    done: float
    generator: torch.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A network and how it is trained; `step` does a step and returns its losses."""

    network: nn.Module
    step: Callable[[Learner, Batch], dict[str, Tensor]]
    steps: int
    sizes: tuple[int, int]  # crops, and their side
    lr: float = 1e-3


class Learner:
    """A network, its critic, what optimizes them, and the average of the network's weights."""

    def __init__(self, network: nn.Module, lr: float) -> None:
        self.network, self.critic, self.lr = network, Critic(), lr
        self.optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.99), weight_decay=1e-4)
        self.judging = torch.optim.Adam(self.critic.parameters(), 4e-4, betas=(0.5, 0.9))
        self.average = {name: value.clone() for name, value in network.state_dict().items()}

    def descend(self, loss: Tensor) -> None:
        """One step of the network."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()

    def judge(self, real: Tensor, made: Tensor, holes: Tensor) -> Tensor:
        """One step of the critic, by the hinge loss: what is made in holes is low, what was photographed is high."""
        with torch.autocast("cpu", torch.bfloat16):
            high, scores = self.critic(real).float(), self.critic(made.detach()).float()
        inside = F.interpolate(holes, scores.shape[-2:], mode="area")
        around = F.relu(1 - scores) * (1 - inside)
        loss = F.relu(1 - high).mean() + mean_inside(F.relu(1 + scores), inside) + 0.5 * around.mean()
        self.judging.zero_grad()
        loss.backward()
        self.judging.step()
        return loss

    def set_pace(self, step: int, steps: int) -> None:
        """The learning rate of a step: a warm-up, then a line down to a twentieth."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1, (step + 1) / WARM_UP) * max(0.05, 1 - step / steps)

    def follow(self, step: int) -> None:
        """Draw the average towards the weights."""
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - min(AVERAGED, (step + 1) / (step + 10)))

    def state(self) -> dict[str, object]:
        """All that a training goes on from."""
        parts = (self.network, self.critic, self.optimizer, self.judging)
        return {"parts": [part.state_dict() for part in parts], "average": self.average}

    def take(self, state: dict[str, object]) -> None:
        """Go on from a state."""
        for part, values in zip((self.network, self.critic, self.optimizer, self.judging), state["parts"], strict=True):
            part.load_state_dict(values)
        self.average = state["average"]


def reconstruct(learner: Learner, given: Batch) -> dict[str, Tensor]:
    """Absolute differences of pixels and gradients and a little divergence, and for the last part the critic's word."""
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = (part.float() for part in learner.network.encode(given.values))
        noise = torch.randn(mean.shape, generator=given.generator)
        made = learner.network.decode(mean + (log_variance / 2).exp() * noise).float()
    likeness = F.l1_loss(made, given.values) + 0.5 * steepness(made, given.values)
    loss = likeness + 2e-4 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    if given.done < 0.5:
        learner.descend(loss)
        return {"likeness": likeness}
    everywhere = torch.ones_like(given.holes)
    with torch.autocast("cpu", torch.bfloat16):
        praise = learner.critic(made).float().mean()
    learner.descend(loss - 0.04 * praise)
    return {"likeness": likeness, "praise": praise, "critic": learner.judge(given.values, made, everywhere)}


def denoise(learner: Learner, given: Batch) -> dict[str, Tensor]:
    """The squared error of the noise, in the holes most of all."""
    times = torch.randint(1, TIMES + 1, (len(given.values),), generator=given.generator)
    noisy, noise = noised(given.values, signal(times)[:, None, None, None], given.generator)
    with torch.autocast("cpu", torch.bfloat16):
        told = learner.network(noisy, times, guessed(given.values, given.holes), given.holes).float()
    error = (told - noise) ** 2
    loss = mean_inside(error, given.holes) + 0.1 * error.mean()
    learner.descend(loss)
    return {"error": loss}


def mean_inside(values: Tensor, holes: Tensor) -> Tensor:
    """The mean of values, (N, C, H, W), weighted by holes."""
    return (values * holes).sum() / holes.sum() / values.shape[1]


def steepness(made: Tensor, real: Tensor) -> Tensor:
    """The absolute difference of two images' gradients."""
    difference = made - real
    return difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()


TASKS: dict[str, Callable[[], Task]] = {
    "autoencoder": lambda: Task(network=Autoencoder(), step=reconstruct, steps=2500, sizes=(8, 64)),
    "latents": lambda: Task(network=Denoiser(LATENT, 1), step=denoise, steps=1500, sizes=(16, 24)),
    "pixels": lambda: Task(network=Denoiser(3, 2), step=denoise, steps=1600, sizes=(8, 64)),
}


def train(name: str, photos: Path, drawn: Path) -> None:
    """Train one network to its end."""
    torch.manual_seed(SEED)
    task = TASKS[name]()
    learner, resume = Learner(task.network, task.lr), WEIGHTS / f"{name}.resume"
    images, holes = photographs(photos), masks(drawn, 4 if name == "latents" else 1)
    if name == "latents":
        images = encoded(images[::3], read_autoencoder())
    start = read_state(learner, resume)
    began = time.monotonic()
    for step in range(start, task.steps):
        generator = torch.Generator().manual_seed(SEED * 1_000_000 + step)
        values, missing = batch(images, holes, task.sizes, generator)
        learner.set_pace(step, task.steps)
        losses = task.step(learner, Batch(values=values, holes=missing, done=step / task.steps, generator=generator))
        learner.follow(step)
        if (step + 1) % SAVED_EVERY == 0:
            write_state(learner, resume, step + 1)
            told = "  ".join(f"{loss} {value.item():.4f}" for loss, value in losses.items())
            print(f"{step + 1} of {task.steps}  {time.monotonic() - began:.0f} s  {told}", flush=True)
    weights = learner.average
    if name == "autoencoder":
        weights = measured(weights, images)
    save_file({key: value.half().contiguous() for key, value in weights.items()}, WEIGHTS / f"{name}.safetensors")
    resume.unlink(missing_ok=True)


def measured(weights: dict[str, Tensor], images: list[Tensor]) -> dict[str, Tensor]:
    """The autoencoder's weights with the mean and deviation of its latents of the photographs."""
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(weights)
    latents = encoded(images[::6], autoencoder)
    autoencoder.mean = torch.stack([latent.mean((1, 2), keepdim=True) for latent in latents]).mean(0)
    autoencoder.deviation = torch.stack([latent.flatten(1).std(1) for latent in latents]).mean(0)[:, None, None]
    return autoencoder.state_dict()


def read_autoencoder() -> Autoencoder:
    """The trained autoencoder."""
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(load_file(WEIGHTS / "autoencoder.safetensors"))
    return autoencoder.eval()


def write_state(learner: Learner, path: Path, step: int) -> None:
    """Write what a training goes on from, whole or not at all."""
    torch.save({**learner.state(), "step": step}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def read_state(learner: Learner, path: Path) -> int:
    """Take up a training where it was stopped, and return the steps that are done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    learner.take(state)
    return state["step"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=TASKS)
    parser.add_argument("photos", type=Path, help="folder of the photographs")
    parser.add_argument("masks", type=Path, help="folder of masks, as `data make` draws them")
    arguments = parser.parse_args()
    WEIGHTS.mkdir(exist_ok=True)
    train(arguments.network, arguments.photos, arguments.masks)
