"""What a loss must hold before anything is trained by it: a falling, finite scalar with a gradient that helps."""

import inspect
import math

import torch
from accelerate.utils import set_seed
from torch import Tensor

from deeploc_bench.training.trial import Check, Findings, LossTrial, finding, listed

LARGE = 100.0
"""Logits so large that exp overflows in half the ways to write a loss."""


def scalar(trial: LossTrial) -> Findings:
    """Find a loss that is no scalar tensor, or one that would be trained itself."""
    value = trial.value(torch.randn_like(trial.masks))
    if not isinstance(value, Tensor):
        yield finding("scalar", f"{trial.title} returned {type(value).__name__}; return a tensor")
    elif value.ndim != 0:
        message = f"{trial.title} returned shape {tuple(value.shape)}; expected a scalar. Return loss.mean()."
        yield finding("scalar", message)
    elif value.requires_grad:  # though neither logits nor masks do
        message = f"{trial.title} has parameters to train; freeze them, or move them into the model (its loss 'own')"
        yield finding("scalar", message)


def truth(trial: LossTrial) -> Findings:
    """Find a loss that is not lower for the mask than for noise and for the inverse of the mask."""
    right, wrong = answers(trial.masks)
    random, true, inverse = (float(trial.value(logits)) for logits in (torch.randn_like(right), right, wrong))
    mild = float(trial.value(right / 4))  # soft labels do not like what is too sure
    if not all(map(math.isfinite, (random, true, mild, inverse))):
        return  # as another check tells
    if random == true == inverse:
        yield finding("truth", f"{trial.title} is {random + 0.0:g} whatever is predicted")
    elif true >= inverse:
        message = f"{trial.title} is lower for the opposite of the mask than for the mask"
        yield finding("truth", f"{message}; a loss falls as logits get right")
    elif mild >= random:
        message = f"{trial.title} is lower for noise ({random:.3g}) than for the mask ({mild:.3g})"
        yield finding("truth", f"{message}; a loss falls as logits get right")


def finite(trial: LossTrial) -> Findings:
    """Find a loss that is not finite, for noise, for logits that are right or wrong, or for empty and full masks."""
    masks = trial.masks
    right, wrong = answers(masks)
    drawn = torch.randn_like(masks)
    cases = {
        "random logits": (drawn, masks),
        "logits of -8 and 8": (right, masks),
        "logits that are all wrong": (wrong, masks),
        f"logits of {-LARGE:g} and {LARGE:g}": (LARGE / 8 * right, masks),
        "masks without a manipulated pixel": (drawn, torch.zeros_like(masks)),
        "masks that are manipulated everywhere": (drawn, torch.ones_like(masks)),
    }
    failing = [name for name, case in cases.items() if not trial.value(*case).isfinite()]
    if failing:
        cure = "use logsigmoid or softplus, and add a small number to what is divided by"
        yield finding("finite", f"{trial.title} is not finite for {listed(failing)}; {cure}")


def gradient(trial: LossTrial) -> Findings:
    """Find a loss without a gradient, or one that leads away from the mask."""
    logits = torch.randn_like(trial.masks).requires_grad_()
    value = trial.value(logits * 1)  # what a model returns is no leaf of the graph
    if not value.isfinite():
        return  # as another check tells
    if not value.requires_grad:
        message = "has no gradient: nothing can be trained. Leave out detach, thresholds, argmax and numpy"
        yield finding("gradient", f"{trial.title} {message}")
        return
    (step,) = torch.autograd.grad(value, logits, allow_unused=True)
    if step is None or not step.any():
        yield finding("gradient", f"{trial.title} has a gradient of 0: nothing can be trained by it")
    elif not step.isfinite().all():
        yield finding("gradient", f"{trial.title} has a gradient that is not finite; see where it divides or roots")
    elif -step[trial.masks > 0].mean() <= -step[trial.masks == 0].mean():
        message = f"a step down {trial.title} raises logits of authentic pixels more than of manipulated ones"
        yield finding("gradient", f"{message}; are mask and logits the right way round?")


def order(trial: LossTrial) -> Findings:
    """Find a loss that depends on the order in the batch or on calls before, or changes what it is given."""
    logits, masks = torch.randn_like(trial.masks), trial.masks
    given = logits.clone(), masks.clone()
    values = []
    for one in (given, (logits.clone(), masks)):
        set_seed(0)  # what is drawn is drawn from the seed of an epoch
        start = torch.get_rng_state()
        values.append(trial.value(*one))
        is_drawn = not torch.equal(torch.get_rng_state(), start)
    first, again = values
    if not first.isfinite():
        return  # as another check tells
    if not (torch.equal(given[0], logits) and torch.equal(given[1], masks)):
        yield finding("order", f"{trial.title} changes its logits or masks in place; work on a copy")
    elif not torch.allclose(first, again, rtol=1e-4):
        message = f"{trial.title} is another number for the same logits, drawn from one seed"
        yield finding("order", f"{message}; keep nothing between calls, and draw from torch's global generator")
    elif not is_drawn and not torch.allclose(trial.value(logits.flip(0), masks.flip(0)), first, rtol=1e-3):
        message = f"{trial.title} is another number for the same images in another order"
        yield finding("order", f"{message}; treat all images alike")


def tensors(trial: LossTrial) -> Findings:
    """Find tensors that the loss holds where no `.to(device)` finds them: in attributes or a closure."""
    held: dict[str, object] = {}
    for function in trial.functions:
        held |= vars(function) if hasattr(function, "__dict__") else {}
        held |= inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    stray = sorted(name for name, value in held.items() if isinstance(value, Tensor))
    if stray:
        message = f"{trial.title} holds tensors that no .to(device) moves ({listed(stray)})"
        cure = "make it a torch.nn.Module with register_buffer, unless it moves them at each call"
        yield finding("tensors", f"{message}; {cure}", "warning")


def answers(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits that are right everywhere, and such as are wrong everywhere, both (N, 1, H, W)."""
    return 16 * masks - 8, 8 - 16 * masks


TERM_CHECKS = (
    Check(name="scalar", does="a scalar of random logits", probe=scalar, gate=True),
    Check(name="finite", does="finite on noise, large logits, empty and full masks", probe=finite),
    Check(name="order", does="the same again, and in another order of the batch", probe=order),
    Check(name="tensors", does="holds no tensor that stays on the CPU", probe=tensors),
)
"""What each term of a loss must hold."""
SUM_CHECKS = (
    Check(name="truth", does="lower for the mask than for noise and for its inverse", probe=truth, gate=True),
    Check(name="gradient", does="a gradient that leads to the mask", probe=gradient),
)
"""What a whole loss must hold: a term of it may be a penalty that knows no mask."""
