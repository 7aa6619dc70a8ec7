"""What the tests share: real processes, small suites on disk, and the plugin of the README."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from breaking import finish
from warm import command as command_of
from warm import commands, kept

from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.specs import Sample
from deeploc_bench.data.packs import pack

pytest_plugins = ["deeploc_bench.testing"]

IMPORTED = ("HF_", "PYTHON", "TORCH", "OMP_")
TWO_LAYER = '''"""A two-layer baseline."""
from deeploc_bench import Model, hookimpl

def build():
    from torch import nn
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1))

@hookimpl
def deeploc_models():
    return [Model(name="two-layer", build=build, reference="https://example.org/two-layer", pretraining="none")]
'''


def environment(**extra):
    return kept() | extra


def run_deeploc(folder, *arguments, **extra):
    """Run the real command in a folder, in a process that starts at once; returns the finished process.

    One whose environment says what libraries read when they are imported starts as any does.
    """
    if any(key.startswith(IMPORTED) for key in extra):
        command = [sys.executable, "-m", "deeploc_bench", *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=environment(**extra), capture_output=True, text=True)
    return commands().completed(folder, command_of(*arguments), environment(**extra))


@pytest.fixture
def deeploc(tmp_path):
    """Run the real command in an empty folder."""
    return partial(run_deeploc, tmp_path)


@pytest.fixture(scope="module")
def one_thread():
    """Small images are not worth the threads, which wait for each other where cores are shared."""
    import torch  # which not every test needs

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_layer(tmp_path):
    file = tmp_path / "two_layer.py"
    file.write_text(TWO_LAYER)
    return file


@pytest.fixture(scope="session")
def registry():
    return load_plugins()


@pytest.fixture
def tiny():
    """Return the arguments of a run that trains on the tiny suite in seconds."""
    plugin = Path(__file__).parent / "tiny.py"
    return ["--plugin", plugin, "--suite", "tiny", "--model", "residual-unet", "--recipe", "quick", "--threads", "1"]


@pytest.fixture
def small_pack(tmp_path):
    """Return a maker of packs of random images in memory."""

    def make(count, size=(40, 48), source="photo", seed=0):
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (count, *size, 3)).astype(np.uint8)
        masks = random.random((count, *size)) > 0.7
        samples = [
            Sample(id=f"image-{i:03}", source=f"{source}-{i // 2}", image=images[i].copy, mask=masks[i].copy)
            for i in range(count)
        ]
        return pack(samples, inverted=False, folder=Path(tmp_path), tick=lambda: None)

    return make


class Stopped(Exception):
    """Ends a fit after an epoch."""


def fit_until(training, folder, stop_after=None, device="cpu"):
    """Fit on a device, to the end or until an epoch is finished, when Stopped is raised."""
    import torch

    from deeploc_bench.data.suites import silent
    from deeploc_bench.training.fit import fit

    def on_epoch(epoch):
        if epoch.epoch == stop_after:
            raise Stopped

    fit(training, folder, device=torch.device(device), threads=1, progress=silent, on_epoch=on_epoch)


def records_of(runs):
    """Return the bytes of every records file below a runs folder, by relative path."""
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(Path(runs).rglob("test-*"))}


def printed_json(process):
    assert process.returncode in (0, 1), process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="session")
def forked():
    """Return a function that runs Python code in a process of its own, which starts at once."""
    return commands()


@pytest.fixture(scope="session")
def finished_runs(forked, tmp_path_factory):
    """Return a folder with finished trainings, a board with a submission, images, and a suite of files; copy it."""
    return finish(forked, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def tried(record_property):
    """Return a function by which a test tells how many faults of a kind it tried on what, and that nothing was lost."""
    return lambda kind, what, count: record_property("tried", [kind, what, count])


def pytest_terminal_summary(terminalreporter):
    told = {}
    for report in terminalreporter.getreports("passed"):
        for kind, what, count in (value for key, value in report.user_properties if key == "tried"):
            told.setdefault(kind, []).append((what, count))
    for kind, counts in told.items():
        each = ", ".join(f"{what} {count}" for what, count in counts)
        terminalreporter.write_line(f"{kind}: {sum(count for _, count in counts)} tried, 0 lost ({each})")
