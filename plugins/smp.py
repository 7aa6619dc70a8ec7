"""Every architecture of segmentation-models-pytorch with every encoder of its own or of timm, as `ARCHITECTURE-ENCODER`.

Iakubovskii, Segmentation Models Pytorch, 2019, https://github.com/qubvel-org/segmentation_models.pytorch.
The listed models are the ones of the poster; all others, `segformer-mit_b0` or `fpn-tu-convnext_tiny`, are found by
name. Weights are read from safetensors files only, never unpickled.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deeploc_bench import Model, hookimpl

if TYPE_CHECKING:
    from torch import nn

ADDRESS = "https://github.com/qubvel-org/segmentation_models.pytorch"
ARCHITECTURES = (
    *("unet", "unetplusplus", "fpn", "linknet", "manet", "pspnet"),
    *("pan", "deeplabv3", "deeplabv3plus", "upernet", "segformer", "dpt"),
)
LISTED = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("inceptionv4", "inceptionresnetv2", "xception"),
)
MINIMUM_SIZE = {"pan": 128}  # three poolings follow on features of stride 16
STRIDE = {"dpt": 32}  # the fusion doubles maps of stride 32, whatever the patch size
SECONDS = 5.0  # for the one question whether the hub can be reached

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
NORMALIZATIONS = {"inception": HALVES, "xception": HALVES, "timm-tf_efficientnet_lite": HALVES, "dpn": DPN}
"""Mean and std by prefix, for RGB in [0, 1]: what smp's `get_preprocessing_params` reads from the hub, else IMAGENET."""


@hookimpl
def deeploc_models() -> list[Model]:
    """Return the models of the poster: Unet, Unet++ and FPN with ResNet and Inception encoders."""
    return [_model(architecture, encoder, "imagenet") for architecture in ARCHITECTURES[:3] for encoder in LISTED]


@hookimpl
def deeploc_find_model(name: str) -> Model | None:
    """Return the model `ARCHITECTURE-ENCODER`, or None where either is unknown to smp and timm."""
    architecture, _, encoder = name.partition("-")
    pretraining = _pretraining(encoder) if architecture in ARCHITECTURES and encoder else None
    return _model(architecture, encoder, pretraining) if pretraining else None


def _model(architecture: str, encoder: str, pretraining: str) -> Model:
    build = partial(_build, architecture, encoder, *([None] if pretraining == "none" else []))
    name = f"{architecture}-{encoder}"
    return Model(name=name, build=build, reference=ADDRESS, pretraining=pretraining, license="MIT")


def _pretraining(encoder: str) -> str | None:
    """Return what the encoder's default weights were trained on, "none" without weights, None for no encoder."""
    if encoder.startswith("tu-"):
        import timm

        if not timm.is_model(encoder[3:]):
            return None
        try:
            config = timm.get_pretrained_cfg(encoder[3:])
        except RuntimeError:  # an unknown tag
            return None
        if config is None or not config.hf_hub_id:
            return "none"
        return "imagenet" if not config.tag or re.search(r"in(1|12|21|22)k", config.tag) else config.tag
    from segmentation_models_pytorch.encoders import encoders

    return _smp_weights(encoder) if encoder in encoders else None


def _smp_weights(encoder: str) -> str:
    from segmentation_models_pytorch.encoders import encoders

    known = list(encoders[encoder]["pretrained_settings"])
    return "imagenet" if "imagenet" in known else next(iter(known), "none")


def _build(architecture: str, encoder: str, weights: str | Path | None) -> nn.Module:
    """Build a model with its default encoder weights, those of a safetensors file, or None."""
    name = f"{architecture}-{encoder}"
    fetched = _fetch(name, encoder) if weights == "default" else None
    is_timm = encoder.startswith("tu-")
    network = _network(architecture, encoder, fetched if is_timm else None)
    file = fetched if weights == "default" and not is_timm else weights if weights != "default" else None
    if file is not None:
        _load(network.encoder, Path(file), name)
    mean, std = _normalization(encoder)
    stride = math.lcm(network.encoder.output_stride, STRIDE.get(architecture, 1))
    model = _localizer(network, mean, std, stride, MINIMUM_SIZE.get(architecture, stride))
    _freeze_unused(model, name)
    return model
