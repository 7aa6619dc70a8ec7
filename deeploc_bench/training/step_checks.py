"""What one step of training must hold: gradients, stored weights, and the direction of a loss of the model's own."""

from functools import cached_property

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DeeplocError, reason_of
from deeploc_bench.training.trial import Check, Findings, ModelTrial, alike, descend, finding, lesson, listed, noise

PASSES = 6
"""Passes in which every trained parameter has taken part."""
LESSON_STEPS = 20
"""Steps by which a loss of the model's own shows where it leads."""


class Step:
    """One step of training of two images; what it leaves behind is looked at."""

    def __init__(self, trial: ModelTrial) -> None:
        self.trial, self.is_finite = trial, True
        self.title, self.text = trial.title, f"loss {trial.loss.text!r}" if trial.loss else ""

    @cached_property
    def module(self) -> nn.Module:
        """The model in training mode; the step is taken in it."""
        return self.trial.build().train()

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def loss(self) -> Tensor:
        """Return the loss of two images of noise and masks, in training mode."""
        side = self.trial.side
        return self.trial.loss_of(self.module, noise(side, side), (torch.rand(2, 1, side, side) > 0.5).float())


def frozen(step: Step) -> Findings:
    """Find a model of which nothing can be trained."""
    if not step.parameters:
        yield finding("frozen", f"{step.title} has no parameter that can be trained; unfreeze some")


def backward(step: Step) -> Findings:
    """Find what raises in a step, or has no gradient at all, or other tensors after it than before."""
    before = {name: value.shape for name, value in step.module.state_dict().items()}
    try:
        value = step.loss()
        if not value.requires_grad:
            message = f"{step.text} of {step.title} has no gradient: nothing can be trained"
            yield finding("step", f"{message}. Detach nothing in model or loss.")
            return
        step.is_finite = bool(value.isfinite())
        value.backward()  # type: ignore[no-untyped-call]
    except DeeplocError:
        raise
    except (Exception, SystemExit) as error:
        precision = "" if step.trial.precision == "fp32" else f" in {step.trial.precision}"
        message = f"{step.title} cannot take a step of training{precision} with {step.text}: {reason_of(error)}"
        yield finding("step", message)
        return
    after = {name: value.shape for name, value in step.module.state_dict().items()}
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        message = f"{step.title} has other tensors after a step than before ({listed(changed)})"
        cure = "so that no stored weights fit; make all buffers in build, at their final shape"
        yield finding("step", f"{message}, {cure}")


def gradient(step: Step) -> Findings:
    """Find trainable parameters that get no gradient, in a few passes: some are left out by chance in one."""
    for _ in range(PASSES):
        idle = [name for name, parameter in step.parameters.items() if parameter.grad is None]
        if not idle:
            break
        step.loss().backward()  # type: ignore[no-untyped-call]
    share = sum(step.parameters[name].numel() for name in idle) / sum(one.numel() for one in step.parameters.values())
    if idle:
        message = f"{step.title}: {len(idle)} of {len(step.parameters)} parameters get no gradient ({listed(idle)})"
        cure = "detach nothing between them and the logits, or freeze them by requires_grad_(False)"
        yield finding("gradient", f"{message}; {cure}", "error" if share > 0.5 else "warning")
    broken = [name for name, one in step.parameters.items() if one.grad is not None and not one.grad.isfinite().all()]
    if broken and step.is_finite:
        message = f"{step.title} has gradients that are not finite ({listed(broken)})"
        yield finding("gradient", f"{message}; see where it divides, roots or takes logarithms")


def round_trip(step: Step) -> Findings:
    """Find a model that, stored and loaded into another build, gives other logits: state outside its tensors."""
    stored = save({name: value.detach().clone().contiguous() for name, value in step.module.state_dict().items()})
    other = step.trial.build(seed=1)
    try:
        other.load_state_dict(load(stored))
    except (Exception, SystemExit) as error:
        message = f"{step.title} cannot load what it stored into another build: {reason_of(error)}"
        yield finding("round-trip", f"{message}. Make the same tensors in every build.")
        return
    images = step.trial.images
    if not alike(step.trial.tested(images, step.module.eval()), step.trial.tested(images, other.eval())):
        message = f"{step.title} gives other logits when it is stored and loaded into another build"
        yield finding("round-trip", f"{message}; what they depend on must be a parameter or a buffer")


def direction(step: Step) -> Findings:
    """Find a model whose own loss teaches it the opposite of the masks."""
    trial = step.trial
    if trial.loss is None or all(term.loss for term in trial.loss.terms):
        return  # what others teach is seen without a model
    images, masks = lesson(trial.side)
    module = trial.build().train()
    descend(module, lambda: trial.loss_of(module, images, masks), steps=LESSON_STEPS, lr=0.01)
    with torch.no_grad():
        heatmaps = F.interpolate(trial.logits(images, module), size=masks.shape[2:], mode="bilinear").sigmoid()
    inside, outside = float(heatmaps[masks > 0].mean()), float(heatmaps[masks == 0].mean())
    if inside < outside - 0.1:
        message = f"{trial.title} learns the opposite of the masks by its own loss (heatmaps of {inside:.2f} inside and"
        yield finding("direction", f"{message} {outside:.2f} outside); masks are 1 where an image is manipulated")


STEP_CHECKS = (
    Check(name="frozen", does="something of it can be trained", probe=frozen, gate=True),
    Check(name="step", does="one step of two images", probe=backward, gate=True),
    Check(name="gradient", does="each trainable parameter gets a finite gradient", probe=gradient, gate=True),
    Check(name="direction", does="its own loss, if it has one, leads to the masks", probe=direction),
    Check(
        name="round-trip",
        does="the same logits after storing and loading into another build",
        probe=round_trip,
        gate=True,
    ),
)
"""What one step of training must hold."""
