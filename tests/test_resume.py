"""Stopped at any moment and started again, a run ends in the same records, byte for byte."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment


def start(tmp_path, arguments, runs):
    command = [sys.executable, "-m", "deeploc_bench", "run", *map(str, arguments), "--runs", str(runs)]
    log = (tmp_path / f"{runs}-{len(list(tmp_path.glob('*.log')))}.log").open("w")
    with log:
        return subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def results_of(runs):
    """Return all that a finished run leaves but for its times: epochs, models, records and examples."""
    found = {str(path.relative_to(runs)): path for path in sorted(runs.rglob("*")) if path.is_file()}
    files = {name: path.read_bytes() for name, path in found.items() if path.suffix in (".safetensors", ".png")}
    tables = {name: path.read_text().splitlines() for name, path in found.items() if path.suffix == ".csv"}
    tables |= {name: [line.rpartition(",")[0] for line in tables[name]] for name in tables if "epochs.csv" in name}
    return files | tables, sorted(name for name in found if not name.endswith(".lock"))


def is_same(one, other):
    """Tell whether two runs ended in the same files; something was learned, and the first epoch is not the best."""
    (table,) = one.rglob("epochs.csv")
    curve = [float(line.split(",")[2]) for line in table.read_text().splitlines()[1:]]
    assert curve[0] < 0.5 < max(curve)
    return results_of(one) == results_of(other)


@pytest.fixture
def easy():
    """Return the arguments of a run that learns its suite in a second, and whose best epoch is not always its last."""
    settings = ["batch_size=4", "size=32", "lr=1.0", "blur_probability=0.5", "blur_sigma=1.0"]
    flags = ["--plugin", Path(__file__).parent / "easy.py", "--suite", "easy", "--model", "small", "--protocol", "same"]
    return [*flags, "--recipe", "quick", "--threads", "1", *(word for one in settings for word in ("--set", one))]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_killed_after_an_epoch_it_ends_in_the_same_files(tmp_path, easy, optimizer):
    arguments = [*easy, "--set", "epochs=12", "--set", f"optimizer={optimizer}"]
    assert start(tmp_path, arguments, "whole").wait() == 0
    process = start(tmp_path, arguments, "killed")
    wait_for(lambda: list((tmp_path / "killed").rglob("resume.safetensors")), process)
    process.kill()
    process.wait()
    assert list((tmp_path / "killed").rglob("resume.safetensors"))
    assert start(tmp_path, arguments, "killed").wait() == 0
    assert is_same(tmp_path / "whole", tmp_path / "killed")


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
