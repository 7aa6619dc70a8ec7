"""`data make`, stopped by kills and full disks: the same command ends with the same bytes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import environment
from test_make import files_of, write_photographs
from warm import command

# counts the files that a command writes, and stops it at one: before, in its middle, before it is named; or as if full
STOP = """
import os, pathlib
from deeploc_bench.contract import files

stop_at, how, count = int(os.environ["STOP_AT"]), os.environ["STOP_HOW"], 0

def stopping(module, name, place):
    real = getattr(module, name)

    def call(*arguments, **options):
        global count
        if place == "before":
            count += 1
            pathlib.Path("writes").write_text(str(count))
        if count == stop_at and how == place:
            os.kill(os.getpid(), 9)
        if count == stop_at and how == "full" and place == "unsynced":
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    setattr(module, name, call)

stopping(files.tempfile, "mkstemp", "before")
stopping(files.os, "fsync", "unsynced")
stopping(files.os, "replace", "unnamed")
"""


@pytest.fixture
def folder(tmp_path):
    write_photographs(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("how", ["unnamed", "full"])
def test_stopped_at_any_write_a_make_goes_on_to_the_same_bytes(folder, how):
    def run(code, **stop):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment(**stop), capture_output=True, text=True
        )
        return done.returncode, done.stderr

    flags = ["data", "make", "--with", "makers.py", "--images", "photos", "-o", "set"]
    assert run(command(*flags, before=STOP), STOP_AT="0", STOP_HOW=how)[0] == 0
    kept, writes = files_of(folder / "set"), int((folder / "writes").read_text())
    for number in (2, writes // 2, writes):
        shutil.rmtree(folder / "set")
        code, told = run(command(*flags, before=STOP), STOP_AT=str(number), STOP_HOW=how)
        assert code == (2 if how == "full" else -9) and "Traceback" not in told, told
        code, told = run(command(*flags))
        assert code == 0 and files_of(folder / "set") == kept, (number, told)


@pytest.mark.slow
def test_killed_at_random_moments_a_make_goes_on_to_the_same_bytes(folder):
    random = np.random.default_rng(time.time_ns())
    asked = [sys.executable, "-m", "deeploc_bench", "data", "make", "--with", "makers.py:slow", "--images", "photos"]
    subprocess.run([*asked, "-o", "whole/set"], cwd=folder, env=environment(), check=True, capture_output=True)
    kills = 0
    for _ in range(30):
        running = subprocess.Popen([*asked, "-o", "set"], cwd=folder, env=environment(), stderr=subprocess.PIPE)
        while not (folder / "set").exists() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        running.send_signal(signal.SIGKILL)
        kills += running.wait() == -signal.SIGKILL
        running.stderr.close()
        if (folder / "set/fake/slow/maker.json").exists():
            break
    subprocess.run([*asked, "-o", "set"], cwd=folder, env=environment(), check=True, capture_output=True)
    assert kills >= 2 and files_of(folder / "set") == files_of(folder / "whole/set")
