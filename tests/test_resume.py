"""Stopped at any moment and started again, a run ends in the same records, byte for byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import environment, records_of


def start(tmp_path, arguments, runs):
    command = [sys.executable, "-m", "deeploc_bench", "run", *map(str, arguments), "--runs", str(runs)]
    log = (tmp_path / f"{runs}-{len(list(tmp_path.glob('*.log')))}.log").open("w")
    with log:
        return subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_killed_after_an_epoch_it_ends_in_the_same_records(tmp_path, tiny, optimizer):
    arguments = [*tiny, "--set", "epochs=6", "--set", f"optimizer={optimizer}", "--set", "blur_probability=0.5"]
    arguments += ["--set", "blur_sigma=2.0"]
    assert start(tmp_path, arguments, "whole").wait() == 0
    process = start(tmp_path, arguments, "killed")
    wait_for(lambda: list((tmp_path / "killed").rglob("resume.safetensors")), process)
    process.kill()
    process.wait()
    assert list((tmp_path / "killed").rglob("resume.safetensors"))
    assert start(tmp_path, arguments, "killed").wait() == 0
    assert records_of(tmp_path / "killed") == records_of(tmp_path / "whole")


@pytest.mark.slow
def test_killed_again_and_again_at_random_moments_it_ends_in_the_same_records(tmp_path, tiny):
    arguments = [*tiny, "--set", "epochs=8"]
    assert start(tmp_path, arguments, "whole").wait() == 0
    moments = random.Random(0)
    for _ in range(8):
        process = start(tmp_path, arguments, "killed")
        wait_for(lambda: False, process, moments.uniform(3, 9))
        process.kill()
        process.wait()
    assert start(tmp_path, arguments, "killed").wait() == 0
    assert records_of(tmp_path / "killed") == records_of(tmp_path / "whole")
    assert not [path for path in (tmp_path / "killed").rglob(".*-*")]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_with_its_exit_code_and_says_how_to_go_on(tmp_path, tiny, number, code):
    process = start(tmp_path, [*tiny, "--set", "epochs=500"], "runs")
    wait_for(lambda: list((tmp_path / "runs").rglob("resume.safetensors")), process)
    process.send_signal(number)
    process.wait(timeout=60)
    said = (tmp_path / "runs-0.log").read_text()
    assert process.returncode == code
    assert "Run the same command again to go on" in said and "Traceback" not in said


@pytest.mark.slow
def test_two_processes_never_do_the_same_training(tmp_path, tiny):
    arguments = [*tiny, "--set", "epochs=4"]
    both = [start(tmp_path, arguments, "runs") for _ in range(2)]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    trained = [int(log.read_text().splitlines()[-1].split()[0]) for log in tmp_path.glob("*.log")]
    assert sum(trained) == 2
