"""Where and how a training is computed: device, precision, threads, and what they cost."""

import ctypes
import gc
import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from deeploc_bench.contract.errors import DeviceError, TrainingFailed, UsageError, reason_of
from deeploc_bench.contract.owned import Owned
from deeploc_bench.contract.source import imported_distributions
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import TrainingEnvironment
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks

NO_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory")
"""What torch says where memory is too small and its error has no type of its own: of CUDA's libraries and the CPU."""
VERSIONED = ("deeploc-bench", "torch", "accelerate", "numpy", "pillow")


def resolve_device(device: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda` or `cuda:i`; raises UsageError where it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: this machine has no CUDA device that torch can use. Use --device cpu.")
    count = torch.cuda.device_count()
    there = f"{count} CUDA device{'s' if count > 1 else ''}"
    if ranks.processes() > 1:
        return _device_of_rank(device, count, there)
    if number and int(number) >= count:
        allowed = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UsageError(f"--device {device}: this machine has {there}. Use {allowed}.")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def _device_of_rank(device: str, count: int, there: str) -> torch.device:
    own = int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cuda":
        raise UsageError(f"--device {device}: each of {ranks.processes()} processes has its own. Use --device cuda.")
    if own >= count:
        here = ranks.processes_here()
        raise UsageError(f"{here} processes on a machine with {there}. Start {count} (--nproc-per-node {count}).")
    return torch.device("cuda", own)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Settle `auto` by what the hardware can do: bf16 with AVX512-BF16, AMX or a GPU that has it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UsageError where nothing can be trained in a precision: without a GPU, fp16 has no loss scaler."""
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("precision fp16 trains on a GPU only. On a CPU use --precision bf16, fp32 or auto.")


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """Return a fresh Accelerator for one training."""
    # Accelerate keeps device and precision for the whole process and refuses others; nothing public drops them, and a
    # training that goes on readopts the precision it was begun with. Several processes share a group that is kept.
    is_alone = ranks.processes() == 1
    AcceleratorState._reset_state(reset_partial_state=is_alone)
    GradientState._reset_state()
    with ranks.launchers_hidden(), _accelerating(device if is_alone else None):
        return Accelerator(cpu=device.type == "cpu", mixed_precision="no" if precision == "fp32" else precision)


@contextmanager
def _accelerating(device: torch.device | None) -> Iterator[None]:
    """Name accelerate the device that it takes, in the one place where it looks for it."""
    before = os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    if device:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        yield
    finally:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
        if before is not None:
            os.environ["ACCELERATE_TORCH_DEVICE"] = before


def start_environment(training: Training, folder: Path, device: torch.device, threads: int) -> TrainingEnvironment:
    """Write, or where the training was begun before readopt, what its arithmetic depends on beside its facts.

    Raises UsageError where it was begun by another number of processes or on another kind of device: that is another
    arithmetic; or where it cannot be trained in its precision.
    """
    environment = ranks.from_leader(lambda: _environment(training, folder, device, threads))
    if training.loss:
        _refuse_other(environment, folder, device)
        check_precision(environment.precision, device)
    is_deterministic = training.loss is None or training.recipe.deterministic
    set_arithmetic(environment.threads, device, is_deterministic=is_deterministic)
    return environment


def _refuse_other(environment: TrainingEnvironment, folder: Path, device: torch.device) -> None:
    if environment.processes != ranks.processes():
        raise UsageError(
            f"{folder} was begun by {environment.processes} processes, and goes on only with as many "
            f"(torchrun --nproc-per-node); here are {ranks.processes()}. Or delete that folder to begin anew."
        )
    begun_on = environment.torch_device.partition(":")[0]
    if begun_on != device.type:
        raise UsageError(
            f"{folder} was begun on {begun_on} ({environment.device}), and goes on only there (--device {begun_on}). "
            "Or delete that folder to begin anew."
        )


def set_arithmetic(threads: int, device: torch.device, *, is_deterministic: bool = True) -> None:
    """Settle what the bits of a result depend on in this process: threads, deterministic kernels, true float32.

    A CPU has deterministic kernels always. An operation that has none on a GPU warns, by its name, and goes on.
    """
    torch.set_num_threads(threads)
    is_fast = device.type == "cuda" and not is_deterministic
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS needs to be deterministic
    torch.use_deterministic_algorithms(not is_fast, warn_only=True)
    torch.backends.cudnn.benchmark = is_fast
    torch.backends.cudnn.deterministic = not is_fast
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, and a blur as fine as on a CPU


@contextmanager
def working_on(device: torch.device) -> Iterator[None]:
    """Do a training on a device: a GPU is the current one meanwhile, for code that names none, and begins empty.

    Raises TrainingFailed where its memory is too small, DeviceError where it answers nothing any more.
    """
    if device.type != "cuda":
        yield
        return
    torch.cuda.init()  # type: ignore[no-untyped-call]
    gc.collect()  # the modules and optimizers that accelerate prepares lie in cycles
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    with faults_told(device), torch.cuda.device(device), memory_told(device, "use one with more, or --device cpu"):
        yield


@contextmanager
def faults_told(device: torch.device) -> Iterator[None]:
    """Raise DeviceError after an error that a GPU answers every later call of this process with, too."""
    try:
        yield
    except RuntimeError as error:
        if _answers(device):
            raise
        reason = reason_of(error).partition(" CUDA kernel errors might be")[0]
        raise DeviceError(
            f"{device} does not answer any more ({reason:.300}). What is finished is kept: the same command goes on. "
            "Where it comes again, look for an index out of range in the model or loss (CUDA_LAUNCH_BLOCKING=1 and "
            "--debug show where), or for a fault of the GPU (nvidia-smi, dmesg)"
        ) from error


def _answers(device: torch.device) -> bool:
    try:
        torch.cuda.synchronize(device)
    except (RuntimeError, AssertionError):  # the latter: torch was built without CUDA
        return False
    return True


@contextmanager
def memory_told(device: torch.device, cure: str) -> Iterator[None]:
    """Raise TrainingFailed, or DeviceError where other processes wait for this one, where memory is too small."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        failure = TrainingFailed if ranks.processes() == 1 else DeviceError
        reason = " ".join(str(error).split()).partition(" Including non-PyTorch")[0]
        raise failure(f"the memory of {device} is too small ({reason:.300}): {cure}") from error


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
        versions=_versions(training, device),
    )
    store.write_environment(folder, environment)
    return environment


def _versions(training: Training, device: torch.device) -> dict[str, str]:
    """Return the versions of what the harness computes with, and of all that the model's and losses' code imports."""
    plugins: list[Owned[Any]] = [*training.model.parts]
    plugins += training.loss.losses if training.loss else []
    names = {*VERSIONED, *(name for owned in plugins for name in imported_distributions(owned))}
    found = {name: importlib.metadata.version(name) for name in names}
    found |= _gpu_versions() if device.type == "cuda" else {}
    return dict(sorted(found.items()))


def _gpu_versions() -> dict[str, str]:
    """Return the versions of what lies between torch and a GPU."""
    found = {
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nvidia-driver": _driver(),
    }
    return {name: str(version) for name, version in found.items() if version}


def _driver() -> str | None:
    """Return the version of the NVIDIA driver, as nvidia-smi prints it; None where there is none."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    version = ctypes.create_string_buffer(80)
    failed = nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(version, len(version))
    return None if failed else version.value.decode()


def _cpu_name() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())
