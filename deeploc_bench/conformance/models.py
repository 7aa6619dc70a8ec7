"""What is tried of a model beyond what every run tries: its seeds, other precisions and devices, learning, its cost."""

import copy
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.findings import Finding
from deeploc_bench.training.rehearsal import LOGIT_CHECKS
from deeploc_bench.training.step_checks import STEP_CHECKS, Step, backward
from deeploc_bench.training.trial import LESSON_IMAGES, Check, Findings, ModelTrial, alike, finding, lesson, noise

BF16_REACH = 0.1
"""How far bf16 logits may lie from float32 ones, in parts of the largest: eight bits of mantissa, layer on layer."""
LESSON_SIDE, LESSON_STEPS, LESSON_SECONDS, LESSON_LR = 32, 60, 6.0, 0.01
"""The pixels a side of the images that a model is to learn by heart, and how long it may take."""
LESSON_ENOUGH, LEARNED = 40, 0.8
"""The steps after which something must have been learned, and the IoU at which the lesson is over."""
SETTLING = 20
"""Passes after which a running mean of momentum 0.1 has forgotten all but an eighth of what it began with."""
BATCH, PIXELS = 16, 256
"""The training for which memory is stated: the poster's batch of images of 256 x 256 pixels."""


def seeds(trial: ModelTrial) -> Findings:
    """Find builds that differ though the seed is one, or do not though the seed is another."""
    one, again, other = (trial.build(seed).state_dict() for seed in (0, 0, 1))
    differing = [name for name in one if name not in again or not torch.equal(one[name], again[name])]
    if differing:
        message = f"{trial.title} starts with other weights at a second build from one seed ({differing[0]})"
        yield finding("seeds", f"{message}; draw them from torch's global generator, which the harness seeds")
    elif trial.model.spec.pretraining == "none" and all(torch.equal(one[name], other[name]) for name in one):
        message = f"{trial.title} starts with the same weights from every seed, so that seeds say little"
        yield finding("seeds", f"{message}; call no torch.manual_seed in build", "warning")


def layout(trial: ModelTrial) -> Findings:
    """Find logits that depend on how images lie in memory."""
    if not alike(trial.tested(trial.images), trial.tested(trial.images.contiguous())):
        message = f"{trial.title} returns other logits for images that lie otherwise in memory"
        yield finding("layout", f"{message} (channels last); use reshape and permute, not view and strides")


def bf16(trial: ModelTrial) -> Findings:
    """Find a model that cannot be computed, or is another one, where layers are computed in bf16."""
    exact = trial.tested(trial.images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = trial.tested(trial.images)
    if not logits.isfinite().all():
        yield finding("bf16", f"{trial.title} returns logits that are not finite in bf16; sum and divide in float32")
    elif (logits - exact).abs().max() > BF16_REACH * max(1.0, float(exact.abs().max())):
        reach = float((logits - exact).abs().max())
        message = f"{trial.title} returns logits in bf16 that lie up to {reach:.2g} from those in float32"
        yield finding("bf16", f"{message}; exponents, sums and divisions go better in float32", "warning")


def cuda(trial: ModelTrial) -> Findings:
    """Find a model that cannot be computed, or is another one, on a GPU."""
    exact = trial.tested(trial.images)
    logits = trial.tested(trial.images.cuda(), copy.deepcopy(trial.module).cuda()).cpu()
    if not torch.allclose(logits, exact, rtol=0, atol=0.01 * max(1.0, float(exact.abs().max()))):
        yield finding("cuda", f"{trial.title} returns other logits on a GPU; make its tensors buffers or parameters")


def bf16_step(step: Step) -> Findings:
    """Find what raises in a step in bf16."""
    trial = replace(step.trial, precision="bf16")
    yield from (Finding(check="step-bf16", message=one.message) for one in backward(Step(trial)))


def learns(trial: ModelTrial) -> Findings:
    """Find a model that cannot learn four images by heart, or forgets them in eval mode."""
    images, masks = lesson(LESSON_SIDE)
    module = trial.build().train()
    optimizer = torch.optim.Adam([one for one in module.parameters() if one.requires_grad], lr=LESSON_LR)
    started, losses = time.perf_counter(), list[float]()
    while len(losses) < LESSON_STEPS and time.perf_counter() - started < LESSON_SECONDS:
        logits = trial.logits(images, module)
        logits = F.interpolate(logits, size=masks.shape[2:], mode="bilinear")
        loss = F.binary_cross_entropy_with_logits(logits, masks)
        losses.append(float(loss.detach()))
        if iou(logits, masks) > LEARNED:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    learned = iou(logits, masks)
    told = f"{len(losses)} steps on {LESSON_IMAGES} images (binary cross-entropy {losses[0]:.2f} to {losses[-1]:.2f})"
    if len(losses) < LESSON_ENOUGH and learned <= LEARNED:
        message = f"{trial.title} takes too long a step to see here whether it learns: {told}"
        yield Finding(check="learns", message=message, level="note")
        return
    with torch.no_grad():
        for _ in range(SETTLING):  # running statistics follow what was learned
            trial.logits(images, module)
    tested = trial.tested(images, module.eval())
    tested = F.interpolate(tested, size=masks.shape[2:], mode="bilinear")
    if min(losses) > 0.95 * losses[0] and learned < 0.5:
        yield finding("learns", f"{trial.title} learns nothing in {told}; does its forward use what it trains?")
    elif learned == 0:
        yield finding("learns", f"{trial.title} finds no manipulated pixel after {told}", "warning")
    elif iou(tested, masks) < learned / 3 or (tested > 0).all():
        message = f"{trial.title} finds IoU {learned:.2f} in training mode and {iou(tested, masks):.2f} in eval mode"
        yield finding("learns", f"{message}, on the same images after {told}; do both compute the same?", "warning")


def iou(logits: Tensor, masks: Tensor) -> float:
    """Return the IoU of all pixels together of logits and masks (N, 1, H, W)."""
    found, truth = logits > 0, masks > 0.5
    return float((found & truth).sum() / (found | truth).sum())


def cost(step: Step) -> Iterator[Finding]:
    """State parameters, time an image here, and the memory that a training of the poster's size would take."""
    trial = step.trial
    module, side = trial.build(), trial.side
    images, masks = noise(side, side, 8), (torch.rand(8, 1, side, side) > 0.5).float()
    started = time.perf_counter()
    trial.tested(images, module.eval())
    forward = (time.perf_counter() - started) / len(images)
    started = time.perf_counter()
    kept = _Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor):
        loss = trial.loss_of(module.train(), images, masks)
    loss.backward()  # type: ignore[no-untyped-call]
    stepped = (time.perf_counter() - started) / len(images)
    count = sum(one.numel() for one in module.parameters())
    weights = 4 * 4 * sum(one.numel() for one in module.parameters() if one.requires_grad)  # with gradients and Adam's
    own = {one.untyped_storage().data_ptr() for one in module.parameters()}
    images_size = sum(size for pointer, size in kept.sizes.items() if pointer not in own) / len(images)
    total = weights + images_size * BATCH * (PIXELS / (trial.input_size or side)) ** 2
    times = f"{1000 * forward:.1f} ms an image forward, {1000 * stepped:.1f} ms in a step, at {side} x {side} here"
    memory = f"about {total / 2**30:.1f} GiB to train {BATCH} images of {PIXELS} x {PIXELS} at once"
    yield Finding(check="cost", message=f"{count:,} parameters; {times}; {memory}", level="note")


class _Kept:
    """The bytes that autograd keeps for the way back, each storage once."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor


MODEL_CHECKS = (
    *LOGIT_CHECKS,
    Check(name="seeds", does="the same weights from one seed, others from another", probe=seeds),
    Check(name="layout", does="the same logits however the images lie in memory", probe=layout),
    Check(name="bf16", does="finite and near in bf16", probe=bf16),
    *([Check(name="cuda", does="the same logits on the GPU", probe=cuda)] if torch.cuda.is_available() else []),
)
"""What every model must hold."""
TRAINED_CHECKS: tuple[Check[Step], ...] = (
    *STEP_CHECKS,
    Check(name="step-bf16", does="one step in bf16", probe=bf16_step),
    Check(name="learns", does="learns four drawn images by heart", probe=lambda step: learns(step.trial)),
    Check(name="cost", does="what it costs", probe=cost),
)
"""What a model that is trained must hold, too."""
