"""Measures some steps of training alone and beside a busy loop, for several ways in which torch's threads may wait.

`python tests/benchmarks/neighbours.py [NAME=VALUE]...` on a machine that does nothing else. Each way has a process of
its own, warmed up; they take turns, so that whatever else slows the machine slows them all. Prints medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

WAYS = ["", "OMP_WAIT_POLICY=PASSIVE", *(f"GOMP_SPINCOUNT={count}" for count in (1000, 3000, 10000, 30000))]
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
STEPS, ROUNDS = 10, 5
# torch is imported first, or the harness would choose
TRAINING = f"""
import itertools, os, sys, time, tempfile
import torch
from pathlib import Path
from deeploc_bench.data.suites import silent
from deeploc_bench.plan.job import Job, prepare
from deeploc_bench.training.device import start_environment
from deeploc_bench.training.fit import Fit

training = next(one for one in prepare(Job(), silent).plan.trainings.values() if one.loss)
cpu, folder = torch.device("cpu"), Path(tempfile.mkdtemp())
fit = Fit(training, start_environment(training, folder, cpu, len(os.sched_getaffinity(0))), cpu)
fit.loss.train()
batches = fit.batches(0)[:{STEPS}]
for _ in itertools.chain([""], sys.stdin):
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        seed = [0, 0, number + 1]
        fit._step(fit._read((batch, seed)), seed)
    print(time.perf_counter() - started, flush=True)
"""


def started(way: str) -> subprocess.Popen[str]:
    """Start a training that waits in one way, and takes its steps at each line that it is given."""
    own = {name: value for name, value in os.environ.items() if name not in NAMES}
    own |= dict([way.split("=")]) if way else {}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", TRAINING], env=own, text=True, **pipes)


def seconds(process: subprocess.Popen[str]) -> float:
    """Return how long the steps take."""
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def beside(process: subprocess.Popen[str]) -> float:
    """Return how long they take beside a busy loop."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        time.sleep(0.3)
        found = seconds(process)
        loop.kill()
    return found


def main() -> None:
    """Measure each way in turn, and print its medians and how they compare to the first way, alone."""
    ways = ["", *sys.argv[1:]] if sys.argv[1:] else WAYS
    processes = {way: started(way) for way in ways}
    for process in processes.values():
        process.stdout.readline()  # warmed up
    found = {way: ([], []) for way in ways}
    for _ in range(ROUNDS):
        for way, process in processes.items():
            for times, measure in zip(found[way], (seconds, beside), strict=True):
                times.append(measure(process))
    base = statistics.median(found[""][0])
    for way, times in found.items():
        alone, shared = map(statistics.median, times)
        line = f"alone {alone:6.2f} s ({alone / base:.2f})   beside a busy loop {shared:6.2f} s ({shared / base:.2f})"
        print(f"{way or 'as the library has it':26} {line}")
    for process in processes.values():
        process.kill()


if __name__ == "__main__":
    main()
