"""Checks of the contract, and a model and a loss as they are tried: on the CPU, on a few small images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DeeplocError, PluginError, reason_of
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.isolation import streams_kept
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan.losses import LossExpression, WeightedLoss
from deeploc_bench.training.build import LossFunction, TrainingLoss, build_loss, build_model, logits_of, placed
from deeploc_bench.training.evaluate import AUTOCAST_DTYPES

SIDE = 64
"""The height and width of most images that are tried, in pixels."""
TOLERANCE = 1e-3
"""How far logits of one image may lie apart, in parts of the largest: another batch size is computed otherwise."""
LESSON_IMAGES = 4
"""The drawn images that a model is to learn by heart."""
Size = tuple[int, int]
Findings = Iterator[Finding]
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[S]):
    """One check of the contract: its name, what it does, and a probe that yields what is wrong with a subject.

    Where a `gate` finds an error, the checks after it would say nothing, and are not made.
    """

    name: str
    does: str
    probe: Callable[[S], Iterable[Finding]]
    gate: bool = False


def made(checks: Iterable[Check[S]], subject: S) -> Iterator[tuple[Check[S], list[Finding]]]:
    """Make checks in order, each from seed 0, and leave the global random streams as they were.

    Raises DeeplocError where the subject cannot be built.
    """
    for check in checks:
        with streams_kept():
            set_seed(0)
            found = list(check.probe(subject))
        yield check, found
        if check.gate and any(finding.is_error for finding in found):
            return


def finding(check: str, message: str, level: Literal["error", "warning"] = "error") -> Finding:
    """Return a finding of a check."""
    return Finding(check=check, message=message, level=level)


def descend(module: nn.Module, loss: Callable[[], Tensor], *, steps: int, lr: float) -> None:
    """Take some steps of Adam down a loss in what of a module is trained."""
    optimizer = torch.optim.Adam([one for one in module.parameters() if one.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True, kw_only=True)
class ModelTrial:
    """A model as it is tried: with which weights, at which sizes, in which precision, by which loss (None: untrained).

    Modules and images lie channels last, as in every training. `sizes` are heights and widths in pixels beside `side`.
    """

    model: Owned[Model]
    weights: str = "none"
    input_size: int | None = None
    sizes: Sequence[Size] = ()
    side: int = SIDE
    precision: str = "fp32"
    loss: LossExpression | None = None

    @property
    def title(self) -> str:
        """Return the words by which messages name the model."""
        return self.model.title

    def build(self, seed: int = 0) -> nn.Module:
        """Build the model anew from a seed; raises PluginError or WeightsError."""
        torch.manual_seed(seed)
        module = build_model(self.model, self.weights)
        return placed(module, torch.device("cpu"))

    @cached_property
    def module(self) -> nn.Module:
        """The model as it is built from seed 0, in eval mode; checks of logits leave it as it is."""
        return self.build().eval()

    @cached_property
    def images(self) -> Tensor:
        """Two images of noise, float32 (2, 3, side, side)."""
        return noise(self.side, self.side)

    def logits(self, images: Tensor, module: nn.Module | None = None) -> Tensor:
        """Return the logits (N, 1, h, w) of images (N, 3, H, W); raises PluginError where there are none."""
        try:
            return logits_of(module or self.module, images, self.model, self.input_size)
        except DeeplocError:
            raise
        except (Exception, SystemExit) as error:
            message = f"{self.title} cannot localize images {tuple(images.shape)}: {reason_of(error)}"
            raise PluginError(message) from error

    def raw(self, images: Tensor) -> Tensor:
        """Return what the module itself returns of images, at the size that it is fed; without gradients."""
        if self.input_size is not None:
            images = F.interpolate(images, size=(self.input_size, self.input_size), mode="bilinear", antialias=True)
        with torch.no_grad():  # not in inference mode, where operations keep no common names
            out: Tensor = self.module(images)
        return out

    def tested(self, images: Tensor, module: nn.Module | None = None) -> Tensor:
        """Return logits as a test gives them: without gradients."""
        with torch.inference_mode():
            return self.logits(images, module).clone()

    def loss_of(self, module: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of a step, in the trial's precision; masks are float32 (N, 1, H, W)."""
        assert self.loss is not None
        dtype = AUTOCAST_DTYPES.get(self.precision)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            value: Tensor = TrainingLoss(module, self.model, self.loss, self.input_size)(images, masks)
        return value


@dataclass(frozen=True, kw_only=True)
class LossTrial:
    """A loss as it is tried: one term, or the sum of several, of losses of plugins, on two masks of `side` pixels."""

    terms: Sequence[WeightedLoss]
    side: int = SIDE

    @property
    def title(self) -> str:
        """Return the words by which messages name the loss."""
        return " + ".join(term.loss.title if term.loss else term.name for term in self.terms)

    @cached_property
    def functions(self) -> list[LossFunction]:
        """The losses as they are built; raises PluginError."""
        try:
            return [build_loss(term, torch.device("cpu")) for term in self.terms]
        except DeeplocError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self.title} cannot be built: {reason_of(error)}") from error

    @cached_property
    def masks(self) -> Tensor:
        """Masks, float32 (2, 1, side, side): a rectangle each, of three eighths and of one eighth."""
        masks, eighth = torch.zeros(2, 1, self.side, self.side), self.side // 8
        masks[0, :, eighth : 7 * eighth, 2 * eighth : 6 * eighth] = masks[1, :, 4 * eighth :, 6 * eighth :] = 1
        return masks

    def value(self, logits: Tensor, masks: Tensor | None = None) -> Any:
        """Return the loss of logits (N, 1, H, W); raises PluginError where it raises."""
        given = self.masks if masks is None else masks
        functions = self.functions
        try:
            values = [function(logits, given) for function in functions]
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self.title} cannot be computed: {reason_of(error)}") from error
        if len(values) == 1:
            return values[0]
        return sum(term.weight * value for term, value in zip(self.terms, values, strict=True))


def alike(one: Tensor, other: Tensor) -> bool:
    """Tell whether logits are the same but for the order in which they were summed."""
    return torch.allclose(one, other, rtol=0, atol=TOLERANCE * max(1.0, float(one.abs().max())))


def noise(height: int, width: int, count: int = 2) -> Tensor:
    """Return images of noise, float32 (count, 3, height, width), channels last."""
    return torch.rand(count, 3, height, width).contiguous(memory_format=torch.channels_last)


def lesson(side: int) -> tuple[Tensor, Tensor]:
    """Return images, float32 (4, 3, side, side), with a bright noisy patch each, and its masks (4, 1, side, side)."""
    images = 0.1 + 0.1 * noise(side, side, LESSON_IMAGES)
    masks = torch.zeros(LESSON_IMAGES, 1, side, side)
    for number, mask in enumerate(masks):
        top, left = side * (number // 2) // 2, side * (number % 2) // 2  # a quarter each, so that place tells nothing
        mask[:, top : top + side // 2, left : left + side // 2] = 1
    return (images + masks * (0.5 + 0.3 * torch.rand_like(images))).contiguous(memory_format=torch.channels_last), masks
