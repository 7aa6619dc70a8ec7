"""Two branches, one supervised by the borders of edits: `mvss-resnet50` and `mvss-resnet18`, with a loss of their own.

Chen et al., Image manipulation detection by multi-view multi-scale supervision (MVSS-Net), ICCV 2021,
https://arxiv.org/abs/2104.06832. One branch looks for borders: Sobel filters over the maps of each stage of a ResNet,
joined from shallow to deep. The other sees the noise of a constrained convolution (Bayar). Both are fused by attention
over positions and over channels. `--loss own` is the paper's: Dice of the pixels, cross-entropy of the image and Dice
of the borders, weighted 0.16, 0.04 and 0.8.

What differs: a training has manipulated images only, so that the image's term says little more than that its largest
logit be high (a crop without an edit counts as authentic). Borders are those of the mask at a quarter of its size,
within a pixel, as are the border's logits. The constraint is a projection (see the plugin `fronts`), not a division
after each step. Attention is computed in float32. Images are normalized as timm's weights expect, of any size, and not
resized to 512 x 512. `mvss-resnet18` is a smaller network for small data, not one of the paper. The published weights
(https://github.com/dong03/MVSS-Net, which states no licence) are not used; `default` weights are timm's, of ImageNet,
under timm's Apache-2.0, in both branches.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from deeploc_bench import Model, WeightsError, hookimpl

if TYPE_CHECKING:
    from torch import nn

BACKBONES = ("resnet18", "resnet50")


@hookimpl
def deeploc_models() -> list[Model]:
    """Return the network with each backbone."""
    return [
        Model(
            name=f"mvss-{backbone}",
            build=partial(_build, backbone),
            reference="https://arxiv.org/abs/2104.06832",
            pretraining="imagenet",
            license="MIT",
        )
        for backbone in BACKBONES
    ]


def _build(backbone: str, weights: str | None) -> nn.Module:
    """Build with ImageNet weights in both branches, those of a safetensors file, or None; raises WeightsError."""
    import timm
    from deeploc_bench_plugins.mvss.network import Mvss
    from deeploc_bench_plugins.published import published

    network = Mvss(backbone)
    if weights == "default":
        weights = published(timm.get_pretrained_cfg(backbone).hf_hub_id, whose="network", model=f"mvss-{backbone}")
    if weights:
        for branch in (network.edges, network.noise):
            _load(branch, weights, backbone)
    return network


def _load(branch: nn.Module, file: str, backbone: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Any] = load_file(file)
        branch.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})
    except (OSError, RuntimeError, SafetensorError) as error:
        where = f"model 'mvss-{backbone}': weights file {file}"
        reason = " ".join(str(error).split())
        raise WeightsError(f"{where} is not a safetensors file of timm's {backbone}: {reason:.300}") from error
