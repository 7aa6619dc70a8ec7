"""Tries a model and a loss for seconds, before anything is trained for hours: what would fail late, or pass unseen."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.plan.losses import LossExpression
from deeploc_bench.plan.plan import Training
from deeploc_bench.training.device import resolve_precision
from deeploc_bench.training.loss_checks import SUM_CHECKS, TERM_CHECKS
from deeploc_bench.training.step_checks import STEP_CHECKS, Step
from deeploc_bench.training.trial import (
    Check,
    Findings,
    LossTrial,
    ModelTrial,
    alike,
    descend,
    finding,
    listed,
    made,
    noise,
)

MOST_SIDE = 128
"""The side in pixels of most images tried of a training at a larger one."""
PUSHES = 20
"""Steps of descent that would bring any logit below 0 that may be."""


def rehearse(training: Training) -> list[Finding]:
    """Try a training's model and loss, at sizes of its data, and leave the global random stream as it is.

    Returns what to warn of. Raises PluginError with all that is wrong, or WeightsError.
    """
    recipe = training.recipe
    sizes = sorted({tuple(shape) for pack, _ in training.valid.packs for shape in pack.shapes.tolist()})
    trial = ModelTrial(
        model=training.model,
        weights=recipe.weights,
        input_size=recipe.input_size,
        sizes=sizes[:1],
        side=recipe.size,
        precision=resolve_precision(recipe.precision, torch.device("cpu")),
        loss=training.loss,
    )
    trial = replace(trial, side=_side(trial), sizes=(*trial.sizes, (recipe.size, recipe.size)))
    findings = found_by(made(LOGIT_CHECKS, trial))
    if training.loss and not any(one.is_error for one in findings):
        findings += loss_findings(training.loss, recipe.size)
    if training.loss and not any(one.is_error for one in findings):
        findings += found_by(made(STEP_CHECKS, Step(trial)))
    errors = [str(one) for one in findings if one.is_error]
    if errors:
        raise PluginError("\n  ".join(errors))
    return findings


def _side(trial: ModelTrial) -> int:
    """Return the side that a model is tried at: its training's, or a smaller one, in less time, where it takes any."""
    if trial.side > MOST_SIDE:
        with suppress(PluginError):
            trial.tested(noise(MOST_SIDE, MOST_SIDE))
            return MOST_SIDE
    return trial.side


def loss_findings(expression: LossExpression, side: int) -> list[Finding]:
    """Return what is wrong with the terms of a loss that come from plugins, and with their sum, at a side in pixels.

    A loss that is not finite may be so on other logits: it fails its own training, not those of all others.
    """
    terms = [term for term in expression.terms if term.loss]
    found = [one for term in terms for one in found_by(made(TERM_CHECKS, LossTrial(terms=[term], side=side)))]
    if len(terms) == len(expression.terms) and not any(one.check == "scalar" for one in found):
        found += found_by(made(SUM_CHECKS, LossTrial(terms=terms, side=side)))
    return [one for one in found if one.check != "finite"]


def found_by(results: Iterable[tuple[object, list[Finding]]]) -> list[Finding]:
    """Return all that checks found."""
    return [finding for _, found in results for finding in found]


def state(trial: ModelTrial) -> Findings:
    """Find parameters and buffers that cannot be trained, or not be stored."""
    lazy = [name for name, value in trial.module.named_parameters() if isinstance(value, nn.UninitializedParameter)]
    if lazy:
        cure = "give their layers all sizes, or run the model in build"
        yield finding("state", f"{trial.title} has lazy parameters ({listed(lazy)}): {cure}")
        return
    extra = [name for name, value in trial.module.state_dict().items() if not isinstance(value, Tensor)]
    if extra:
        cure = "which cannot be stored; keep it in buffers"
        yield finding("state", f"{trial.title} has state that is no tensor ({listed(extra)}), {cure}")
    other = [name for name, value in trial.module.named_parameters() if value.dtype != torch.float32]
    if any(value.is_complex() for value in trial.module.parameters()):
        cure = "keep real and imaginary parts, by torch.view_as_real"
        yield finding(
            "state", f"{trial.title} has complex parameters ({listed(other)}), which cannot be fitted; {cure}"
        )
    elif other:
        kinds = sorted({str(value.dtype).removeprefix("torch.") for value in trial.module.parameters()} - {"float32"})
        yield finding(
            "state", f"{trial.title} has {' and '.join(kinds)} parameters ({listed(other)}); make them float32"
        )


def shape(trial: ModelTrial) -> Findings:
    """Return nothing: logits of another shape than the images' raise."""
    for size in ((trial.side, trial.side), *trial.sizes):
        trial.tested(noise(*size))
    yield from ()


def dtype(trial: ModelTrial) -> Findings:
    """Find a model whose layers are computed in float64, or whose logits are not float32."""
    with _Dtypes() as seen:
        logits = trial.raw(trial.images)
    if seen.wide:
        message = f"{trial.title} computes layers in float64 ({listed(sorted(seen.wide))}), many times slower on a GPU"
        yield finding("dtype", f"{message}; turn what goes into them into float32")
    elif logits.dtype != torch.float32:
        kind = str(logits.dtype).removeprefix("torch.")
        message = f"{trial.title} returns {kind} logits though none asked for it"
        yield finding("dtype", f"{message}; return float32, and leave other precisions to --precision")


def in_place(trial: ModelTrial) -> Findings:
    """Find a model that writes into its images."""
    images = trial.images.clone()
    trial.tested(images)
    if not torch.equal(images, trial.images):
        yield finding("in-place", f"{trial.title} changes its images in place; work on a copy")


def finite(trial: ModelTrial) -> Findings:
    """Find logits that are not finite on noise, black or white images."""
    if not trial.tested(trial.images).isfinite().all():
        yield finding("finite", f"{trial.title} returns logits that are not finite")
        return
    for name, level in (("black", 0.0), ("white", 1.0)):
        if not trial.tested(torch.full_like(trial.images, level)).isfinite().all():
            message = f"{trial.title} returns logits that are not finite on {name} images"
            yield finding("finite", f"{message}; divide by nothing that can be 0")


def same(trial: ModelTrial) -> Findings:
    """Find logits in eval mode that differ at another call."""
    one, other = (trial.tested(trial.images.clone()) for _ in range(2))
    if not alike(one, other):
        message = f"{trial.title} returns other logits for the same images in eval mode; leave out what is random there"
        yield finding("same", message)


def batch(trial: ModelTrial) -> Findings:
    """Find logits in eval mode that depend on what else is in the batch."""
    both = trial.tested(trial.images)
    alone = [trial.tested(trial.images[i : i + 1].clone()) for i in range(2)]
    turned = trial.tested(trial.images.flip(0)).flip(0)
    if not alike(torch.cat(alone), both) or not alike(turned, both):
        message = f"{trial.title} returns other logits for an image beside another"
        yield finding("batch", f"{message}; nothing in it may look over the batch")


def unbounded(trial: ModelTrial) -> Findings:
    """Find a model that returns probabilities: its logits lie in [0, 1], and no descent brings them below 0.

    A detector does not descend: it is found where noise of levels far outside of [0, 1] brings none of them out, too.
    """
    logits = trial.tested(trial.images)
    if trial.model.spec.is_detector:
        logits = torch.cat([logits, *(trial.tested(level * trial.images) for level in FAR)])
    if logits.min() < 0 or logits.max() > 1:
        return
    if trial.model.spec.is_detector and logits.min() < logits.max():
        message = f"{trial.title} returns numbers from {logits.min():.3g} to {logits.max():.3g}, as probabilities"
        yield finding("logits", f"{message}; return logits, without sigmoid, or declare what they are")
    if not trial.loss:
        return
    module = trial.build().eval()
    if not trial.logits(trial.images, module).requires_grad:
        return
    descend(module, lambda: trial.logits(trial.images, module).mean(), steps=PUSHES, lr=0.1)
    if trial.tested(trial.images, module).min() >= 0:
        message = f"{trial.title} returns numbers that never fall below 0, as probabilities"
        yield finding("logits", f"{message}; return logits, without sigmoid")


LOGIT_CHECKS = (
    Check(name="state", does="parameters and buffers are float32 tensors of known sizes", probe=state, gate=True),
    Check(name="shape", does="logits of the size of the images, odd ones too", probe=shape, gate=True),
    Check(name="finite", does="finite on noise, on black and on white images", probe=finite, gate=True),
    Check(name="dtype", does="computes in float32", probe=dtype),
    Check(name="in-place", does="leaves its images as they are", probe=in_place, gate=True),
    Check(name="same", does="the same logits at a second call in eval mode", probe=same, gate=True),
    Check(name="batch", does="the same logits alone and in a batch in eval mode", probe=batch),
    Check(name="logits", does="logits, not probabilities", probe=unbounded),
)
"""What the logits of a model must hold as it is built, in eval mode."""


FAR = (-100.0, 0.0, 100.0)
"""Levels of images at which what ends with a sigmoid still lies in [0, 1], and little else does."""
LAYERS = ("convolution", "mm", "addmm", "bmm", "baddbmm", "native_batch_norm", "native_layer_norm", "native_group_norm")
"""The operations that cost: tables and constants in float64 do not."""


class _Dtypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the layers that are computed in float64."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wide: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in LAYERS and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            self.wide.add(name)
        return out
