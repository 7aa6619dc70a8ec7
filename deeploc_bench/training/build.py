"""Builds models and losses out of plugins, and checks that they keep the contract before anything is trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench.contract.errors import DeeplocError, PluginError
from deeploc_bench.contract.isolation import guarded
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.specs import OWN, Model
from deeploc_bench.plan.losses import LossExpression, WeightedLoss
from deeploc_bench.plan.recipe import settled_weights

LossFunction = Callable[[Tensor, Tensor], Tensor]


def build_model(model: Owned[Model], weights: str) -> nn.Module:
    """Build a model with `default` weights, those of a file, or `none`; a detector with those that it declares.

    Raises PluginError, or WeightsError where the weights cannot be had.
    """
    where = model.title
    try:
        with guarded(where):
            built = called_build(model.spec, weights)
    except DeeplocError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{where} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise PluginError(f"{where}: build returned {type(built).__name__}; return a torch.nn.Module")
    return built


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module on a device, channels last in memory where all its tensors can lie so."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(isinstance(one, nn.UninitializedParameter) or one.dim() > 4 for one in tensors):
        return module.to(device)
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def called_build(spec: Model, weights: str) -> object:
    """Return what a model's `build` returns, given the weights that it takes."""
    settled = settled_weights(spec, weights)
    takes_weights = spec.pretraining != "none" or spec.weights is not None
    return spec.build(None if settled == "none" else settled) if takes_weights else spec.build()


def build_loss(term: WeightedLoss, device: torch.device) -> LossFunction:
    """Build a loss with its parameters: logits and float masks, both (N, 1, H, W), to a scalar; a module is moved."""
    assert term.loss is not None
    with guarded(term.loss.title):
        built: LossFunction = term.loss.spec.build(**{**term.loss.spec.parameters, **term.parameters})
    return built.to(device) if isinstance(built, nn.Module) else built


class TrainingLoss(nn.Module):
    """A model and its loss as one module, so that mixed precision and DDP see all that a step computes.

    What the model brings itself is computed in the training's precision, all other losses in float32. Raises
    PluginError where the model has no loss of its own and is asked for it.
    """

    def __init__(
        self, module: nn.Module, model: Owned[Model], expression: LossExpression, input_size: int | None
    ) -> None:
        super().__init__()
        self.module, self.model, self.input_size = module, model, input_size
        device = next(module.parameters()).device
        # not registered: a loss is no part of what is trained, and stays in the mode in which it was built
        self.terms = [(term.weight, build_loss(term, device) if term.loss else None) for term in expression.terms]
        self.titles = [term.loss.title if term.loss else f"training_loss of {model.title}" for term in expression.terms]
        if any(loss is None for _, loss in self.terms) and not callable(getattr(module, "training_loss", None)):
            raise PluginError(
                f"{model.title} has no loss of its own, which {expression.text!r} asks for; give its module a method "
                f"training_loss(images, masks), or leave {OWN!r} out"
            )

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss, a scalar, of images (N, 3, H, W) and float masks (N, 1, H, W)."""
        values, logits = [], None
        for (weight, loss), title in zip(self.terms, self.titles, strict=True):
            if loss is None:
                value = _scalar(self._own(images, masks), title).float()
            else:
                logits = self._logits(images, masks) if logits is None else logits
                with torch.autocast(images.device.type, enabled=False):
                    value = _scalar(loss(logits, masks), title)
            values.append(weight * value)
        return torch.stack(values).sum()

    def _logits(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return float32 logits of the masks' shape, (N, 1, H, W)."""
        logits = logits_of(self.module, images, self.model, self.input_size)
        if logits.shape == masks.shape:
            return logits
        with torch.autocast(images.device.type, enabled=False):  # (N, 1, h, w) at the input size -> (N, 1, H, W)
            return F.interpolate(logits, size=masks.shape[2:], mode="bilinear")

    def _own(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the model's own loss; images and masks have its input size, where it has one."""
        images = _fed(images, self.input_size)
        if images.shape[2:] != masks.shape[2:]:
            masks = F.interpolate(masks, size=images.shape[2:], mode="nearest-exact")  # which stay 0 and 1
        value: Tensor = self.module.training_loss(images, masks)  # type: ignore[operator]
        return value


def _scalar(value: Tensor, title: str) -> Tensor:
    """Return what a loss returned; raises PluginError where it is no scalar."""
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise PluginError(f"{title} returned {got}; expected a scalar, as loss.mean() is")
    return value


def logits_of(module: nn.Module, images: Tensor, model: Owned[Model], input_size: int | None) -> Tensor:
    """Return float32 logits (N, 1, h, w) for images (N, 3, H, W): h, w = H, W, or `input_size` where it is given.

    Raises PluginError where the model returns another shape, or no real numbers.
    """
    images = _fed(images, input_size)
    logits = module(images)
    expected = (len(images), 1, *images.shape[2:])
    if isinstance(logits, Tensor) and not logits.is_floating_point():
        raise PluginError(f"{model.title} returned {logits.dtype} logits; expected torch.float32")
    if not isinstance(logits, Tensor) or logits.shape != expected:
        same = isinstance(logits, Tensor) and logits.shape[2:] == expected[2:]
        got = f"logits of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise PluginError(
            f"{model.title} returned {got} for images {tuple(images.shape)}; expected {expected}. "
            + ("Return one channel, the manipulated one." if same else "Upsample inside the model.")
        )
    return logits.float()


def _fed(images: Tensor, input_size: int | None) -> Tensor:
    """Return images (N, 3, H, W) at the size that a model must be fed."""
    if input_size is None:
        return images
    return F.interpolate(images, size=(input_size, input_size), mode="bilinear", antialias=True)
