"""Checks of the contract, and a model and a loss as they are tried: on the CPU, on a few small images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from deeploc_bench.contract.errors import DeeplocError, PluginError, reason_of
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan.losses import LossExpression, WeightedLoss
from deeploc_bench.training.build import LossFunction, TrainingLoss, build_loss, build_model, logits_of
from deeploc_bench.training.evaluate import AUTOCAST_DTYPES

SIDE = 64
"""The height and width of most images that are tried, in pixels."""
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
    """Make checks in order, each from seed 0, and leave the global random stream as it was.

    Raises DeeplocError where the subject cannot be built.
    """
    for check in checks:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = list(check.probe(subject))
        yield check, found
        if check.gate and any(finding.is_error for finding in found):
            return


def finding(check: str, message: str, level: Literal["error", "warning"] = "error") -> Finding:
    """Return a finding of a check."""
    return Finding(check=check, message=message, level=level)


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
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in module.parameters()):
            return module  # which has no shape yet
        return module.to(memory_format=torch.channels_last)

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
    """A loss of a plugin as it is tried, with its parameters, on two masks."""

    term: WeightedLoss

    @property
    def title(self) -> str:
        """Return the words by which messages name the loss."""
        return self.term.loss.title if self.term.loss else self.term.name

    @cached_property
    def function(self) -> LossFunction:
        """The loss as it is built; raises PluginError."""
        try:
            return build_loss(self.term, torch.device("cpu"))
        except DeeplocError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self.title} cannot be built: {reason_of(error)}") from error

    @cached_property
    def masks(self) -> Tensor:
        """Masks, float32 (2, 1, SIDE, SIDE): a rectangle each, of three eighths and of one eighth."""
        masks = torch.zeros(2, 1, SIDE, SIDE)
        masks[0, :, 8:56, 16:48] = masks[1, :, 32:, 48:] = 1
        return masks

    def value(self, logits: Tensor, masks: Tensor | None = None) -> Any:
        """Return the loss of logits (N, 1, H, W); raises PluginError where it raises."""
        function = self.function
        try:
            return function(logits, self.masks if masks is None else masks)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self.title} cannot be computed: {reason_of(error)}") from error


def noise(height: int, width: int, count: int = 2) -> Tensor:
    """Return images of noise, float32 (count, 3, height, width), channels last."""
    return torch.rand(count, 3, height, width).contiguous(memory_format=torch.channels_last)
