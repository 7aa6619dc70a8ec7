"""Commands on a GPU, as processes: kills, devices that are not there, faults of a GPU, and several processes."""

from __future__ import annotations

import json
import subprocess
import sys

import torch
from cards import DEVICE, FLAGS, on_gpus, on_two_gpus
from conftest import environment, printed_json, records_of

STOP = """import os, signal
from deeploc_bench import hookimpl

@hookimpl
def deeploc_epoch_finished(training, epoch):
    if epoch.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""
WRONG = '''"""A model that looks up what is not there, but for the two images that it is tried with."""
from deeploc_bench import Model, hookimpl

def build():
    import torch

    class Wrong(torch.nn.Conv2d):
        def forward(self, images):
            index = torch.arange(len(images), device=images.device) + (10**6 if len(images) > 2 else 0)
            return super().forward(images)[index]

    return Wrong(3, 1, 1)

@hookimpl
def deeploc_models():
    return [Model(name="wrong", build=build, reference=None, pretraining="none")]
'''
SETTINGS = [word for one in ("epochs=4", "size=32", "lr=0.5", "blur_probability=0.5") for word in ("--set", one)]
FAST = [*FLAGS, *SETTINGS]


def epochs_of(runs):
    tables = {path: path.read_text().splitlines() for path in sorted(runs.rglob("epochs.csv"))}
    return [[line.rpartition(",")[0] for line in lines] for lines in tables.values()]


def test_killed_after_an_epoch_it_ends_in_the_same_records(deeploc, tmp_path):
    (tmp_path / "stop.py").write_text(STOP)
    assert deeploc("run", *FAST, "--runs", "whole").returncode == 0
    assert deeploc("run", *FAST, "--plugin", "stop.py").returncode == -9
    assert list((tmp_path / "runs").rglob("resume.safetensors"))
    again = deeploc("run", *FAST)
    assert again.returncode == 0, again.stderr
    assert records_of(tmp_path / "runs") == records_of(tmp_path / "whole") != {}
    assert epochs_of(tmp_path / "runs") == epochs_of(tmp_path / "whole")
    (made,) = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("small*/**/environment.json")]
    assert made["torch_device"] == str(DEVICE) and made["peak_memory_mib"] > 0


def test_a_training_is_tested_on_a_cpu_and_predicts_there(deeploc, tmp_path):
    assert deeploc("run", *FAST).returncode == 0
    for path in (tmp_path / "runs").rglob("test-*"):
        path.unlink()
    done = deeploc("run", *FAST, "--device", "cpu", "--json")
    assert printed_json(done)["trained"] == 0 and records_of(tmp_path / "runs")


@on_gpus
def test_a_gpu_that_is_not_there_is_one_message(deeploc, tmp_path):
    done = deeploc("run", *FAST, "--device", f"cuda:{torch.cuda.device_count()}")
    assert done.returncode == 2 and ": this machine has" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


@on_gpus
def test_a_gpu_that_has_stopped_to_answer_is_one_message_and_the_rest_is_done_by_the_next_run(deeploc, tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    done = deeploc("run", *FAST, "--plugin", "wrong.py", "--model", "wrong")
    assert done.returncode == 2 and "does not answer any more" in done.stderr and "Traceback" not in done.stderr
    assert deeploc("run", *FAST).returncode == 0


def torchrun(folder, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "deeploc_bench", "run", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)


@on_two_gpus
def test_two_gpus_share_each_training_and_test_it_to_the_records_of_one(deeploc, tmp_path):
    both = torchrun(tmp_path, *FAST, "--json")
    assert both.returncode == 0, both.stderr
    written = records_of(tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("test-*"):
        path.unlink()
    assert printed_json(deeploc("run", *FAST, "--json"))["trained"] == 0
    assert records_of(tmp_path / "runs") == written != {}
