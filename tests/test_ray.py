"""Trainings fanned out over Ray: the records of a local run, whatever is stopped, killed or lost meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import environment, printed_json, records_of
from test_resume import results_of, start, wait_for

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.training.engines import Workplace
from deeploc_bench.training.ray_cluster import Share, share_of

pytest.importorskip("ray")
TESTS = Path(__file__).parent
SETTINGS = ["epochs=12", "batch_size=4", "size=32", "lr=1.0", "blur_probability=0.5", "blur_sigma=1.0"]
EASY = ["--suite", "easy", "--model", "small", "--protocol", "same", "--recipe", "quick", "--threads", "1"]
EASY += ["--plugin", "no:baselines", *(word for one in SETTINGS for word in ("--set", one))]
# a loss that waits, so that a training is met in its middle
SLOW = """
import time
from deeploc_bench import Loss, hookimpl

def build():
    from torch.nn import functional as F

    def loss(logits, masks):
        time.sleep(0.05)
        return F.binary_cross_entropy_with_logits(logits, masks)

    return loss

@hookimpl
def deeploc_losses():
    return [Loss(name="slow", build=build)]
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with the plugins of a slow run, and that run done here, of two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "slow.py").write_text(SLOW)
    shutil.copy(TESTS / "easy.py", folder / "easy.py")
    assert start(folder, arguments(), "runs").wait() == 0
    return folder


def arguments(*more):
    return [*EASY, "--plugin", "easy.py", "--plugin", "slow.py", "--loss", "slow", "--seed", "0", "--seed", "1", *more]


@pytest.fixture
def folder(whole, tmp_path):
    for plugin in whole.glob("*.py"):
        shutil.copy(plugin, tmp_path)
    return tmp_path


def states(folder):
    return list(folder.rglob("resume.safetensors"))


def begun_on_ray(folder, how_many=2):
    """Start a run on Ray, and return it when so many trainings have finished an epoch."""
    process = start(folder, arguments("--engine", "ray"), "runs")
    wait_for(lambda: len(states(folder)) >= how_many, process)
    assert len(states(folder)) >= how_many, said_in(folder)
    return process


def said_in(folder):
    return "".join(log.read_text() for log in sorted(folder.glob("*.log")))


def workers_of(process):
    """Return the process ids of the workers that do a training, of the Ray that a process has started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    found = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    parents = {int(one): int(parent) for one, parent, _ in found}
    trainings = [int(one) for one, _, command in found if command.startswith("ray::do_remotely")]
    return [one for one in trainings if parents[parents[one]] == process.pid]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_on_ray_that_is_stopped_goes_on_after_its_last_epoch(whole, folder, number, code):
    process = begun_on_ray(folder)
    process.send_signal(number)
    while number != signal.SIGKILL and process.poll() is None:  # whoever is impatient changes nothing
        time.sleep(0.3)
        process.send_signal(number)
    assert process.wait() == code
    said = said_in(folder)
    assert "Traceback" not in said and ("Run the same command again to go on" in said) == (code > 0), said
    assert len(states(folder)) == 2
    assert start(folder, arguments("--engine", "ray" if code < 0 else "local"), "runs").wait() == 0
    first = [int(line.partition(": epoch ")[2].split()[0]) for line in said_in(folder)[len(said) :].splitlines()[:1]]
    assert first > [1]
    assert results_of(folder / "runs") == results_of(whole / "runs")


@pytest.mark.slow
def test_a_killed_worker_costs_the_epoch_that_runs(whole, folder):
    process = begun_on_ray(folder)
    killed = workers_of(process)
    assert len(killed) == 2
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=200) == 0, said_in(folder)
    said = said_in(folder)
    assert said.count("its worker died; it goes on after epoch") == 2 and "after epoch 0" not in said
    for seed in (0, 1):
        assert said.count(f"seed {seed}: epoch 1 of 12") == said.count(f"seed {seed}: epoch 12 of 12") == 1
    assert results_of(folder / "runs") == results_of(whole / "runs")


@contextmanager
def cluster(nodes):
    command = [sys.executable, TESTS / "cluster.py", str(nodes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running.stdout.readline().strip(), running
        finally:
            running.stdin.close()


@pytest.mark.slow
def test_a_lost_node_costs_an_epoch_and_the_others_need_no_file_of_ours(whole, folder, monkeypatch):
    with cluster(2) as (address, running):  # the node of the driver has no CPU to train with
        monkeypatch.setenv("RAY_ADDRESS", address)
        process = begun_on_ray(folder)
        shutil.move(folder / "easy.py", folder / "gone.py")  # what begins from here on has what was shipped
        running.stdin.write("kill\n")
        running.stdin.flush()
        assert process.wait(timeout=300) == 0, said_in(folder)
        said = said_in(folder)
        assert said.count("its worker died; it goes on after epoch") == 1 and "after epoch 0" not in said, said
        assert results_of(folder / "runs") == results_of(whole / "runs")


FAULTY = """
import os, signal, sys
from deeploc_bench import Model, hookimpl

def build(end):
    from torch import nn

    class Net(nn.Conv2d):
        def forward(self, images):
            print("a word of", end)
            if "default_worker" in sys.argv[0]:  # not where it is rehearsed
                {"exit": lambda: sys.exit(0), "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV)}[end]()
            return super().forward(images)

    return lambda: Net(3, 1, 3, padding=1)

@hookimpl
def deeploc_models():
    return [Model(name=end, build=build(end), reference=None, pretraining="none") for end in ("exit", "segfault")]
"""


@pytest.mark.slow
def test_a_training_that_ends_its_worker_fails_alone_and_is_not_tried_for_ever(whole, folder):
    (folder / "faulty.py").write_text(FAULTY)
    more = ["--plugin", "faulty.py", "--model", "exit", "--model", "segfault", "--engine", "ray"]
    process = start(folder, arguments(*more), "runs")
    assert process.wait(timeout=300) == 1
    said = said_in(folder)
    assert said.count("its worker died 3 times before another epoch was finished") == 2, said
    assert said.count("would end the program: SystemExit: 0") == 2 and "Traceback" not in said
    assert "exit + slow on bright seed 0: a word of exit" in said
    assert records_of(folder / "runs/easy/small+slow") == records_of(whole / "runs/easy/small+slow") != {}
