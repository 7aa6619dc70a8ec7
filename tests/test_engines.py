"""Trainings fanned out over Ray, and one training over several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import environment, printed_json, records_of
from msgspec.structs import replace
from runs import facts_of, write_training

from deeploc_bench.contract.errors import (
    DataError,
    DeeplocError,
    PluginError,
    StoreError,
    TrainingFailed,
    UsageError,
    WeightsError,
)
from deeploc_bench.contract.isolation import Stopped
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import current_facts
from deeploc_bench.training.failures import failing_alone


@pytest.mark.slow
def test_ray_ends_in_the_same_records_as_a_local_run_and_tells_of_failures(deeploc, tiny, tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "nan_loss.py").write_text(
        "from deeploc_bench import Loss, hookimpl\n"
        "def build():\n    return lambda logits, masks: (logits * float('nan')).mean()\n"
        "@hookimpl\ndef deeploc_losses():\n    return [Loss(name='nan-loss', build=build)]\n"
    )
    flags = ["--plugin", "nan_loss.py", "--loss", "jaccard", "--set", "epochs=2"]
    here = deeploc("run", *tiny, *flags, "--runs", "here")
    there = deeploc("run", *tiny, *flags, "--runs", "there", "--engine", "ray")
    assert there.stdout.replace("there", "here") == here.stdout, there.stderr
    assert records_of(tmp_path / "there") == records_of(tmp_path / "here")
    fits = [sorted((tmp_path / runs / "tiny/local-noise").rglob("model.safetensors")) for runs in ("here", "there")]
    assert len(fits[0]) == 2 and [one.read_bytes() for one in fits[0]] == [one.read_bytes() for one in fits[1]]
    failing = deeploc("run", *tiny, *flags, "--loss", "nan-loss", "--runs", "there", "--engine", "ray")
    assert failing.returncode == 1
    assert failing.stderr.count("the loss is nan in epoch 1") == 2


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
    pytest.importorskip("ray")
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


FOREIGN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4", "SLURM_NTASKS": "4"}
FOREIGN |= {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMI_SIZE": "4", "PMI_RANK": "3"}


def test_only_torchrun_makes_several_processes_one(monkeypatch):
    for key, value in FOREIGN.items():
        monkeypatch.setenv(key, value)
    assert (ranks.processes(), ranks.rank(), ranks.processes_here(), ranks.is_leader()) == (1, 0, 1, True)
    with ranks.launchers_hidden():
        assert not {key for key in FOREIGN if not key.startswith("SLURM")} & set(os.environ)
    assert os.environ["PMI_SIZE"] == "4"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert (ranks.processes(), ranks.rank(), ranks.processes_here(), ranks.is_leader()) == (4, 3, 4, False)


@pytest.mark.slow
def test_what_mpirun_and_slurm_set_disturbs_no_run(deeploc, tiny, tmp_path):
    flags = ["run", *tiny, "--set", "epochs=1", "--json"]
    plain = deeploc(*flags, "--runs", "plain")
    odd = deeploc(*flags, "--runs", "odd", **FOREIGN)
    assert (odd.returncode, odd.stdout) == (0, plain.stdout), odd.stderr
    assert records_of(tmp_path / "odd") == records_of(tmp_path / "plain") != {}


@pytest.mark.slow
def test_what_failed_is_told_at_once_and_no_table_is_shown_where_all_failed(deeploc, tiny, tmp_path):
    (tmp_path / "nan_loss.py").write_text(
        "from deeploc_bench import Loss, hookimpl\n"
        "def build():\n    return lambda logits, masks: (logits * float('nan')).mean()\n"
        "@hookimpl\ndef deeploc_losses():\n    return [Loss(name='nan-loss', build=build)]\n"
    )
    flags = ["run", *tiny, "--plugin", "nan_loss.py", "--loss", "nan-loss", "--set", "epochs=1"]
    done = deeploc(*flags)
    assert (done.returncode, done.stdout) == (1, "0 trained, 0 reused, 2 failed · runs\n")
    lines = [line for line in done.stderr.splitlines() if line.startswith(("failed: ", "all "))]
    assert [line[:36] for line in lines[:2]] == 2 * ["failed: tiny/residual-unet+nan-loss/"]
    assert lines[2:] == ["all that was asked for failed, so that there are no scores to show"]
    found = printed_json(deeploc(*flags, "--json"))
    assert len(found["failed"]) == 2 and {cell["loss"] for cell in found["cells"]} == {None}
    loud = deeploc("--debug", *flags)
    assert "Traceback" in loud.stderr and "Traceback" not in done.stderr
    both = deeploc(*flags, "--loss", "jaccard")
    assert both.returncode == 1 and "residual-unet + jaccard" in both.stdout


def torchrun(tmp_path, processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    command += ["-m", "deeploc_bench", "run", *arguments]
    return subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_two_processes_share_each_training_and_test_it_to_the_records_of_one(deeploc, tiny, tmp_path):
    flags = [*tiny, "--set", "epochs=2", "--set", "blur_probability=0.5", "--set", "blur_sigma=2.0", "--json"]
    both = torchrun(tmp_path, 2, *flags)
    assert both.returncode == 0, both.stderr
    assert printed_json(both)["trained"] == 2
    written = records_of(tmp_path / "runs")
    for folder in {path.parent for path in (tmp_path / "runs").rglob("model.safetensors")}:
        assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    for path in (tmp_path / "runs").rglob("test-*"):
        path.unlink()
    alone = printed_json(deeploc("run", *flags))
    assert (alone["trained"], alone["reused"]) == (0, 2)
    assert records_of(tmp_path / "runs") == written


@pytest.mark.slow
def test_a_training_of_two_processes_goes_on_with_two_and_not_with_one(deeploc, tiny, tmp_path):
    flags = [*tiny, "--set", "epochs=4"]
    assert torchrun(tmp_path, 2, *flags, "--runs", "whole").returncode == 0
    # the first training stops where an observer kills its process, after the second epoch
    (tmp_path / "stop.py").write_text(
        "import os, signal\nfrom deeploc_bench import hookimpl\n"
        "@hookimpl\ndef deeploc_epoch_finished(training, epoch):\n"
        "    if epoch.epoch == 2:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert torchrun(tmp_path, 2, *flags, "--plugin", "stop.py").returncode != 0
    alone = deeploc("run", *flags)
    assert (alone.returncode, "was begun by 2 processes" in alone.stderr) == (2, True)
    again = torchrun(tmp_path, 2, *flags)
    assert again.returncode == 0, again.stderr
    assert records_of(tmp_path / "runs") == records_of(tmp_path / "whole")


def test_what_is_known_of_a_suite_today_replaces_what_was_recorded_when_a_training_was_made(tmp_path):
    recorded = facts_of(("b",), extra=("x",))
    today = replace(recorded, fingerprint="0" * 32, methods={"x": "b"})
    folder = write_training(tmp_path, recorded, {})
    assert current_facts(SimpleNamespace(facts=today), folder) == today


@pytest.mark.parametrize("error", [PluginError, WeightsError, DataError, DeeplocError, MemoryError])
def test_what_only_one_training_meets_fails_it_alone(error):
    with pytest.raises(TrainingFailed, match="no room"), failing_alone():
        raise error("no room")


@pytest.mark.parametrize("error", [StoreError, UsageError, ValueError, Stopped])
def test_what_all_trainings_meet_stops_them_all(error):
    with pytest.raises(error, match="no room"), failing_alone():
        raise error("no room")


def test_one_of_several_processes_never_goes_on_alone(monkeypatch):
    monkeypatch.setattr(ranks, "processes", lambda: 2)
    with pytest.raises(MemoryError), failing_alone():
        raise MemoryError


def test_ray_under_torchrun_is_refused(deeploc):
    done = deeploc("run", "--engine", "ray", TORCHELASTIC_RUN_ID="none", WORLD_SIZE="2", RANK="0")
    assert (done.returncode, "without torchrun" in done.stderr) == (2, True)
