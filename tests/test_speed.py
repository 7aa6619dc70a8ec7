"""The cost of a model is measured."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_speed_measures_a_model_and_counts_its_parameters_and_operations(deeploc, two_layer):
    done = deeploc("speed", "two-layer", "--plugin", two_layer, "--threads", "1", "--json")
    (found,) = json.loads(done.stdout)
    assert found["parameters"] == 3 * 16 * 9 + 16 + 16 + 1
    assert found["flops_per_image"] == 2 * 64 * 64 * (3 * 16 * 9 + 16)
    assert found["latency_ms"] > 0 and found["images_per_second"] > 0 and found["peak_memory_mib"] > 0
    unknown = deeploc("speed", "residual-unett")
    assert (unknown.returncode, "Did you mean 'residual-unet'?" in unknown.stderr) == (2, True)
