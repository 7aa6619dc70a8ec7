"""Trainings fanned out over Ray: the records of a local run, whatever is stopped, killed or lost meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import records_of
from test_resume import results_of, start, wait_for

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.data.suites import silent
from deeploc_bench.training.ray_cluster import Share, Stops, installed, joined, share_of
from deeploc_bench.training.workplace import Workplace

pytest.importorskip("ray")
TESTS = Path(__file__).parent
SETTINGS = ["epochs=30", "batch_size=4", "size=32", "lr=1.0", "blur_probability=0.5", "blur_sigma=1.0"]
EASY = ["--suite", "easy", "--model", "small", "--protocol", "same", "--recipe", "quick", "--threads", "1"]
EASY += ["--plugin", "no:baselines", *(word for one in SETTINGS for word in ("--set", one))]


@pytest.mark.slow
def test_ray_ends_in_the_same_records_and_fits_as_a_local_run(deeploc, tiny, tmp_path):
    here = deeploc("run", *tiny, "--set", "epochs=2", "--runs", "here")
    there = deeploc("run", *tiny, "--set", "epochs=2", "--runs", "there", "--engine", "ray")
    assert there.stdout.replace("there", "here") == here.stdout, there.stderr
    assert records_of(tmp_path / "there") == records_of(tmp_path / "here")
    fits = [sorted((tmp_path / runs / "tiny/local-noise").rglob("model.safetensors")) for runs in ("here", "there")]
    assert len(fits[0]) == 2 and [one.read_bytes() for one in fits[0]] == [one.read_bytes() for one in fits[1]]


HEARER = """
from deeploc_bench import hookimpl

def hear(what, training, folder, more=""):
    assert (folder / "training.json").exists() or what == "started"
    print("HEARD", what, training.what, training.train_generators, folder, more)

@hookimpl
def deeploc_training_started(training, folder):
    hear("started", training, folder)

@hookimpl
def deeploc_epoch_finished(training, folder, epoch):
    print("HEARD epoch", training.what, training.train_generators, folder, epoch.epoch, epoch.valid_iou)

@hookimpl
def deeploc_training_finished(training, folder, records):
    hear("finished", training, folder, {name: found.tp.sum() for name, found in records.items()})

@hookimpl
def deeploc_training_reused(training, folder, records):
    hear("reused", training, folder, {name: found.tp.sum() for name, found in records.items()})
"""


def heard(done):
    assert done.returncode == 0, done.stderr
    return sorted(line for line in done.stderr.splitlines() if line.startswith("HEARD"))


@pytest.mark.slow
def test_observers_and_logs_hear_the_same_of_ray_as_of_a_local_run(deeploc, tiny, tmp_path):
    (tmp_path / "hearer.py").write_text(HEARER)
    flags = ["run", *tiny, "--plugin", "hearer.py", "--set", "epochs=2", "--runs", "runs"]
    runs = []
    for engine in ("local", "ray"):
        runs.append([deeploc(*flags, "--engine", engine) for _ in range(2)])
        shutil.rmtree(tmp_path / "runs")
    for here, there in zip(*runs, strict=True):
        assert heard(here) == heard(there) != []
        assert here.stderr.count(": epoch 2 of 2, loss") == there.stderr.count(": epoch 2 of 2, loss")
    assert runs[1][0].stderr.count(": epoch 2 of 2, loss") == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with plugins, and a run done with them done here, of two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    for plugin in ("held.py", "easy.py"):
        shutil.copy(TESTS / plugin, folder)
    assert start(folder, arguments(), "runs").wait() == 0
    return folder


def arguments(*more):
    return [*EASY, "--plugin", "easy.py", "--plugin", "held.py", "--loss", "held", "--seed", "0", "--seed", "1", *more]


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """A folder with those plugins, where a training is held in its middle for as long as there is the file `hold`."""
    for plugin in whole.glob("*.py"):
        shutil.copy(plugin, tmp_path)
    (tmp_path / "hold").touch()
    monkeypatch.setenv("HOLD", str(tmp_path / "hold"))
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
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_on_ray_as_it_does_here_however_often_it_comes(whole, folder, number, code):
    process = begun_on_ray(folder)
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.3)
    said = said_in(folder)
    assert process.returncode == code, said
    assert said.endswith("Run the same command again to go on.\n") and "Traceback" not in said
    assert len(states(folder)) == 2
    (folder / "hold").unlink()
    assert start(folder, arguments(), "runs").wait() == 0
    assert results_of(folder / "runs") == results_of(whole / "runs")


@pytest.mark.slow
def test_killed_workers_and_a_killed_driver_cost_the_epoch_that_runs(whole, folder):
    process = begun_on_ray(folder)
    killed = workers_of(process)
    assert len(killed) == 2
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: said_in(folder).count("its worker died; it goes on after epoch") == 2, process)
    wait_for(lambda: said_in(folder).count(": epoch 11 of 30") == 2, process)
    process.kill()
    assert process.wait() == -9
    (folder / "hold").unlink()
    assert start(folder, arguments("--engine", "ray"), "runs").wait() == 0
    said = said_in(folder)
    assert "after epoch 0" not in said and "Traceback" not in said
    for seed in (0, 1):  # nothing was done twice but for what a kill has cut off
        assert said.count(f"seed {seed}: epoch 1 of 30") == said.count(f"seed {seed}: epoch 30 of 30") == 1
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
        wait_for(lambda: "its worker died" in said_in(folder), process)
        (folder / "hold").unlink()
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
def test_a_training_that_fails_or_ends_its_worker_fails_alone_and_is_not_tried_for_ever(whole, folder):
    (folder / "hold").unlink()
    (folder / "faulty.py").write_text(FAULTY)
    models = [word for name in ("exit", "segfault") for word in ("--model", name)]
    flags = [*EASY, "--plugin", "easy.py", "--plugin", "held.py", "--plugin", "faulty.py", *models]
    process = start(folder, [*flags, "--loss", "held", "--loss", "nothing", "--engine", "ray"], "runs")
    assert process.wait(timeout=300) == 1, said_in(folder)
    said = said_in(folder)
    assert said.count("small+nothing/bright/seed0") == said.count("the loss is nan in epoch 1") == 1, said
    assert said.count("its worker died 3 times before another epoch was finished") == 2
    assert said.count("would end the program: SystemExit: 0") == 2 and "Traceback" not in said
    assert "exit + held on bright seed 0: a word of exit" in said
    (done,) = (folder / "runs/easy/small+held/bright").iterdir()
    assert records_of(done) == records_of(whole / "runs/easy/small+held/bright" / done.name) != {}


NODE, WITH_GPUS = {"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}


def share(nodes, *, has_cuda=True, **asked):
    place = Workplace(runs=Path("runs"), progress=silent, say=print, **asked)
    return share_of(nodes, place, lambda: has_cuda)


def test_each_training_gets_threads_and_a_gpu_or_a_part_of_one_of_a_node_that_has_them():
    assert share([NODE], threads=4) == Share(device="cpu", threads=4)
    assert share([NODE, WITH_GPUS], threads=4) == Share(device="cuda", threads=4, gpus=1.0)
    assert share([NODE, WITH_GPUS], threads=4, device="cpu") == Share(device="cpu", threads=4)
    assert share([WITH_GPUS], threads=4, has_cuda=False) == Share(device="cpu", threads=4)
    # all cores of this machine would be one training at a time
    assert share([NODE, WITH_GPUS], threads=64, is_threads_asked=False) == Share(device="cuda", threads=8, gpus=1.0)
    third = share([WITH_GPUS], threads=64, is_threads_asked=False, per_gpu=3)
    assert (third.threads, third.fitting(WITH_GPUS), third.fitting(NODE)) == (2, 24, 0)
    assert Share(device="cpu", threads=3).fitting(NODE) == 2


@pytest.mark.parametrize(
    ("nodes", "asked", "said"),
    [
        ([NODE], {"threads": 9}, "--threads 9: no node of the Ray cluster has so many CPUs; the largest has 8"),
        ([{"CPU": 99.0}, WITH_GPUS], {"threads": 65}, "no node with a GPU .* the largest has 64"),
        ([NODE], {"device": "cuda"}, "--device cuda: no node of the Ray cluster has a GPU"),
        ([WITH_GPUS], {"device": "cuda:1"}, "--device cuda:1: Ray gives each training its GPU"),
        ([NODE], {"per_gpu": 2}, "--per-gpu 2: these trainings run on the CPU"),
    ],
)
def test_what_no_node_has_is_told_and_not_waited_for(nodes, asked, said):
    with pytest.raises(UsageError, match=said):
        share(nodes, **asked)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "127.0.0.1:1: no Ray cluster can be joined there: ConnectionRefusedError"),
        ("ray://127.0.0.1:10001", "Ray Client is not supported"),
        ("nonsense", "that is no address. Allowed: auto, local, HOST:PORT"),
    ],
)
def test_an_address_where_no_cluster_is_is_told_at_once(address, said, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UsageError, match=said), joined(installed(), Stops(before={})):
        pass


def test_several_trainings_a_gpu_are_refused_where_one_is_done_at_a_time(deeploc):
    done = deeploc("run", "--per-gpu", "2")
    assert (done.returncode, "Add --engine ray" in done.stderr) == (2, True)


def test_ray_under_torchrun_is_refused(deeploc):
    done = deeploc("run", "--engine", "ray", TORCHELASTIC_RUN_ID="none", WORLD_SIZE="2", RANK="0")
    assert (done.returncode, "without torchrun" in done.stderr) == (2, True)
