"""How torch's threads wait: set before torch is imported, however a program begins, and never against the user."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import environment

from deeploc_bench.contract.waiting import CHOICES, ROUNDS

SHOWN = f"import os\nprint({{name: os.environ.get(name) for name in {CHOICES}}})"


def variables(code="import deeploc_bench", **extra):
    own = {name: value for name, value in environment().items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOWN}"], env={**own, **extra}, capture_output=True, text=True, check=True
    )
    return {name: value for name, value in eval(done.stdout).items() if value is not None}


def test_the_package_sets_how_threads_wait():
    assert variables() == {"GOMP_SPINCOUNT": ROUNDS}


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "0"}])
def test_what_the_user_has_set_stays_alone(chosen):
    assert variables(**chosen) == chosen


def test_where_torch_is_loaded_already_nothing_is_set():
    assert variables("import sys; sys.modules['torch'] = sys\nimport deeploc_bench") == {}


@pytest.mark.slow
@pytest.mark.parametrize("begin", ["from deeploc_bench.cli import main", "from deeploc_bench import run, check"])
def test_the_library_that_torch_loads_has_read_it(begin):
    code = [sys.executable, "-c", f"{begin}\nimport torch"]
    own = {name: value for name, value in environment().items() if name not in CHOICES}
    said = subprocess.run(code, env={**own, "OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True).stderr
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("this torch has another OpenMP library than libgomp")
    assert f"GOMP_SPINCOUNT = '{ROUNDS}'" in said
