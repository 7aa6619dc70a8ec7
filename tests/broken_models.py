"""Networks with one mistake each: what people do wrong, and what would pass with a plausible number."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


def net(*more):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), *more)


class Wrapped(nn.Module):
    """A sound network whose forward is changed by a function of the module and the images."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.body, self.own = net(), forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, images):
        return self.own(self, images)


class Extra(Wrapped):
    """A network with state that no safetensors file can hold."""

    def get_extra_state(self):
        return {"epoch": 1}

    def set_extra_state(self, state):
        pass


class Unregistered(nn.Module):
    """A network that depends on a tensor that is no parameter and no buffer."""

    def __init__(self):
        super().__init__()
        self.body, self.code = net(), [torch.randn(1, 1, 1, 1) * 9]

    def forward(self, images):
        return self.body(images) + self.code[0]


class WithOwn(Wrapped):
    """A network with a loss of its own: `value` of its logits and the masks."""

    def training_loss(self, images, masks):
        return self.value(self(images), masks)


class Memory(nn.Module):
    """A network that remembers the images before."""

    def __init__(self):
        super().__init__()
        self.body, self.last = net(), 0.0

    def forward(self, images):
        logits = self.body(images) + self.last
        self.last = self.last + float(images.mean())
        return logits


def exit_now():
    raise SystemExit(0)


def in_place(module, images):
    return module.body(images.mul_(2).sub_(1))


def over_batch(module, images):
    return module.body(images) - images.mean() * 20 + len(images)


def noisy(module, images):
    return module.body(images) + torch.randn(len(images), 1, *images.shape[2:])


def dropping(module, images):
    return module.body(F.dropout(images, 0.5))


def nan_on_black(module, images):
    return module.body(images / images.amax(dim=(1, 2, 3), keepdim=True))


def nan_on_white(module, images):
    return module.body(images) / (images.amin(dim=(1, 2, 3), keepdim=True) < 1)


def infinite(module, images):
    return module.body(images) / 0


def half_in_eval(module, images):
    logits = module.body(images)
    return logits if module.training else logits[..., ::2, ::2]


def two_channels(module, images):
    return torch.cat([module.body(images)] * 2, dim=1)


def no_channel(module, images):
    return module.body(images)[:, 0]


def a_dict(module, images):
    return {"out": module.body(images)}


def wrong_at_odd_sizes(module, images):
    return module.body(images)[..., : images.shape[2] // 32 * 32, : images.shape[3] // 32 * 32]


def raising_at_odd_sizes(module, images):
    if images.shape[2] % 32:
        raise ValueError("height must be a multiple of 32")
    return module.body(images)


def turned(module, images):
    return module.body(images).mT


def of_one_image(module, images):
    return module.body(images.squeeze(0) if len(images) == 1 else images)


def viewed(module, images):
    return module.body(images.view(len(images), -1)[:, None].view(images.shape))


def detached_early(module, images):
    return module.head(module.body[:2](images).detach())


def growing(module, images):
    if module.training:
        module.register_buffer("seen", torch.zeros(len(getattr(module, "seen", ())) + 1))
    return module.body(images)


def raising_in_training(module, images):
    if module.training:
        raise ValueError("no training")
    return module.body(images)


def double_inside(module, images):
    return module.body(images) + F.conv2d(images.double(), torch.ones(1, 3, 1, 1).double()).float() / 100


def half_inside(module, images):
    return module.body(images).half()


def other_in_eval(module, images):
    logits = module.body(images)
    return logits if module.training else logits - 100


def frozen():
    module = net()
    module.requires_grad_(False)
    return module


def seeded():
    torch.manual_seed(42)
    return net()


def unseeded():
    module = net()
    random = torch.Generator().manual_seed(time.perf_counter_ns())
    with torch.no_grad():
        module[0].weight.copy_(torch.randn(module[0].weight.shape, generator=random))
    return module


def printing():
    print("building ...")
    return net()


def doubled():
    module = net()
    torch.set_default_dtype(torch.float64)
    return module


def moving():
    os.chdir("/")
    return net()


def asking():
    import socket

    with suppress(OSError):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1).close()
    return net()


MODELS = {
    # what: (build, check, level, words of the message)
    "a sigmoid at the end": (lambda: net(nn.Sigmoid()), "logits", "error", "return logits, without sigmoid"),
    "a ReLU at the end": (lambda: Wrapped(lambda m, x: m.body(x).clamp(0, 1)), "logits", "error", "never fall below 0"),
    "images changed in place": (lambda: Wrapped(in_place), "in-place", "error", "work on a copy"),
    "a look over the batch": (lambda: Wrapped(over_batch), "batch", "error", "nothing in it may look over the batch"),
    "batch statistics in eval mode": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, track_running_stats=False), nn.Conv2d(8, 1, 1)),
        "batch",
        "error",
        "beside another",
    ),
    "chance in eval mode": (lambda: Wrapped(noisy), "same", "error", "leave out what is random"),
    "dropout that never ends": (lambda: Wrapped(dropping), "same", "error", "leave out what is random"),
    "a memory of what it saw": (Memory, "same", "error", "other logits for the same images"),
    "NaN on black images": (lambda: Wrapped(nan_on_black), "finite", "error", "on black images"),
    "infinity on white images": (lambda: Wrapped(nan_on_white), "finite", "error", "on white images"),
    "infinite logits": (lambda: Wrapped(infinite), "finite", "error", "not finite"),
    "float64 parameters": (
        lambda: Wrapped(lambda m, x: m.body(x) + m.wide(x.double()), wide=nn.Conv2d(3, 1, 1).double()),
        "state",
        "error",
        "float64 parameters (wide.weight, wide.bias); make them float32",
    ),
    "float64 inside": (lambda: Wrapped(double_inside), "dtype", "error", "computes layers in float64 (convolution)"),
    "float16 logits": (lambda: Wrapped(half_inside), "dtype", "error", "returns float16 logits"),
    "lazy parameters": (lambda: nn.Sequential(nn.LazyConv2d(1, 1)), "state", "error", "give their layers all sizes"),
    "state that is no tensor": (lambda: Extra(lambda m, x: m.body(x)), "state", "error", "keep it in buffers"),
    "half the size in eval mode": (
        lambda: Wrapped(half_in_eval), "shape", "error", "returned logits of shape (2, 1, 32, 32)"
    ),
    "two channels": (lambda: Wrapped(two_channels), "shape", "error", "expected (2, 1, 64, 64)"),
    "no channel": (lambda: Wrapped(no_channel), "shape", "error", "expected (2, 1, 64, 64)"),
    "a dict": (lambda: Wrapped(a_dict), "shape", "error", "returned dict"),
    "height and width exchanged": (lambda: Wrapped(turned), "shape", "error", "logits of shape (2, 1, 47, 33)"),
    "a wrong shape at odd sizes": (
        lambda: Wrapped(wrong_at_odd_sizes), "shape", "error", "(2, 1, 32, 32) for images (2, 3, 33, 47)"
    ),
    "a raise at odd sizes": (
        lambda: Wrapped(raising_at_odd_sizes), "shape", "error", "ValueError: height must be a multiple of 32"
    ),
    "a squeeze of a single image": (lambda: Wrapped(of_one_image), "batch", "error", "(1, 64, 64) for images (1, 3"),
    "a view of channels last": (lambda: Wrapped(viewed), "shape", "error", "view size is not compatible"),
    "an exit in forward": (lambda: Wrapped(lambda m, x: exit_now()), "shape", "error", "SystemExit"),
    "an exit in build": (exit_now, "state", "error", "would end the program: SystemExit"),
    "no module": (lambda: torch.sigmoid, "state", "error", "return a torch.nn.Module"),
    "everything frozen": (frozen, "frozen", "error", "unfreeze some"),
    "logits that are detached": (lambda: Wrapped(lambda m, x: m.body(x).detach()), "step", "error", "Detach nothing"),
    "most of it detached": (
        lambda: Wrapped(detached_early, head=nn.Conv2d(8, 1, 1)), "gradient", "error", "4 of 6 parameters get no"
    ),
    "a head that is not used": (
        lambda: Wrapped(lambda m, x: m.body(x), spare=nn.Conv2d(1, 1, 1)), "gradient", "warning", "spare.weight"
    ),
    "a gradient that is not finite": (
        lambda: Wrapped(lambda m, x: m.body(x) + m.deep.sqrt(), deep=nn.Parameter(torch.zeros(1, 1, 1, 1))),
        "gradient",
        "error",
        "gradients that are not finite (deep)",
    ),
    "a raise in training mode alone": (lambda: Wrapped(raising_in_training), "step", "error", "ValueError: no"),
    "a buffer that grows": (lambda: Wrapped(growing), "step", "error", "make all buffers in build"),
    "a tensor that is not registered": (Unregistered, "round-trip", "error", "must be a parameter or a buffer"),
    "a seed of its own": (seeded, "seeds", "warning", "call no torch.manual_seed in build"),
    "weights of no seed": (unseeded, "seeds", "error", "draw them from torch's global generator"),
    "prints": (printing, "surroundings", "warning", "prints ('building ...')"),
    "another default dtype": (doubled, "surroundings", "warning", "changes torch's default dtype for the whole"),
    "another working directory": (moving, "surroundings", "warning", "changes the working directory"),
    "a connection": (asking, "surroundings", "warning", "asks the network for 127.0.0.1 though"),
    "another bias in eval mode": (
        lambda: Wrapped(other_in_eval), "learns", "warning", "0.00 in eval mode, on the same images"
    ),
    "an own loss of the opposite": (
        lambda: WithOwn(lambda m, x: m.body(x), value=lambda *both: squared(both[0], 1 - both[1]).mean()),
        "direction",
        "error",
        "learns the opposite of the masks by its own loss",
    ),
    "an own loss of each pixel": (
        lambda: WithOwn(lambda m, x: m.body(x), value=squared), "step", "error", "returned torch.float32 of shape"
    ),
    "nothing learned": (
        lambda: Wrapped(lambda m, x: m.body(x) * 1e-12), "learns", "error", "learns nothing in 60 steps"
    ),
}  # fmt: skip
"""Models with one mistake, the check that finds it, its level, and words of the message."""
SOUND = {
    "a plain network": net,
    "batch normalization": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1)),
    "dropout": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout(0.5), nn.Conv2d(8, 1, 1)),
    "logits that start in [0, 1]": lambda: Wrapped(
        lambda m, x: m.body(x) * 0.01 + m.bias, bias=nn.Parameter(torch.ones(1) / 2)
    ),
}


def squared(logits, masks):
    return (torch.sigmoid(logits) - masks).square()


def holding():
    weights = torch.tensor([1.0, 2.0])
    return lambda logits, masks: (squared(logits, masks) * weights[masks.long()]).mean()


class Holding(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.ones(1)  # no buffer

    def forward(self, logits, masks):
        return (squared(logits, masks) * self.weight).mean()


def changing(logits, masks):
    return squared(logits.clamp_(-0.5, 0.5), masks).mean()


def of_the_first(logits, masks):
    return squared(logits[:1], masks[:1]).mean() + 0.1 * squared(logits, masks).mean()


OWN_STREAM = torch.Generator()
LEARNED = nn.Parameter(torch.ones(1))
LOSSES = {
    "a loss that learns": (
        lambda: lambda logits, masks: squared(logits * LEARNED, masks).mean(), "scalar", "has parameters to train"
    ),
    "a loss of each pixel": (lambda: squared, "scalar", "returned shape (2, 1, 64, 64); expected a scalar"),
    "a number": (lambda: lambda logits, masks: float(squared(logits, masks).mean()), "scalar", "return a tensor"),
    "a loss that is always 0": (lambda: lambda logits, masks: logits.sum() * 0, "truth", "is 0 whatever is predicted"),
    "a loss of the wrong sign": (lambda: lambda *both: -squared(*both).mean(), "truth", "lower for the opposite"),
    "a loss that takes white for authentic": (
        lambda: lambda logits, masks: squared(logits, 1 - masks).mean(), "truth", "lower for the opposite"
    ),
    "a loss that favours doubt": (
        lambda: lambda logits, masks: (squared(logits, masks).mean() + logits.square().mean()), "truth", "for noise"
    ),
    "a loss that is not finite": (lambda: lambda logits, masks: (logits - logits).sum().log(), "finite", "random"),
    "an exponential that overflows": (
        lambda: lambda logits, masks: ((1 + logits.exp()).log() - masks * logits).mean(),
        "finite",
        "logits of -100 and 100",
    ),
    "a division by the mask": (
        lambda: lambda *both: squared(*both).sum() / both[1].sum(), "finite", "without a manipulated pixel"
    ),
    "a threshold": (
        lambda: lambda logits, masks: ((logits > 0).float() - masks).square().mean(), "gradient", "has no gradient"
    ),
    "a detached loss": (lambda: lambda *both: squared(*both).mean().detach(), "gradient", "has no gradient"),
    "a loss of the first image": (lambda: of_the_first, "order", "in another order"),
    "a loss that is random": (
        lambda: lambda *both: squared(*both).mean() * (1 + torch.rand((), generator=OWN_STREAM) / 10),
        "order",
        "draw from torch's global generator",
    ),
    "logits changed in place": (lambda: changing, "order", "in place"),
    "a tensor in a closure": (holding, "tensors", "that no .to(device) moves (weights)"),
    "a tensor that is no buffer": (Holding, "tensors", "that no .to(device) moves (weight)"),
    "an exit": (lambda: lambda *both: exit_now(), "scalar", "cannot be computed: SystemExit"),
    "an exit in build": (exit_now, "scalar", "would end the program: SystemExit"),
}  # fmt: skip
"""Losses with one mistake, the check that finds it, and words of the message; all are errors."""
