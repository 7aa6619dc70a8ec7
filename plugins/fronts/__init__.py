"""Noise before any model: `srm+MODEL`, `bayar+MODEL` or `noiseprint+MODEL`, such as `srm+unet-resnet18`.

An edit leaves little in the content of an image and much in its noise. A front end takes the content away. The model
behind it, of any plugin, sees three channels of noise in the place of the three colours, of the mean and the spread of
an image. The front end is computed in float32, since in bf16 the levels of an image are as coarse as its noise.

`srm`: three fixed filters of the spatial rich model (Fridrich and Kodovsky, IEEE TIFS 2012), those that Zhou et al.
(Learning rich features for image manipulation detection, CVPR 2018, https://arxiv.org/abs/1805.04953) choose, truncated
as both do. There, the noise is a second stream beside the colours of a detector of boxes; here, it is all there is.

`bayar`: the constrained convolution (Bayar and Stamm, IEEE TIFS 2018, https://doi.org/10.1109/TIFS.2018.2825953): each
learned 5 x 5 filter has -1 in its centre, and its other weights sum to 1. There, the others are divided by their sum
after each step; here, they are a projection of free weights, so that the constraint holds at any time, and nothing is
divided by a sum that may be near 0. There are three filters of the three colours, and a batch normalization.

`noiseprint`: a residual extractor of the kind of Noiseprint (Cozzolino and Verdoliva, IEEE TIFS 2020,
https://arxiv.org/abs/1808.08396): a plain stack of convolutions, as in DnCNN, of 7 layers and 32 maps in the place of
17 and 64. The published weights are for informational and nonprofit purposes only
(https://github.com/grip-unina/noiseprint), so none are taken: it starts from scratch and learns with the model behind
it, from masks, not from pairs of cameras. It is the network of the paper, not its fingerprint of a camera.

The weights are those of the model behind, under its licence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from deeploc_bench import Model, PluginError, hookimpl

if TYPE_CHECKING:
    from torch import nn

REFERENCES = {
    "srm": "https://arxiv.org/abs/1805.04953",
    "bayar": "https://doi.org/10.1109/TIFS.2018.2825953",
    "noiseprint": "https://arxiv.org/abs/1808.08396",
}


@hookimpl
def deeploc_find_model(name: str, find: Callable[[str], Model]) -> Model | None:
    """Return the model `FRONT+MODEL`, or None where no front end is called so; raises PluginError for a detector."""
    front, _, behind = name.partition("+")
    if front not in REFERENCES or not behind:
        return None
    model = find(behind)
    if model.baseline or not model.trainable:
        raise PluginError(
            f"model {name!r}: {behind!r} is not trained here, and a front end is of use only to a model that learns to "
            f"see through it. Name one that is trained, such as {front}+unet-resnet18"
        )
    return Model(
        name=name,
        build=partial(_build, front, model),
        reference=REFERENCES[front],
        pretraining=model.pretraining,
        license=model.license,
        recipe=model.recipe,
    )


def _build(front: str, model: Model, *weights: str | None) -> nn.Module:
    """Build a front end and the model behind it, which is given its weights where it takes any."""
    from deeploc_bench_plugins.fronts.extractors import FRONTS, Fronted, OwnFronted

    behind = model.build(*weights)
    kind = OwnFronted if hasattr(behind, "training_loss") else Fronted
    return kind(FRONTS[front](), behind)
