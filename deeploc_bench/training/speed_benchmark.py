"""The forward cost of models, measured by pytest-benchmark; `deeploc-bench speed` runs it and reads its JSON."""

import json
import os
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.training.build import build_model
from deeploc_bench.training.device import peak_bytes, resolve_device

ASKED = json.loads(os.environ["DEEPLOC_SPEED"])


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("name", ASKED["models"])
def test_forward(benchmark: Any, name: str, batch: int) -> None:
    """Time a model's forward pass of a batch at the suite's size, without gradients."""
    torch.set_num_threads(ASKED["threads"])
    device = resolve_device(ASKED["device"])
    owned = load_plugins(ASKED["plugins"]).model(name)
    model = build_model(owned, "none").to(device).eval()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # of the model before
    images = torch.rand(batch, 3, ASKED["size"], ASKED["size"], device=device)

    @torch.inference_mode()
    def forward() -> None:
        model(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with FlopCounterMode(display=False) as counter:
        forward()
    benchmark(forward)
    benchmark.extra_info.update(
        model=owned.spec.name,
        batch=batch,
        size=ASKED["size"],
        device=str(device),
        threads=ASKED["threads"],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops_per_image=counter.get_total_flops() // batch,
        peak_memory_mib=round(peak_bytes(device) / 2**20, 1),
    )
