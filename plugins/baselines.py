"""Three baselines, which tell how much can be had without looking for edits; every other score stands beside theirs.

- all-manipulated: every pixel, with logit 1 (heatmap 0.73). Its IoU is the manipulated share of the image.
- position-prior: the mean training mask, the same for every image. What beats it has looked at the image.
- local-noise: a logistic regression on how far the noise around a pixel is from what is usual in its image, after
  Mahdian and Saic, Using noise inconsistencies for blind image forensics, https://doi.org/10.1016/j.imavis.2009.02.001.
  What beats it has seen more than a patch that is smoother or rougher than the rest.

The last two fit themselves to the training images, and choose their threshold by the mean IoU on the validation images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeploc_bench import Model, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn

    Batches = Iterable[tuple[Tensor, Tensor]]  # images (N, 3, H, W) and masks (N, 1, H, W), both float32

SIDE = 64
"""The rows and columns of the mean mask."""
POINTS = 16
"""The rows and columns of pixels that are fitted to in each image, at least."""
WINDOWS = (5, 11)
"""The sides in pixels of the squares over which noise is averaged."""
FLOOR = 2.0**-12
"""A sixteenth of a gray level: what is added to noise, so that it has a logarithm."""


@hookimpl
def deeploc_models() -> list[Model]:
    """Return the baselines."""
    about = {"reference": None, "pretraining": "none", "license": "MIT", "baseline": True}
    return [
        Model(name="all-manipulated", build=build_all_manipulated, trainable=False, **about),
        Model(name="position-prior", build=build_position_prior, **about),
        Model(name="local-noise", build=build_local_noise, **about),
    ]


def build_all_manipulated() -> nn.Module:
    """Return a module that calls every pixel manipulated."""
    import torch
    from torch import nn

    class AllManipulated(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.ones_like(images[:, :1], dtype=torch.float32)  # (N, 1, H, W)

    return AllManipulated()


def build_position_prior() -> nn.Module:
    """Return a module that calls manipulated where most often something is."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    class PositionPrior(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("prior", torch.full((1, 1, SIDE, SIDE), 0.5))
            self.register_buffer("threshold", torch.zeros(()))  # of the prior's logit

        def fit(self, train: Batches, valid: Batches) -> None:
            total, count = torch.zeros_like(self.prior, dtype=torch.float64), 0
            for _, masks in train:
                total += F.interpolate(masks, size=(SIDE, SIDE), mode="area").double().sum(dim=0)
                count += len(masks)
            self.prior.copy_(total / count)
            self.threshold.copy_(best_threshold(self.score, self.prior.logit(1e-6), valid))

        def score(self, images: Tensor) -> Tensor:
            prior = F.interpolate(self.prior, size=images.shape[2:], mode="bilinear")
            return prior.logit(1e-6).expand(len(images), -1, -1, -1)

        def forward(self, images: Tensor) -> Tensor:
            return self.score(images) - self.threshold

    return PositionPrior()


def build_local_noise() -> nn.Module:
    """Return a module that calls manipulated where the noise is unlike that of the image."""
    import torch
    from torch import nn

    class LocalNoise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.regression = nn.Conv2d(3 * len(WINDOWS), 1, kernel_size=1)

        @torch.no_grad()
        def fit(self, train: Batches, valid: Batches) -> None:
            points = [(on_grid(noise_features(images)), on_grid(masks)) for images, masks in train]
            features, truth = (
                torch.cat([p.mT.flatten(0, 1) for p in part]).double() for part in zip(*points, strict=True)
            )
            weight, bias = logistic_regression(features, (truth > 0.5).double()[:, 0])
            self.regression.weight.copy_(weight[None, :, None, None])
            self.regression.bias.copy_(bias)
            self.regression.bias.sub_(best_threshold(self, features @ weight + bias, valid))

        def forward(self, images: Tensor) -> Tensor:
            with torch.autocast(images.device.type, enabled=False):  # bf16 would round the noise away
                return self.regression(noise_features(images.float()))

    return LocalNoise()


def noise_features(images: Tensor) -> Tensor:
    """Return how far the noise around each pixel is from the image's median, (N, 3 windows, H, W).

    Noise is a residual, what its neighbours do not tell of a gray pixel. Its local statistics are the logarithms of its
    energy, of the energy over that of a coarser residual, and of its peakedness.
    """
    import torch
    from torch.nn import functional as F  # noqa: N812

    gray = images.mean(dim=1, keepdim=True)
    kernel = gray.new_tensor([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]])[None, None] / 4
    fine = F.conv2d(F.pad(gray, (1,) * 4, mode="reflect"), kernel)
    coarse = F.conv2d(F.pad(local_mean(gray, 3), (2,) * 4, mode="reflect"), kernel, dilation=2)
    found = []
    for window in WINDOWS:
        energy, other = (local_mean(residual**2, window).add(FLOOR**2).log() for residual in (fine, coarse))
        size = local_mean(fine.abs(), window).add(FLOOR).log()
        found += [energy, energy - other, energy - 2 * size]
    statistics = torch.cat(found, dim=1)
    ordered = on_grid(statistics).sort(dim=2).values
    return (statistics - ordered[:, :, ordered.shape[2] // 2, None, None]).abs()


def local_mean(values: Tensor, window: int) -> Tensor:
    """Return the mean over the square around each pixel, (N, C, H, W), borders mirrored."""
    from torch.nn import functional as F  # noqa: N812

    return F.avg_pool2d(F.pad(values, (window // 2,) * 4, mode="reflect"), window, stride=1)


def on_grid(values: Tensor) -> Tensor:
    """Return evenly spaced pixels of values (N, C, H, W), as (N, C, P)."""
    rows, columns = (max(1, side // POINTS) for side in values.shape[2:])
    return values[:, :, rows // 2 :: rows, columns // 2 :: columns].flatten(2)


def logistic_regression(features: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (C,) and bias (1,) of the logit of the truth, (M,), given features (M, C), all float64."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    mean, scale = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    standard = (features - mean) / scale
    weight, bias = (features.new_zeros(count, requires_grad=True) for count in (features.shape[1], 1))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    @torch.enable_grad()
    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(standard @ weight + bias, truth)
        value += 1e-6 * weight.square().sum()  # or nothing stops it where the truth is all told
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach() / scale, bias.detach() - weight.detach() / scale @ mean


def best_threshold(score: Callable[[Tensor], Tensor], scores: Tensor, valid: Batches) -> Tensor:
    """Return the threshold of a score that gives the highest mean IoU on the validation images, the lowest of equals.

    `score` turns images into (N, 1, H, W). Tried are 99 quantiles of the sample `scores`, and one below all of them.
    """
    import torch

    ordered = scores.float().flatten().sort().values
    ranks = torch.arange(1, 100, device=ordered.device) * len(ordered) // 100
    tried = torch.cat([ordered[:1] - 1, ordered[ranks]])
    total, bins = torch.zeros(len(tried), dtype=torch.float64, device=tried.device), len(tried) + 1
    for images, masks in valid:
        passed = torch.bucketize(
            score(images).flatten(1).contiguous(), tried
        )  # (N, H W): how many thresholds lie below
        truth = masks.flatten(1) > 0.5
        place = 2 * torch.arange(len(images), device=tried.device)[:, None] + truth
        counts = torch.bincount((place * bins + passed).flatten(), minlength=2 * len(images) * bins)
        above = counts.view(-1, 2, bins).flip(2).cumsum(dim=2).flip(2)[:, :, 1:].double()  # pixels above each threshold
        inter, union = above[:, 1], above[:, 0] + truth.sum(dim=1, keepdim=True)  # both (N, thresholds)
        total += torch.where(union > 0, inter / union, 1.0).sum(dim=0)
    return tried[total.argmax()]
