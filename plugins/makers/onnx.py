"""Any inpainting network in an ONNX file, such as LaMa's or MI-GAN's; options say what it takes and returns.

    LaMa, image 0 to 1, mask 1 in the hole, output 0 to 255     output_range=byte
    MI-GAN's pipeline, uint8, mask 0 in the hole                hole=0
    MI-GAN's generator, one input of four channels, -1 to 1     image_range=signed hole=0 blank=true mask_shift=-0.5

The terms of a network are those of whoever trained it: say them with `--license`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from deeploc_bench_plugins.makers import Images, Masks, needed, padded
from numpy.typing import NDArray
from PIL import Image

from deeploc_bench import PluginError

onnxruntime = needed("onnxruntime", "onnx")

Range = Literal["unit", "signed", "byte"]
RANGES: dict[str, tuple[float, float]] = {"unit": (0, 1), "signed": (-1, 1), "byte": (0, 255)}
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def inpaint(
    images: Images,
    masks: Masks,
    random: np.random.Generator,
    *,
    model: Path,
    image_range: Range | None = None,
    output_range: Range | None = None,
    hole: Literal[0, 1] = 1,
    mask_shift: float = 0.0,
    blank: bool = False,
    multiple: int = 8,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Images:
    """Fill by a network with inputs (N, 3, H, W) and (N, 1, H, W), or one of (N, 4, H, W), the mask its first channel.

    `image_range` is what its levels are scaled to (0 to 1; 0 to 255 where it takes uint8), `output_range` what it
    returns (the same), `hole` what its mask is where it fills, to which `mask_shift` is added, `blank` empties the
    hole. An image is resized to a size that the network is fixed to, or else padded to multiples of a side.
    """
    session = _session(model, device)
    inputs = _inputs(session, model)
    first = next(iter(inputs.values()))
    is_byte = first.type == "tensor(uint8)"
    given_range = image_range or ("byte" if is_byte else "unit")
    fixed = [side if isinstance(side, int) else None for side in first.shape[2:]]
    filled = []
    for image, mask in zip(images, masks, strict=True):
        pixels, region = _fitted(image, mask, fixed, multiple)
        known = (region == (hole == 1)) * np.float32(255 if inputs["mask"].type == "tensor(uint8)" else 1) + mask_shift
        levels = _scaled(pixels, given_range) * (~region[..., None] if blank else 1)
        channels = {"image": levels.transpose(2, 0, 1), "mask": known[None]}
        (output, *_) = session.run(None, _feed(inputs, channels))
        made = _levels(output, output_range or given_range, model)
        filled.append(_back(made, image.shape[:2], fixed))
    return np.stack(filled)


@cache
def _session(model: Path, device: str) -> Any:
    """Open a network once, on one thread, so that its sums are always made in one order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CUDAExecutionProvider"] * (device == "cuda") + ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=providers)
    except Exception as error:
        raise PluginError(f"option model={model}: {' '.join(str(error).split())}") from None


def _inputs(session: Any, model: Path) -> dict[str, Any]:
    """Return the inputs by what they take: `image` and `mask`, one and the same where they are stacked."""
    found = session.get_inputs()
    by_channels = {one.shape[1]: one for one in found if len(one.shape) == 4 and one.type in DTYPES}
    if len(found) == 1 and 4 in by_channels:
        return {"image": found[0], "mask": found[0]}
    if len(found) == 2 and {1, 3} <= by_channels.keys():
        return {"image": by_channels[3], "mask": by_channels[1]}
    told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in found)
    raise PluginError(
        f"option model={model} takes {told}; expected an image (N, 3, H, W) and a mask (N, 1, H, W), or one input "
        "(N, 4, H, W)"
    )


def _feed(inputs: dict[str, Any], channels: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what each input is given, (1, C, H, W); of one input the mask is the first channel."""
    if inputs["image"] is inputs["mask"]:
        channels = {"image": np.concatenate([channels["mask"], channels["image"]])}
    kinds = {what: DTYPES[inputs[what].type] for what in channels}
    rounded = {what: np.rint(one) if kinds[what] is np.uint8 else one for what, one in channels.items()}
    return {inputs[what].name: values[None].astype(kinds[what]) for what, values in rounded.items()}


def _fitted(image: Images, mask: Masks, fixed: list[int | None], multiple: int) -> tuple[Images, Masks]:
    """Return an image and its mask at a size that the network takes."""
    if None in fixed:
        return padded(image, multiple), padded(mask, multiple)
    size = (int(fixed[1] or 0), int(fixed[0] or 0))
    resized = Image.fromarray(mask.astype(np.uint8)).resize(size, NEAREST)
    return np.asarray(Image.fromarray(image).resize(size, BILINEAR)), np.asarray(resized).astype(bool)


def _back(made: Images, shape: tuple[int, ...], fixed: list[int | None]) -> Images:
    """Return what was made at the size of the image that it was made of."""
    if None in fixed:
        return made[: shape[0], : shape[1]]
    return np.asarray(Image.fromarray(made).resize((shape[1], shape[0]), BILINEAR))


def _scaled(pixels: Images, name: str) -> NDArray[np.float32]:
    low, high = RANGES[name]
    return (pixels / np.float32(255) * (high - low) + low).astype(np.float32)


def _levels(output: Any, name: str, model: Path) -> Images:
    """Return an output (1, 3, H, W) as levels (H, W, 3); raises PluginError where it is not what its range says."""
    values = np.asarray(output)
    if values.ndim != 4 or values.shape[:2] != (1, 3) or not np.isfinite(values.astype(np.float32)).all():
        raise PluginError(
            f"option model={model} returned {values.dtype} of shape {values.shape}; expected finite (1, 3, H, W)"
        )
    low, high = RANGES["byte" if values.dtype == np.uint8 else name]
    levels = (values[0].astype(np.float32).transpose(1, 2, 0) - low) / (high - low) * 255
    far = float(np.mean((levels < -16) | (levels > 271)))
    if far > 0.5 or (np.ptp(values) <= 2 and name == "byte"):
        raise PluginError(
            f"option model={model} returned values from {values.min():.3g} to {values.max():.3g}; say "
            "output_range=unit (0 to 1), signed (-1 to 1) or byte (0 to 255)"
        )
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
