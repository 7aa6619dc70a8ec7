"""Processes that start at once: a server imports what takes seconds, none of the package, and forks for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import json, os, sys, traceback
import accelerate, matplotlib, pytest, scipy.ndimage, scipy.stats, segmentation_models_pytorch, torch

assert "deeploc_bench" not in sys.modules
leave = os._exit  # which a command refuses from then on
for line in sys.stdin:
    folder, code, environment = json.loads(line)
    child = os.fork()
    if not child:
        log = os.open(folder + "/log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2), os.chdir(folder), os.environ.update(environment)
        ended = 1
        try:
            exec(code, {"__name__": "__main__"})
            ended = 0
        except SystemExit as error:
            ended = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            leave(ended)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
COMMAND = """
import sys
from deeploc_bench.cli import main

sys.argv[1:] = {arguments}
main()
"""


@contextmanager
def forks():
    """Yield a function from a folder, Python code and environment to the exit code and the output of a process."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "DEEPLOC_"))}
    command = [sys.executable, "-P", "-c", SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=keep, **pipes) as server:

        def run(folder, code, **environment):
            print(json.dumps([str(folder), code, environment]), file=server.stdin, flush=True)
            return int(server.stdout.readline()), (Path(folder) / "log").read_text()

        yield run
        server.stdin.close()


def command(*arguments, before=""):
    """Return the code of a command of the harness, after other code."""
    return before + COMMAND.format(arguments=[str(argument) for argument in arguments])
