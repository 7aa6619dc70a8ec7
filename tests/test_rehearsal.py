"""What would fail hours later, or pass unseen with a plausible number, is told in seconds, with what to change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.registry import Owned, Plugin
from deeploc_bench.contract.specs import Loss, Model
from deeploc_bench.plan.losses import LossExpression, parse_loss
from deeploc_bench.training.rehearsal import gradient_findings, loss_findings, model_findings

PLUGIN = Plugin(name="mine", distribution=None, version=None, module=None)
SIZES = [(64, 64), (33, 47)]


def owned(build):
    return Owned(spec=Model(name="net", build=build, reference=None, pretraining="none"), plugin=PLUGIN)


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


def in_place(module, images):
    return module.body(images.mul_(2).sub_(1))


def over_batch(module, images):
    return module.body(images) - images.mean() * 20 + len(images)


def noisy(module, images):
    return module.body(images) + torch.randn(len(images), 1, *images.shape[2:])


def nan_on_black(module, images):
    return module.body(images / images.amax(dim=(1, 2, 3), keepdim=True))


def infinite(module, images):
    return module.body(images) / 0


def half_in_eval(module, images):
    logits = module.body(images)
    return logits if module.training else logits[..., ::2, ::2]


def wrong_at_odd_sizes(module, images):
    return module.body(images)[..., : images.shape[2] // 32 * 32, : images.shape[3] // 32 * 32]


def raising_at_odd_sizes(module, images):
    if images.shape[2] % 32:
        raise ValueError("height must be a multiple of 32")
    return module.body(images)


def exiting(module, images):
    raise SystemExit(0)


class Extra(Wrapped):
    def get_extra_state(self):
        return {"epoch": 1}

    def set_extra_state(self, state):
        pass


BROKEN = {
    "a sigmoid at the end": (lambda: net(nn.Sigmoid()), "logits", "return logits, without sigmoid"),
    "images changed in place": (lambda: Wrapped(in_place), "in-place", "work on a copy"),
    "a look over the batch": (lambda: Wrapped(over_batch), "batch", "nothing in it may look over the batch"),
    "batch statistics in eval mode": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, track_running_stats=False), nn.Conv2d(8, 1, 1)),
        "batch",
        "beside another",
    ),
    "chance in eval mode": (lambda: Wrapped(noisy), "random", "leave out what is random"),
    "NaN on black images": (lambda: Wrapped(nan_on_black), "finite", "on black images"),
    "infinite logits": (lambda: Wrapped(infinite), "finite", "not finite"),
    "float64 inside": (
        lambda: Wrapped(lambda m, x: m.body(x) + m.wide(x.double()), wide=nn.Conv2d(3, 1, 1).double()),
        "dtype",
        "make them float32",
    ),
    "lazy parameters": (lambda: nn.Sequential(nn.LazyConv2d(1, 1)), "lazy", "give their layers all sizes"),
    "state that is no tensor": (lambda: Extra(lambda m, x: m.body(x)), "state", "keep it in buffers"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_would_pass_unseen_is_told_by_what_to_change(what):
    build, check, words = BROKEN[what]
    found = model_findings(owned(build), "none", None, SIZES)
    assert {one.check for one in found} == {check} and any(words in str(one) for one in found)
    assert str(found[0]).startswith("model 'net' (plugin 'mine') ")


NO_LOGITS = {
    "half the size in eval mode": (lambda: Wrapped(half_in_eval), r"returned logits of shape \(2, 1, 32, 32\)"),
    "a wrong shape at odd sizes": (
        lambda: Wrapped(wrong_at_odd_sizes),
        r"\(2, 1, 32, 32\) for images \(2, 3, 33, 47\)",
    ),
    "a raise at odd sizes": (lambda: Wrapped(raising_at_odd_sizes), "ValueError: height must be a multiple of 32"),
    "an exit in forward": (lambda: Wrapped(exiting), "cannot localize images .* SystemExit"),
    "an exit in build": (lambda: exit_now(), "would end the program: SystemExit"),
}


def exit_now():
    raise SystemExit(0)


@pytest.mark.parametrize("what", NO_LOGITS)
def test_a_model_without_logits_is_refused(what):
    build, words = NO_LOGITS[what]
    with pytest.raises(PluginError, match=words):
        model_findings(owned(build), "none", None, SIZES)


SOUND = {
    "a plain network": net,
    "batch normalization": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1)),
    "dropout": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout(0.5), nn.Conv2d(8, 1, 1)),
    "logits that start in [0, 1]": lambda: Wrapped(
        lambda m, x: m.body(x) * 0.01 + m.bias, bias=nn.Parameter(torch.ones(1) / 2)
    ),
}


@pytest.mark.parametrize("what", SOUND)
def test_a_sound_model_has_no_findings_and_the_random_stream_is_left_alone(what, registry):
    before = torch.random.get_rng_state()
    assert model_findings(owned(SOUND[what]), "none", None, SIZES) == []
    assert gradient_findings(owned(SOUND[what]), "none", None, parse_loss("jaccard", registry)) == []
    assert torch.equal(torch.random.get_rng_state(), before)


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


def frozen():
    module = net()
    module.requires_grad_(False)
    return module


IDLE = {
    "everything frozen": (frozen, "frozen", "error", "unfreeze some"),
    "logits that are detached": (
        lambda: Wrapped(lambda m, x: m.body(x).detach()), "gradient", "error", "Detach nothing"
    ),
    "most of it detached": (
        lambda: Wrapped(detached_early, head=nn.Conv2d(8, 1, 1)), "idle", "error", "4 of 6"
    ),
    "a head that is not used": (
        lambda: Wrapped(lambda m, x: m.body(x), spare=nn.Conv2d(1, 1, 1)), "idle", "warning", "spare.weight"
    ),
    "a raise in training mode alone": (lambda: Wrapped(raising_in_training), "step", "error", "ValueError: no"),
    "a buffer that grows": (lambda: Wrapped(growing), "state", "error", "make all buffers in build"),
}  # fmt: skip


@pytest.mark.parametrize("what", IDLE)
def test_what_a_step_shows_of_a_model_is_told(what, registry):
    build, check, level, words = IDLE[what]
    (found,) = gradient_findings(owned(build), "none", None, parse_loss("jaccard", registry))
    assert (found.check, found.level, words in str(found)) == (check, level, True)


def sigmoid_error(logits, masks):
    return (torch.sigmoid(logits) - masks).square()


LOSSES = {
    "a loss of each pixel": (sigmoid_error, "returned shape (2, 1, 64, 64); expected a scalar"),
    "a loss that is always 0": (lambda logits, masks: logits.sum() * 0, "is 0 whatever is predicted"),
    "a loss of the wrong sign": (lambda *both: -sigmoid_error(*both).mean(), "is lower for the opposite of the mask"),
    "a loss that takes white for authentic": (
        lambda logits, masks: sigmoid_error(logits, 1 - masks).mean(),
        "is lower for the opposite of the mask",
    ),
    "a loss that is not finite": (lambda logits, masks: (logits - logits).sum().log() + masks.sum(), "is not finite"),
    "a loss that exits": (lambda logits, masks: exit_now(), "cannot be computed: SystemExit"),
}


@pytest.mark.parametrize("what", LOSSES)
def test_a_loss_that_cannot_train_is_told(what):
    function, words = LOSSES[what]
    loss = Owned(spec=Loss(name="mine", build=lambda: function), plugin=PLUGIN)
    (found,) = loss_findings(LossExpression(text="mine", terms=((1.0, loss),)))
    assert words in str(found) and str(found).startswith("loss 'mine' (plugin 'mine') ")


def test_every_listed_loss_is_sound(registry):
    for name in registry.losses:
        assert list(loss_findings(parse_loss(name, registry))) == [], name


def test_a_model_of_one_size_is_sound_at_that_size(registry):
    fixed = Wrapped(
        lambda module, images: module.body(images) + module.grid, grid=nn.Parameter(torch.randn(1, 1, 96, 96))
    )
    assert model_findings(owned(lambda: fixed), "none", None, [], side=96) == []
    assert gradient_findings(owned(lambda: fixed), "none", None, parse_loss("jaccard", registry), side=96) == []
    assert model_findings(owned(lambda: fixed), "none", 96, [(64, 64)]) == []
