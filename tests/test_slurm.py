"""The job script of docs/slurm.md, under bash and with real signals; only Slurm's own commands are stand-ins."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import environment, records_of
from test_docs import ROOT, blocks_of

from deeploc_bench.plan import store
from deeploc_bench.training.turns import free_first

TESTS = Path(__file__).parent
TINY = ["--plugin", TESTS / "tiny.py", "--plugin", TESTS / "easy.py", "--suite", "tiny", "--model", "small"]
TINY += ["--recipe", "quick", "--threads", "1", "--set", "epochs=10", "--set", "size=32"]


def test_trainings_that_another_run_is_at_come_last(tmp_path):
    trainings = [SimpleNamespace(place=name) for name in "abc"]
    turns = free_first(trainings, tmp_path)
    with store.locked(tmp_path / "a"):
        assert [next(turns).place for _ in range(3)] == ["b", "c", "a"]
    assert not store.is_locked(tmp_path / "a") and not (tmp_path / "b").exists()


@pytest.fixture
def job(tmp_path):
    """Return what starts the script of the page in a folder, as Slurm starts an element of an array."""
    (block,) = (block for block in blocks_of(ROOT / "docs/slurm.md") if block.file == "job.sh")
    (tmp_path / "job.sh").write_text(block.text)
    commands = {
        "deeploc-bench": f'exec {shlex.join(map(str, [sys.executable, "-m", "deeploc_bench"]))} "$@" $TINY',
        "scontrol": 'echo "$@" >> asked',
    }
    (tmp_path / "bin").mkdir()
    for name, code in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "1"}
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TINY": shlex.join(map(str, TINY))}
    return lambda: subprocess.Popen(
        ["bash", "job.sh"], cwd=tmp_path, env=environment(**slurm, **path), stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_preempted_job_is_requeued_and_ends_in_the_records_of_an_undisturbed_one(job, deeploc, tmp_path):
    preempted = job()
    while not list(tmp_path.glob("runs/**/resume.safetensors")):
        assert preempted.poll() is None, preempted.stderr.read()
        time.sleep(0.02)
    preempted.send_signal(signal.SIGTERM)
    said = preempted.communicate(timeout=60)[1]
    assert (preempted.returncode, "what is finished is saved" in said) == (143, True), said
    assert (tmp_path / "asked").read_text() == "requeue 70_1\n"
    elements = [job(), job()]
    assert [(element.communicate(timeout=200), element.returncode)[1] for element in elements] == [0, 0]
    assert (tmp_path / "asked").read_text() == "requeue 70_1\n"
    flags = ["--protocol", "same", "--protocol", "loo", "--seed", "0", "--seed", "1", "--seed", "2"]
    assert deeploc("run", *flags, *TINY, "--runs", "whole").returncode == 0
    assert records_of(tmp_path / "runs") == records_of(tmp_path / "whole") != {}
