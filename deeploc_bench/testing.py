"""The kit for plugin authors: a tiny suite, a registry, `assert_conforms`, and the command line in a folder.

In a test file: `pytest_plugins = ["deeploc_bench.testing"]` gives the fixtures. As a plugin (`--plugin
deeploc_bench.testing`) it offers the suite `tiny`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from deeploc_bench.conformance.checking import check, with_specs
from deeploc_bench.contract.hookspecs import hookimpl
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import AUTHENTIC, SPLITS, GeneratorDataset, Image, Mask, Sample, Samples, Spec

TINY_SIDE = 64
TINY_SAMPLES = {"train": 16, "valid": 6, "test": 10}
"""Samples of each split and generator of the tiny suite, two of each source."""

__all__ = ["assert_conforms", "bare_registry", "command", "registry_of", "run_command", "tiny_suite"]


def assert_conforms(
    what: str | Path | Spec, *, data: str | Path | None = None, registry: Registry | None = None
) -> None:
    """Make every check of `deeploc-bench check` on a spec, a name, or all that a plugin's file offers.

    `data` is the folder of a generator dataset's images, `registry` what plugins there are beside it (by default the
    installed ones). Raises AssertionError with the checks that failed, what they found and what to change, DeeplocError
    where there is nothing to check.
    """
    asked = str(what) if isinstance(what, Path) else what
    found = check(asked, data=str(data) if data else None, registry=registry)
    failed = [checked.text for checked in found if not checked.is_ok]
    assert not failed, "\n".join(failed)


def registry_of(*plugins: str | Path | ModuleType | Spec) -> Registry:
    """Return a registry of some modules, files or specs, without any installed plugin; raises PluginError."""
    specs = [one for one in plugins if not isinstance(one, str | Path | ModuleType)]
    named = [one.__name__ if isinstance(one, ModuleType) else str(one) for one in plugins if one not in specs]
    return with_specs(load_plugins(named, installed=False), specs)


def run_command(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `deeploc-bench` with these arguments in a folder, in a process of its own; returns it when it has ended.

    `variables` are added to the environment, of which nothing that begins with DEEPLOC_ is passed on.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DEEPLOC_")}
    command = [sys.executable, "-m", "deeploc_bench", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env={**kept, **variables}, capture_output=True, text=True)


def tiny_suite() -> list[GeneratorDataset]:
    """Return a suite drawn in memory, which a small network learns in seconds: 64 x 64, no face, no photograph.

    Generators `stripes`, `dots` and `noise` fill the same part of the same drawn images; `authentic` leaves them.
    """
    generators = [
        GeneratorDataset(name=name, suite="tiny", build=partial(_samples, name), default_model="residual-unet")
        for name in FILLS
    ]
    authentic = GeneratorDataset(
        name=AUTHENTIC, suite="tiny", build=partial(_samples, AUTHENTIC), role="test-only", default_recipe="quick"
    )
    return [*generators, authentic]


@hookimpl
def deeploc_datasets() -> list[GeneratorDataset]:
    """Return the tiny suite."""
    return tiny_suite()


@pytest.fixture
def bare_registry() -> Registry:
    """Return a registry without any plugin."""
    return registry_of()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return `run_command` in an empty folder."""
    yield partial(run_command, tmp_path)


def _samples(generator: str) -> Samples:
    splits = SPLITS if generator != AUTHENTIC else ("test",)
    step = 2 if generator == AUTHENTIC else 1  # one untouched image of each source
    return {split: [_sample(generator, split, i) for i in range(0, TINY_SAMPLES[split], step)] for split in splits}


def _sample(generator: str, split: str, number: int) -> Sample:
    mask = None if generator == AUTHENTIC else partial(_mask, split, number)
    image = partial(_image, generator, split, number)
    return Sample(id=f"{split}-{number:02}", source=f"{split}-{number // 2}", image=image, mask=mask)


def _mask(split: str, number: int) -> Mask:
    random = np.random.default_rng([SPLITS.index(split), number])
    mask = np.zeros((TINY_SIDE, TINY_SIDE), np.bool_)
    top, left = random.integers(0, TINY_SIDE - 24, 2)
    mask[top : top + 24, left : left + 24] = True
    return mask


def _image(generator: str, split: str, number: int) -> Image:
    """Draw a source's soft gradient with grain, and fill the mask's part of it."""
    random = np.random.default_rng([SPLITS.index(split), number // 2, 1])
    rows, columns = np.mgrid[0:TINY_SIDE, 0:TINY_SIDE] / TINY_SIDE
    slopes = random.uniform(-60, 60, (2, 3))
    image = 128 + rows[..., None] * slopes[0] + columns[..., None] * slopes[1]
    image += random.normal(0, 6, image.shape)
    if generator != AUTHENTIC:
        mask = _mask(split, number)
        image[mask] += FILLS[generator](rows, columns, random)[mask][:, None]
    pixels: Image = image.clip(0, 255).round().astype(np.uint8)
    return pixels


FILLS = {
    "stripes": lambda rows, columns, random: 40 * np.sign(np.sin(TINY_SIDE * columns * 1.6)),
    "dots": lambda rows, columns, random: 60.0 * ((TINY_SIDE * rows % 4 < 2) & (TINY_SIDE * columns % 4 < 2)),
    "noise": lambda rows, columns, random: random.normal(0, 35, rows.shape),
}
"""What each generator adds to the part that it fills, in grey levels (H, W)."""
