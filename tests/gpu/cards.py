"""What the tests of GPUs share: the device, small trainings on it, and how often a program waits for it.

Where there is no CUDA device, whoever imports this is skipped. DEEPLOC_GPU_TESTS=cpu does on the CPU what it can.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.job import Job, prepare

DEVICE = torch.device(os.environ.get("DEEPLOC_GPU_TESTS", "cuda"))
IS_GPU = DEVICE.type == "cuda"
if IS_GPU and not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

on_gpus = pytest.mark.skipif(not IS_GPU, reason="of a CUDA device only")
on_two_gpus = pytest.mark.skipif(not IS_GPU or torch.cuda.device_count() < 2, reason="of two CUDA devices only")
LEFT = 96 * 2**20
"""The most bytes that may be left in use between trainings: what cuBLAS works in is kept."""
SUITES = Path(__file__).parents[1]
FLAGS = ["--suite", "easy", "--model", "small", "--protocol", "same", "--recipe", "quick", "--threads", "1"]
FLAGS += ["--plugin", SUITES / "easy.py", "--device", str(DEVICE)]
BLUR = ("blur_probability=0.5", "blur_sigma=2.0")


def trainings(*settings, models=("small",), suite="easy", plugins=(), loss="jaccard"):
    """Return the trainings by which models of plugins are made, of one generator of the suite easy or tiny."""
    registry = load_plugins([str(SUITES / f"{suite}.py"), *map(str, plugins)])
    job = Job(
        suite=suite, models=list(models), losses=[loss], protocols=["same"], recipe="quick", settings=list(settings)
    )
    found = [one for one in prepare(job, silent, registry).plan.trainings.values() if one.loss]
    return found[: len(models)]


def waits(do):
    """Return how often the program waits for the GPU while something is done."""
    if not IS_GPU:
        do()
        return 0
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # which warns that it may miss some
        try:
            do()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in caught)
