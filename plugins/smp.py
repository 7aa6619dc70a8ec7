"""Every architecture of segmentation-models-pytorch with every encoder of smp or timm, named `ARCHITECTURE-ENCODER`.

Iakubovskii, Segmentation Models Pytorch, 2019, https://github.com/qubvel-org/segmentation_models.pytorch.
The poster's models are listed; all others, such as `segformer-mit_b0` and `fpn-tu-convnext_tiny`, are found by name.
"""

from __future__ import annotations

import math
import re
import warnings
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from deeploc_bench_plugins.published import published, reason_of

from deeploc_bench import Model, PluginError, WeightsError, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

ADDRESS = "https://github.com/qubvel-org/segmentation_models.pytorch"
ARCHITECTURES = {"unet", "unetplusplus", "fpn", "linknet", "manet", "pspnet", "pan"}
ARCHITECTURES |= {"deeplabv3", "deeplabv3plus", "upernet", "segformer", "dpt"}
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
INCEPTIONS = ("inceptionv4", "inceptionresnetv2", "xception")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
NORMALIZATIONS = {"inception": HALVES, "xception": HALVES, "timm-tf_efficientnet_lite": HALVES, "dpn": DPN}
"""Mean and std of smp's encoders by prefix, else IMAGENET; all take RGB in [0, 1]. smp keeps them on the hub only."""


class Encoder(NamedTuple):
    """What the default weights were trained on ("none" without any), where they lie, and the mean and std they want."""

    pretraining: str
    repository: str | None
    revision: str | None
    normalization: tuple[tuple[float, ...], tuple[float, ...]]


@hookimpl
def deeploc_models() -> list[Model]:
    """Return the poster's models: Unet, Unet++ and FPN with ResNet and Inception encoders."""
    names = [f"{head}-{encoder}" for head in ("unet", "unetplusplus", "fpn") for encoder in RESNETS + INCEPTIONS]
    return [_model(name, "imagenet") for name in names]


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the model `ARCHITECTURE-ENCODER`, or None where smp and timm have no such thing."""
    architecture, _, encoder = name.partition("-")
    known = _encoder(encoder) if architecture in ARCHITECTURES else None
    return _model(name, known.pretraining) if known else None


def _model(name: str, pretraining: str) -> Model:
    build = partial(_build, name, None) if pretraining == "none" else partial(_build, name)
    return Model(name=name, build=build, reference=ADDRESS, pretraining=pretraining, license="MIT")


def _encoder(name: str) -> Encoder | None:
    if name.startswith("tu-"):
        import timm

        try:
            config = timm.get_pretrained_cfg(name[3:])
        except RuntimeError:  # no such weights of this encoder
            return None
        if config is None:
            return None
        word = "imagenet" if not config.tag or re.search(r"in(1|12|21|22)k", config.tag) else config.tag
        return Encoder(word if config.hf_hub_id else "none", config.hf_hub_id, None, (config.mean, config.std))
    from segmentation_models_pytorch.encoders import encoders

    if name not in encoders:
        return None
    weights = encoders[name]["pretrained_settings"]
    word = "imagenet" if "imagenet" in weights else next(iter(weights))
    normalization = next((value for prefix, value in NORMALIZATIONS.items() if name.startswith(prefix)), IMAGENET)
    return Encoder(word, weights[word]["repo_id"], weights[word]["revision"], normalization)


def _build(name: str, weights: str | None) -> nn.Module:
    """Build with the encoder's default weights, those of a safetensors file, or None; raises PluginError, WeightsError.

    The module normalizes as the encoder's weights expect, whether it has them or not, pads by repeating the border,
    crops the logits back, and freezes the parameters that no logit depends on.
    """
    encoder = name.partition("-")[2]
    file = _fetch(name) if weights == "default" else weights
    by_timm = weights == "default" and encoder.startswith("tu-")  # whose weights have other names than its features
    network = _network(name, {"file": file, "custom_load": False} if by_timm else None)
    if file and not by_timm:
        _load(network.encoder, file, name)
    model = _localizer(network, _encoder(encoder).normalization, 128 if name.startswith("pan-") else 32)
    _freeze_unused(model, name)
    return model


def _fetch(name: str) -> str:
    """Return the file of the encoder's default weights; raises WeightsError."""
    encoder = _encoder(name.partition("-")[2])
    return published(encoder.repository, encoder.revision, whose="encoder", model=name)


def _network(name: str, weights: dict[str, Any] | None) -> nn.Module:
    import segmentation_models_pytorch as smp

    architecture, _, encoder = name.partition("-")
    options = _any_size(encoder[3:]) if encoder.startswith("tu-") else {}
    if weights:
        options |= {"encoder_weights": True, "pretrained_cfg_overlay": weights}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old names of encoders, and vision transformers without a class token
        try:
            return smp.create_model(architecture, encoder, **{"encoder_weights": None} | options)
        except Exception as error:
            raise PluginError(f"model {name!r} cannot be built by smp: {reason_of(error)}") from error


def _any_size(encoder: str) -> dict[str, Any]:
    """Return the option that lets a timm encoder of fixed input size take images of any size, where there is one."""
    import timm
    import torch

    for option in ("dynamic_img_size", "strict_img_size"):
        if timm.get_pretrained_cfg(encoder).fixed_input_size:
            with suppress(TypeError), torch.device("meta"):
                timm.create_model(encoder, **{option: option == "dynamic_img_size"})
                return {option: option == "dynamic_img_size"}
    return {}


def _load(encoder: nn.Module, file: str, name: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        encoder.load_state_dict(load_file(file))
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        own = next(iter(encoder.state_dict()))
        raise WeightsError(
            f"model {name!r}: weights file {file} is not a safetensors file of the encoder's tensors, named as the "
            f"encoder names them ({own!r} and so on): {reason_of(error)}"
        ) from error


def _localizer(network: nn.Module, normalization: tuple[tuple[float, ...], ...], minimum: int) -> nn.Module:
    import torch
    from torch import nn
    from torch.nn.functional import pad

    stride = math.lcm(network.encoder.output_stride, 32)  # dpt fuses maps of stride 32, whatever its encoder's stride

    class Localizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            for what, values in zip(("mean", "std"), normalization, strict=True):
                self.register_buffer(what, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

        def forward(self, images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            below, right = (-(-max(side, minimum) // stride) * stride - side for side in (height, width))
            images = pad((images - self.mean) / self.std, (0, right, 0, below), mode="replicate")
            return self.network(images)[..., :height, :width]  # (N, 1, height, width)

    return Localizer()


def _freeze_unused(model: nn.Module, name: str) -> None:
    import torch

    parameters = list(model.parameters())
    try:
        with torch.enable_grad():
            logits = model.eval()(torch.zeros(1, 3, 64, 96))
            gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    except Exception as error:
        raise PluginError(
            f"model {name!r} must take images of any size, and fails on 64 x 96: {reason_of(error)}"
        ) from error
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    model.train()
