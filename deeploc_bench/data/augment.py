"""Augmentation on the device, a batch at a time; only the images that are blurred pay for blurring."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; on a GPU it arrives while the program goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # the pinned copy is kept until it has been read


def to_float(images: Tensor, memory: Tensor | None = None) -> Tensor:
    """Turn uint8 (N, H, W, 3) into float32 in [0, 1], (N, 3, H, W), channels last in memory.

    `memory` is float32 of the images' shape that is written over, new where it is None.
    """
    floats = images.float() if memory is None else memory.copy_(images)
    return floats.div_(255).permute(0, 3, 1, 2)


class Pixels:
    """The float pixels of one batch after another, on the CPU in one memory.

    Memory that is given back costs a page fault for every 4 KiB when it is taken again: more than the conversion.
    """

    def __init__(self) -> None:
        self.memory = torch.empty(0)

    def of(self, images: Tensor) -> Tensor:
        """Return `to_float` of images, which holds until the next are asked for."""
        if images.device.type != "cpu":
            return to_float(images)
        if self.memory.numel() < images.numel():
            self.memory = torch.empty(images.numel())
        return to_float(images, self.memory[: images.numel()].view(images.shape))


def flip(images: Tensor, masks: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the chosen images (N, 3, H, W) and masks (N, 1, H, W) left to right; `chosen` is bool (N,)."""
    which = chosen[:, None, None, None]
    return torch.where(which, images.flip(-1), images), torch.where(which, masks.flip(-1), masks)


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur each image (N, C, H, W) with its own sigma (N,) in pixels, separably, borders mirrored.

    `sigmas` lie on the CPU, where the kernels are made: nothing waits for a GPU to know their size. A kernel's radius
    is int(3 sigma + 0.5): `scipy.ndimage.gaussian_filter(..., mode="mirror", truncate=3)`.
    """
    radii = (3 * sigmas + 0.5).int()
    reach = int(radii.max()) if len(radii) else 0
    if reach == 0:
        return images
    count, channels, height, width = images.shape
    kernels = moved(_kernels(sigmas, radii, reach), images.device)
    kernels = kernels.repeat_interleave(channels, dim=0)  # (N C, 2 reach + 1)
    planes = images.reshape(1, count * channels, height, width)
    for around, weights in (
        ((reach, reach, 0, 0), kernels[:, None, None, :]),
        ((0, 0, reach, reach), kernels[:, None, :, None]),
    ):
        padded = F.pad(planes, around, mode="reflect")
        # beside each other in memory, so that one pass takes a pixel of all planes
        planes = F.conv2d(padded.contiguous(memory_format=torch.channels_last), weights, groups=count * channels)
    return planes.view(images.shape).contiguous(memory_format=torch.channels_last)


def blur_some(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur the images (N, C, H, W) in [0, 1] whose sigma (N,) is above zero; `sigmas` lies on the CPU.

    What is blurred is rounded to the nearest k/255, the levels that every image file has: a blur of finer levels would
    be known by them alone.
    """
    chosen = sigmas.nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    where = moved(chosen, images.device)
    blurred = gaussian_blur(images[where], sigmas[chosen])
    return images.index_copy(0, where, blurred.mul(255).round_().div_(255))


def _kernels(sigmas: Tensor, radii: Tensor, reach: int) -> Tensor:
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (steps / sigmas.clamp_min(1e-6)[:, None]) ** 2)
    weights = weights * (steps.abs() <= radii[:, None])
    return weights / weights.sum(dim=1, keepdim=True)
