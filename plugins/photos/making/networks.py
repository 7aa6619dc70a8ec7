"""The small networks: an autoencoder and its critic, and a denoiser for pixels or latents.

Miniatures of latent diffusion (arXiv 2112.10752) and of RePaint (arXiv 2201.09865), small enough to be trained on a CPU
in a quarter of an hour. Images are float (N, 3, H, W) in [-1, 1], holes float (N, 1, H, W), 1 where pixels are to be
made; sides are multiples of 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

LATENT = 4  # channels


def guessed(values: Tensor, holes: Tensor) -> Tensor:
    """Values, (N, C, H, W), with something smooth in their holes: means of what is near, of ever coarser copies."""
    weights = 1 - holes
    if values.shape[-2] % 2 or values.shape[-1] % 2:
        mean = (values * weights).sum((2, 3), keepdim=True) / weights.sum((2, 3), keepdim=True).clamp(min=1)
        return torch.where(holes > 0, mean, values)
    near = F.avg_pool2d(weights, 2)
    coarse = guessed(F.avg_pool2d(values * weights, 2) / near.clamp(min=0.25), (near == 0).float())
    return torch.where(holes > 0, F.interpolate(coarse, scale_factor=2, mode="bilinear"), values)


class Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)),
            *(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        return features + self.convolutions(features)


class Critic(nn.Module):
    """Scores of patches, (N, 1, H / 4, W / 4): high where they look like photographs."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, width, 2), (width, 2 * width, 2), (2 * width, 3 * width, 1)):
            kernel = 4 if stride == 2 else 3
            layers += [normalized(nn.Conv2d(inputs, outputs, kernel, stride, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, normalized(nn.Conv2d(3 * width, 1, 3, padding=1)))

    def forward(self, images: Tensor) -> Tensor:
        """The scores of images."""
        return self.layers(images)


def normalized(layer: nn.Module) -> nn.Module:
    """A layer under spectral normalization."""
    return nn.utils.parametrizations.spectral_norm(layer)


class Autoencoder(nn.Module):
    """A variational autoencoder: images to LATENT channels at a quarter of the resolution, and back.

    `mean` and `deviation` are those of the latents of the photographs it was trained on.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 56, 80)) -> None:
        super().__init__()
        near, middle, far = widths
        self.register_buffer("mean", torch.zeros(LATENT, 1, 1))
        self.register_buffer("deviation", torch.ones(LATENT, 1, 1))
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, near, 3, padding=1), nn.SiLU(), nn.Conv2d(near, middle, 4, 2, 1), Block(middle), nn.SiLU()),
            *(nn.Conv2d(middle, far, 4, 2, 1), Block(far), nn.GroupNorm(8, far), nn.SiLU()),
            nn.Conv2d(far, 2 * LATENT, 1),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(LATENT, far, 3, padding=1), Block(far), Block(far), nn.Upsample(scale_factor=2)),
            *(nn.Conv2d(far, middle, 3, padding=1), Block(middle), nn.Upsample(scale_factor=2)),
            *(nn.Conv2d(middle, near, 3, padding=1), nn.GroupNorm(8, near), nn.SiLU()),
            *(nn.Conv2d(near, near, 3, padding=1), nn.SiLU(), nn.Conv2d(near, 3, 3, padding=1)),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, each (N, LATENT, H / 4, W / 4)."""
        mean, log_variance = self.encoder(images).chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)

    def scaled(self, images: Tensor) -> Tensor:
        """The mean latents of images, each channel with a variance of about 1."""
        return (self.encode(images)[0] - self.mean) / self.deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        return self.decoder(latents)


class Timed(nn.Module):
    """A block that is told the time step, as scale and shift between its convolutions."""

    def __init__(self, width: int, times: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        )
        self.modulation = nn.Linear(times, 2 * width)
        self.norm, self.last = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # the identity, first

    def forward(self, features: Tensor, times: Tensor) -> Tensor:
        """Features of the same shape; times are (N, times)."""
        scale, shift = self.modulation(times)[:, :, None, None].chunk(2, 1)
        return features + self.last(F.silu(self.norm(self.first(features)) * (1 + scale) + shift))


class Denoiser(nn.Module):
    """Tells the noise of what is half noise, given what surrounds the hole: of pixels, or of latents.

    `fold` puts squares of neighbours into channels first, so that pixels cost no more than latents.
    """

    TIMES = 64

    def __init__(self, channels: int, fold: int, widths: tuple[int, int] = (64, 96)) -> None:
        super().__init__()
        near, far = widths
        self.fold = fold
        self.embed = nn.Sequential(nn.Linear(self.TIMES, self.TIMES), nn.SiLU(), nn.Linear(self.TIMES, self.TIMES))
        self.stem = nn.Conv2d((2 * channels + 1) * fold**2, near, 3, padding=1)
        self.before = nn.ModuleList(Timed(near, self.TIMES) for _ in range(2))
        self.down = nn.Conv2d(near, far, 4, 2, 1)
        self.middle = nn.ModuleList(Timed(far, self.TIMES, dilation) for dilation in (1, 2, 4))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(far, near, 3, padding=1))
        self.merge = nn.Conv2d(2 * near, near, 1)
        self.after = nn.ModuleList(Timed(near, self.TIMES) for _ in range(2))
        self.head = nn.Sequential(nn.GroupNorm(8, near), nn.SiLU(), nn.Conv2d(near, channels * fold**2, 3, padding=1))

    def forward(self, noisy: Tensor, times: Tensor, known: Tensor, holes: Tensor) -> Tensor:
        """The noise, (N, C, H, W); `known` is what surrounds the holes, with a guess in them, times are (N,)."""
        features = torch.cat([noisy, known, holes], 1)
        features, embedded = self.stem(F.pixel_unshuffle(features, self.fold)), self.embed(waves(times, self.TIMES))
        for block in self.before:
            features = block(features, embedded)
        deep = self.down(features)
        for block in self.middle:
            deep = block(deep, embedded)
        features = self.merge(torch.cat([self.up(deep), features], 1))
        for block in self.after:
            features = block(features, embedded)
        return F.pixel_shuffle(self.head(features), self.fold)


def waves(times: Tensor, width: int) -> Tensor:
    """Sines and cosines of the time steps, (N, width)."""
    frequencies = torch.exp(-torch.arange(width // 2) * (9.2 / (width // 2)))
    angles = times[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)
