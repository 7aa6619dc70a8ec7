"""Where and how a training is computed: device, precision, threads, and what they cost."""

import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.source import imported_distributions
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TrainingEnvironment
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks

VERSIONED = ("deeploc-bench", "torch", "accelerate", "numpy", "pillow")


def resolve_device(device: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda` or `cuda:i`; raises UsageError where it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks.processes() > 1 and device.startswith("cuda"):
        if device != "cuda":
            raise UsageError(
                f"--device {device}: each of {ranks.processes()} processes has its own. Use --device cuda."
            )
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: this machine has no CUDA device that torch can use. Use --device cpu.")
    found = torch.device(device)
    count = torch.cuda.device_count()
    if found.index is not None and found.index >= count:
        allowed = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UsageError(f"--device {device}: this machine has {count} CUDA devices. Use {allowed}.")
    return found


def resolve_precision(precision: str, device: torch.device) -> str:
    """Settle `auto` by what the hardware can do: bf16 with AVX512-BF16, AMX or a GPU that has it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """Return a fresh Accelerator for one training."""
    # Accelerate keeps device and precision for the whole process and refuses another precision; nothing public drops
    # them, and a training that goes on readopts the precision it was begun with.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    if device.index is not None and ranks.processes() == 1:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    with ranks.launchers_hidden():
        return Accelerator(cpu=device.type == "cpu", mixed_precision="no" if precision == "fp32" else precision)


def start_environment(training: Training, folder: Path, device: torch.device, threads: int) -> TrainingEnvironment:
    """Write, or where the training was begun before readopt, what its arithmetic depends on beside its facts.

    Raises UsageError where it was begun by another number of processes: that is another arithmetic.
    """
    environment = ranks.from_leader(lambda: _environment(training, folder, device, threads))
    if training.loss and environment.processes != ranks.processes():
        raise UsageError(
            f"{folder} was begun by {environment.processes} processes, and goes on only with as many "
            f"(torchrun --nproc-per-node); here are {ranks.processes()}. Or delete that folder to begin anew."
        )
    set_arithmetic(environment.threads)
    return environment


def set_arithmetic(threads: int) -> None:
    """Settle what the bits of a result depend on in this process: threads and deterministic kernels."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def peak_bytes(device: torch.device) -> int:
    """Return the most memory in use at once so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _environment(training: Training, folder: Path, device: torch.device, threads: int) -> TrainingEnvironment:
    if store.finished_epochs(folder) or (training.loss is None and store.tested_in(folder)):
        return store.read_environment(folder)  # what is there was computed so
    environment = TrainingEnvironment(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        torch_device=str(device),
        precision=resolve_precision(training.recipe.precision, device),
        threads=threads,
        processes=ranks.processes(),
        python=platform.python_version(),
        platform=platform.platform(),
        versions=_versions(training),
    )
    store.write_environment(folder, environment)
    return environment


def _versions(training: Training) -> dict[str, str]:
    """Return the versions of what the harness computes with, and of all that the model's and losses' code imports."""
    plugins: list[Owned[Any]] = [training.model]
    plugins += training.loss.losses if training.loss else []
    names = {*VERSIONED, *(name for owned in plugins for name in imported_distributions(owned))}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def _cpu_name() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())
