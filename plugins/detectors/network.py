"""A network in a file as a module of this benchmark: its images as it was trained, its output as logits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from deeploc_bench_plugins.detectors.description import LEAST_SIDE, Description
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deeploc_bench import PluginError, read_bytes

MOST_ONNX = 2**31
"""The largest ONNX file in bytes: more, its format cannot hold in one file."""
LEAST = 1e-6
"""How near to 0 and 1 a probability becomes a logit, of 13.8 at most."""
OVER = 1e-4
"""How far a probability may lie outside 0 and 1 because of rounding."""
ROUNDED = 1e-2
"""How far a softmax of 16 bits is from a sum of 1."""
FLOATS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


class Detector(nn.Module):
    """Float RGB in [0, 1], (N, 3, H, W) -> logits (N, 1, H, W), computed in the precision of its file."""

    def __init__(self, network: nn.Module, description: Description, where: str) -> None:
        super().__init__()
        self.network, self.description, self.where = network, description, where
        given = description.input
        for what, values in (("mean", given.mean), ("std", given.std)):
            self.register_buffer(what, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits; raises PluginError where the output is not what the description says."""
        height, width = images.shape[2:]
        with torch.autocast(images.device.type, enabled=False):
            fed = self._fed(images.float())
            parts = fed.split(1) if self.description.input.batch else [fed]
            maps = torch.cat([self._maps(self.network(part), part) for part in parts])
            if self.description.output.stride > 1:
                maps = F.interpolate(maps, size=fed.shape[2:], mode="bilinear")
            return self._logits(maps)[..., :height, :width]

    def _fed(self, images: Tensor) -> Tensor:
        """Return images as the network takes them, padded by repeating their lower and right border."""
        given = self.description.input
        low, high = given.range
        levels = (low + (high - low) * images - self.mean) / self.std
        levels = levels.flip(1) if given.channels == "BGR" else levels
        below, right = (-side % given.multiple for side in images.shape[2:])
        return F.pad(levels, (0, right, 0, below), mode="replicate").contiguous()

    def _maps(self, returned: Any, fed: Tensor) -> Tensor:
        """Return the declared one of the outputs, float32 (N, C, h, w) with enough channels."""
        output = self.description.output
        outputs = list(returned.values()) if isinstance(returned, dict) else returned
        outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
        maps = outputs[output.index] if output.index < len(outputs) else None
        if not isinstance(maps, Tensor) or maps.is_complex():
            told = ", ".join(str(getattr(one, "dtype", type(one).__name__)) for one in outputs[:9])
            raise PluginError(
                f"{self.where}: output index = {output.index}, and the network returns {len(outputs)} ({told}); say "
                "the index of maps of real numbers in [output]"
            )
        expected = [len(fed), *(side // output.stride for side in fed.shape[2:])]
        if maps.ndim == 3:
            maps = maps[:, None]
        if maps.ndim != 4 or [maps.shape[0], *maps.shape[2:]] != expected:
            count, height, width = expected
            raise PluginError(
                f"{self.where}: the network returns {tuple(maps.shape)} for images {tuple(fed.shape)}; with stride = "
                f"{output.stride}, ({count}, C, {height}, {width}) is expected. Say stride and index in [output], "
                "size, multiple or batch in [input]"
            )
        if maps.shape[1] >= 2 and output.channel is None:
            raise PluginError(
                f"{self.where}: the network returns {maps.shape[1]} channels; say in [output] which of them says where "
                "an image is manipulated, such as channel = 1"
            )
        least = max(output.place + 1, 2 if output.activation == "softmax" else 1)
        if maps.shape[1] < least:
            raise PluginError(
                f"{self.where}: channel = {output.place} and activation = {output.activation!r} need at least "
                f"{least} channels; the network returns {maps.shape[1]}"
            )
        return maps.float()

    def _logits(self, maps: Tensor) -> Tensor:
        """Return the declared channel of maps (N, C, h, w) as logits (N, 1, h, w)."""
        output, place = self.description.output, self.description.output.place
        channel = maps[:, place : place + 1]
        if output.kind == "scores":
            return (channel - (output.threshold or 0.0)) / (output.scale or 1.0)
        if output.kind == "probabilities":
            low, high = (float(bound) for bound in channel.aminmax())
            if low < -OVER or high > 1 + OVER:
                raise PluginError(
                    f"{self.where}: output has kind = 'probabilities', and the network returns {low:.4g} to "
                    f"{high:.4g}; say kind = 'logits', or 'scores' with a threshold"
                )
            return torch.logit(channel, eps=LEAST)
        if output.activation == "softmax":
            if bool((maps >= 0).all()) and bool(((maps.sum(1) - 1).abs() < ROUNDED).all()):
                raise PluginError(
                    f"{self.where}: output has activation = 'softmax', and the network returns what is one already, of "
                    "sum 1; say kind = 'probabilities', and leave activation out"
                )
            others = torch.cat([maps[:, :place], maps[:, place + 1 :]], dim=1)
            return channel - others.logsumexp(1, keepdim=True)  # whose sigmoid is the channel's softmax
        return channel


class Onnx(nn.Module):
    """A network that onnxruntime computes, on the device of its images where that has a provider."""

    def __init__(self, content: bytes, where: str) -> None:
        super().__init__()
        self.content, self.where = content, where
        self.sessions: dict[torch.device, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Onnx:
        """Return another that opens its sessions anew, which cannot be copied."""
        return Onnx(self.content, self.where)

    def session(self, device: torch.device) -> Any:
        """Return the network opened for a device, on as many threads as torch has."""
        if device not in self.sessions:
            runtime = _onnxruntime(self.where)
            options = runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others compute here, too
            options.log_severity_level = 3
            providers: list[Any] = ["CPUExecutionProvider"]
            if device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
                providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
            try:
                opened = runtime.InferenceSession(self.content, options, providers=providers)
            except Exception as error:
                raise PluginError(f"{self.where} cannot be opened: {_unopened(str(error))}") from None
            self.sessions[device] = opened
        return self.sessions[device]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return all outputs, on the device of the images."""
        session = self.session(images.device)
        (given,) = session.get_inputs()
        fed = {given.name: images.to("cpu", FLOATS[given.type]).numpy()}
        try:
            found = session.run(None, fed)
        except Exception as error:
            shape = tuple(images.shape)
            raise PluginError(f"{self.where} does not take {shape}: {' '.join(str(error).split()):.300}") from None
        return [torch.from_numpy(one).to(images.device) for one in found]


def open_onnx(file: Path, description: Description) -> nn.Module:
    """Open an ONNX file; raises PluginError where it is none, or takes something else than is declared."""
    where = f"detector file {file}"
    try:
        network = Onnx(read_bytes(file, MOST_ONNX), where)
    except OSError as error:
        raise PluginError(f"{where} cannot be read: {error.strerror}") from None
    inputs = network.session(torch.device("cpu")).get_inputs()
    told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    if len(inputs) != 1 or inputs[0].type not in FLOATS or len(inputs[0].shape) != 4:
        raise PluginError(f"{where} takes {told}; expected one input of float images, (N, 3, H, W)")
    count, channels, *sides = inputs[0].shape
    if channels != 3 and isinstance(channels, int):
        raise PluginError(f"{where} takes {told}; expected three channels, (N, 3, H, W)")
    if isinstance(count, int) and (count, description.input.batch) != (1, 1):
        cure = "say batch = 1 in [input]" if count == 1 else "export it with a free batch"
        raise PluginError(f"{where} takes {told}, {count} image(s) at a time; {cure}")
    fixed = {side for side in sides if isinstance(side, int)}
    if fixed - {description.input.size}:
        raise PluginError(f"{where} takes {told}; {_size_cure(fixed, description.input.size)}")
    return network


def _size_cure(fixed: Sequence[int] | set[int], size: int | None) -> str:
    if min(fixed) < LEAST_SIDE:
        return f"a side of {min(fixed)} is none of an image; is it (N, H, W, 3)? Export it for (N, 3, H, W)"
    if len(fixed) > 1:
        return "export it for a square, or with free sides"
    stated = f"size = {size} in [input] is not that" if size else "its side is fixed"
    return f"{stated}: say size = {next(iter(fixed))}"


def _onnxruntime(where: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise PluginError(f"{where} needs onnxruntime ({error}): pip install 'deeploc-bench[onnx]'") from None
    return onnxruntime


def _unopened(reason: str) -> str:
    """Return why onnxruntime opened nothing, in one line, with what to do where weights lie in a second file."""
    if "external" in reason.lower() or "model_path" in reason:
        return "its weights lie in another file, which would not count; export it with external_data=False"
    return " ".join(reason.split())[:300]


class TorchScript(nn.Module):
    """A network in TorchScript, computed as it is written: what is optimized at the third call rounds otherwise."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, images: Tensor) -> Any:
        """Return what the network returns."""
        with torch.jit.optimized_execution(False):
            return self.script(images)


def open_torchscript(file: Path, description: Description) -> nn.Module:
    """Open a TorchScript file, which runs the code in it; raises PluginError where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript will not be developed any further
            script = torch.jit.load(str(file), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PluginError(
            f"detector file {file} is not TorchScript ({reason:.200}). A checkpoint holds weights alone; export the "
            "network with them (docs/detectors.md)"
        ) from None
    for parameter in script.parameters():
        parameter.requires_grad_(False)
    return TorchScript(script)


OPENERS: Mapping[str, Callable[[Path, Description], nn.Module]] = {"onnx": open_onnx, "torchscript": open_torchscript}
