"""Builds models and losses out of plugins, and checks that they keep the contract before anything is trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DeeplocError, PluginError
from deeploc_bench.contract.isolation import guarded
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan.losses import LossExpression

LossFunction = Callable[[Tensor, Tensor], Tensor]


def build_model(model: Owned[Model], weights: str) -> nn.Module:
    """Build a model with `default` weights, those of a file, or `none`.

    Raises PluginError, or WeightsError where the weights cannot be had.
    """
    where = f"model {model.spec.name!r} (plugin {model.plugin.name!r})"
    try:
        from_scratch = model.spec.pretraining == "none"
        with guarded(where):
            built = model.spec.build() if from_scratch else model.spec.build(None if weights == "none" else weights)
    except DeeplocError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{where} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise PluginError(f"{where}: build returned {type(built).__name__}; return a torch.nn.Module")
    return built


def build_loss(expression: LossExpression) -> LossFunction:
    """Build the weighted sum of losses: logits and float masks, both (N, 1, H, W), to a scalar."""
    terms = []
    for weight, owned in expression.terms:
        with guarded(owned.title):
            terms.append((weight, owned.spec.build()))

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([weight * term(logits, masks) for weight, term in terms]).sum()

    return loss


def logits_of(module: nn.Module, images: Tensor, model: Owned[Model], input_size: int | None) -> Tensor:
    """Return float32 logits (N, 1, h, w) for images (N, 3, H, W): h, w = H, W, or `input_size` where it is given.

    Raises PluginError where the model returns another shape.
    """
    if input_size is not None:
        images = F.interpolate(images, size=(input_size, input_size), mode="bilinear", antialias=True)
    logits = module(images)
    expected = (len(images), 1, *images.shape[2:])
    if not isinstance(logits, Tensor) or logits.shape != expected:
        got = f"logits of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise PluginError(
            f"model {model.spec.name!r} returned {got} for images {tuple(images.shape)}; expected {expected}. "
            "Upsample inside the model."
        )
    return logits.float()
