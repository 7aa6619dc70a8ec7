"""A runs folder of 200,000 records, two methods on 4 x 25,000 images, and what its tables take.

Run with: pytest tests/benchmarks/test_records.py --benchmark-only -o addopts=
"""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from runs import STANDARD, facts_of, others, records_of, write_training  # noqa: E402

IMAGES = 25_000
COMMANDS = {"results": ["results"], "compare": ["compare", "net+jaccard", "other+jaccard", "--runs"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    ids, sources = (tuple(f"{name}-{i // of:05}" for i in range(IMAGES)) for name, of in (("id", 1), ("source", 3)))
    for seed, model in enumerate(("net", "other")):
        ious = np.random.default_rng(seed).random((len(STANDARD), IMAGES))
        for test, values in zip(STANDARD, ious, strict=True):
            records = dataclasses.replace(records_of(values), ids=ids, sources=sources)
            write_training(folder, facts_of(others(test), model=model), {test: records})
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_tables_of_many_records(benchmark, name, runs, capsys):
    benchmark.group = "tables of 200,000 records"
    command = [sys.executable, "-m", "deeploc_bench", *COMMANDS[name], str(runs)]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=3)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    with capsys.disabled():
        print(f"\n{name}: peak memory {peak} MiB")
