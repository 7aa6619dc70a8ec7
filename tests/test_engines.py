"""Trainings done here, and one training over several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import environment, printed_json, records_of
from msgspec.structs import replace
from runs import facts_of, write_training
from test_resume import wait_for

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

TESTS = Path(__file__).parent
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


def begin_torchrun(tmp_path, processes, *arguments, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    command += ["-m", "deeploc_bench", "run", *arguments]
    return subprocess.Popen(list(map(str, command)), cwd=tmp_path, env=environment(), text=True, **options)


def torchrun(tmp_path, processes, *arguments):
    with begin_torchrun(tmp_path, processes, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


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


def children_of(process):
    """Return the process ids of what torchrun has started, by rank."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    pairs = [map(int, line.split()) for line in listed.splitlines()[1:]]
    environments = {one: Path(f"/proc/{one}/environ").read_text() for one, parent in pairs if parent == process.pid}
    ranks = {one: re.search(r"\0RANK=(\d+)", text) for one, text in environments.items()}
    return {int(found[1]): one for one, found in ranks.items() if found}


@pytest.mark.slow
def test_signals_end_several_processes_without_a_traceback_and_they_go_on(tmp_path, monkeypatch):
    plugins = [word for name in ("easy", "held") for word in ("--plugin", TESTS / f"{name}.py")]
    flags = ["--suite", "easy", "--model", "small", "--loss", "held", "--protocol", "same", "--recipe", "quick"]
    flags += [*plugins, "--plugin", "no:baselines", "--threads", "1", "--set", "batch_size=4", "--set", "size=32"]
    flags += ["--set", "epochs=30"]
    assert torchrun(tmp_path, 2, *flags, "--runs", "whole").returncode == 0
    monkeypatch.setenv("HOLD", str(tmp_path / "hold"))
    (tmp_path / "hold").touch()

    def stopped(stop):
        said, before = tmp_path / "said", {*tmp_path.glob("runs/**/resume.safetensors")}
        finished = max((path.stat().st_mtime_ns for path in before), default=0)
        with said.open("w") as log:
            process = begin_torchrun(tmp_path, 2, *flags, stdout=log, stderr=log, start_new_session=True)
        states = lambda: [path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/resume.safetensors")]  # noqa: E731
        wait_for(lambda: max(states(), default=0) > finished, process)
        stop(process)
        process.wait(timeout=100)
        return said.read_text()

    one = stopped(lambda process: os.kill(children_of(process)[1], signal.SIGTERM))
    assert "143 (pid: " in one and "/deeploc_bench/" not in one, one  # where a traceback would name our files
    both = stopped(lambda process: os.killpg(process.pid, signal.SIGINT))  # as Ctrl-C on a terminal
    assert "what is finished is saved. Run the same command" in both and "/deeploc_bench/" not in both, both
    (tmp_path / "hold").unlink()
    again = torchrun(tmp_path, 2, *flags)
    assert again.returncode == 0 and "epoch 1 of 30" not in again.stderr, again.stderr
    assert records_of(tmp_path / "runs") == records_of(tmp_path / "whole") != {}


def test_more_processes_than_a_batch_or_a_training_set_can_be_dealt_to_are_refused(monkeypatch):
    ranks.refuse_too_many("net", 1, 1)
    for key, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    ranks.refuse_too_many("net", 4, 8)
    with pytest.raises(UsageError, match=r"batch_size=3 of net .* 4 processes.* Start at most 3 .*--set batch_size=4"):
        ranks.refuse_too_many("net", 3, 100)
    with pytest.raises(UsageError, match=r"the 7 training images of net .* needs two. Start at most 3"):
        ranks.refuse_too_many("net", 16, 7)


@pytest.mark.slow
def test_a_batch_that_is_too_small_is_refused_before_anything_is_trained(tmp_path, tiny):
    done = torchrun(tmp_path, 2, *tiny, "--set", "batch_size=1")
    assert done.stderr.count("error: batch_size=1 of residual-unet + jaccard on ") == 1, done.stderr
    assert not list(tmp_path.glob("runs/*/residual-unet*")) and "/deeploc_bench/" not in done.stderr


@pytest.mark.slow
def test_a_process_that_follows_says_nothing_and_waits_until_its_leader_has_told(tmp_path):
    among = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1"}
    command = [sys.executable, "-m", "deeploc_bench", "run", "--suite", "nowhere"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(**among), stderr=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.terminate()
        assert (process.wait(timeout=30), process.stderr.read()) == (-signal.SIGTERM, b"")


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
