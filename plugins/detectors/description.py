"""What a description of a detector may say, and that it holds together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deeploc_bench import PluginError, read_toml

SUFFIXES = {".onnx": "onnx", ".pt": "torchscript", ".pth": "torchscript", ".ts": "torchscript"}
SUITE_KEYS = {"suite", "generator"}
"""What stands in the description of a suite, and in none of a detector."""
Count = Annotated[int, Meta(ge=1, le=8192, description="a whole number of 1 to 8192")]
LEAST_SIDE = 32
Side = Annotated[int, Meta(ge=LEAST_SIDE, le=8192, description=f"a whole number of {LEAST_SIDE} to 8192")]
Place = Annotated[int, Meta(ge=0, le=1000, description="a whole number of 0 to 1000")]
Number = Annotated[float, Meta(ge=-1e6, le=1e6, description="a number of -1e6 to 1e6")]
Above = Annotated[float, Meta(gt=0, le=1e6, description="a number above 0, at most 1e6")]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a description; an unknown key is an error."""


class Input(Strict, frozen=True, kw_only=True):
    """What the network takes: float32 (N, 3, H, W), as it was trained.

    `size` is the side that images must have; else they are padded to multiples of `multiple`. Black and white become
    the two numbers of `range`, of which `mean` and `std` of the three channels are then taken off. `batch = 1` is for a
    network that takes one image at a time.
    """

    size: Side | None = None
    multiple: Count = 1
    range: tuple[Number, Number] = (0.0, 1.0)
    mean: tuple[Number, Number, Number] = (0.0, 0.0, 0.0)
    std: tuple[Above, Above, Above] = (1.0, 1.0, 1.0)
    channels: Literal["RGB", "BGR"] = "RGB"
    batch: Literal[1] | None = None


class Output(Strict, frozen=True, kw_only=True):
    """What the network returns: maps (N, C, H / stride, W / stride), the `index`-th of several.

    Of its channels, `channel` says where an image is manipulated; it must be said where there are several. `logits` are
    of a `sigmoid`, or of a `softmax` over all channels. `scores` are higher where an image is manipulated; above
    `threshold` it is found to be, and `scale` is how far from it a heatmap has risen from 0.5 to 0.73.
    """

    kind: Literal["logits", "probabilities", "scores"]
    index: Place = 0
    channel: Place | None = None
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    stride: Count = 1
    threshold: Number | None = None
    scale: Above | None = None

    @property
    def place(self) -> int:
        """Return the place of the channel that is read."""
        return self.channel or 0


class Description(Strict, frozen=True, kw_only=True):
    """A whole description; `file` lies beside it. What is not known is left out, and then counts as not declared."""

    name: str
    file: str
    output: Output
    input: Input = Input()
    format: Literal["onnx", "torchscript"] | None = None
    reference: str | None = None
    license: str | None = None
    pretraining: str | None = None
    trained_on: tuple[str, ...] | None = None
    about: str | None = None

    @property
    def file_format(self) -> str:
        """Return the format of the file, as it is stated or as its suffix says."""
        return self.format or SUFFIXES[Path(self.file).suffix.lower()]


def read_description(path: Path) -> Description | None:
    """Return a description that holds together, or None where the file describes a suite; raises PluginError."""
    if SUITE_KEYS & read_toml(path, dict[str, Any], "detector", PluginError).keys():
        return None
    description = read_toml(path, Description, "detector", PluginError)
    where, output, given = f"detector {path}", description.output, description.input
    suffix = Path(description.file).suffix.lower()
    if description.format is None and suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise PluginError(
            f"{where}: file = {description.file!r} ends with {suffix!r}; expected one of {known}, or say format = "
            "'onnx' or 'torchscript'"
        )
    if given.size is not None and given.multiple > 1:
        raise PluginError(f"{where}: input has size = {given.size} and multiple = {given.multiple}; say one of them")
    if given.range[0] == given.range[1]:
        raise PluginError(f"{where}: input has range = {list(given.range)}; expected two different numbers")
    stepped = given.size or given.multiple
    if stepped % output.stride:
        cure = "a size that it divides" if given.size else f"multiple = {output.stride}"
        raise PluginError(
            f"{where}: output has stride = {output.stride}, which does not divide the input's size or multiple, "
            f"{stepped}; say {cure} in [input]"
        )
    if "+" in description.name:
        raise PluginError(f"{where}: name = {description.name!r} has a '+', as models made of others have; drop it")
    _check_output(output, where)
    return description


def _check_output(output: Output, where: str) -> None:
    if output.kind == "scores" and output.threshold is None:
        raise PluginError(f"{where}: output has kind = 'scores' and no threshold; say above which a pixel is found")
    for key in ("threshold", "scale"):
        if output.kind != "scores" and getattr(output, key) is not None:
            raise PluginError(f"{where}: output has a {key}, and kind = {output.kind!r}; only scores have one")
    if output.kind != "logits" and output.activation != "sigmoid":
        raise PluginError(f"{where}: output has activation = {output.activation!r}, and no logits; leave it out")
