"""Processes that start at once: a server imports what takes seconds, and forks for each of them."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

SERVER = """
import json, os, sys, traceback

is_ours = sys.argv[1:] == ["ours"]
if is_ours:
    import deeploc_bench  # before torch is imported, as a command does
import accelerate, matplotlib, pytest, scipy.ndimage, scipy.stats, segmentation_models_pytorch, torch

if is_ours:
    from importlib import import_module
    from pkgutil import walk_packages
    for found in walk_packages(deeploc_bench.__path__, "deeploc_bench."):
        found.name.endswith(("__main__", "speed_benchmark")) or import_module(found.name)
else:
    assert "deeploc_bench" not in sys.modules
leave = os._exit  # which a command refuses from then on
for line in sys.stdin:
    folder, code, environment, outputs = json.loads(line)
    children = []
    for names in outputs:
        children.append(os.fork())
        if children[-1]:
            continue
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in zip((1, 2), names):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        os.chdir(folder), os.environ.clear(), os.environ.update(environment), sys.path.insert(0, folder)
        ended = 1
        try:
            exec(code, {"__name__": "__main__"})
            ended = 0
        except SystemExit as error:
            ended = error.code or 0
            if isinstance(ended, str):
                ended = print(ended, file=sys.stderr) or 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            leave(ended)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""
COMMAND = """
import sys
from deeploc_bench.cli import main

sys.argv[1:] = {arguments}
main()
"""
SECONDS = 600
"""After which a process has hung."""


class Forks:
    """Starts processes; each lies in a folder, runs Python code, and has an environment."""

    def __init__(self, server):
        self.server = server

    def ended(self, folder, code, environment, outputs):
        """Run a process for each pair of files, its stdout and stderr, all at once; return their exit codes."""
        print(json.dumps([str(folder), code, dict(environment), outputs]), file=self.server.stdin, flush=True)
        if not select.select([self.server.stdout], [], [], SECONDS)[0]:
            self.server.kill()
            raise TimeoutError(f"after {SECONDS} s in {folder}: {code}")
        return [int(code) for code in self.server.stdout.readline().split()]

    def __call__(self, folder, code, processes=1, **environment):
        """Return the exit code and the whole output of a process; of several at once, a list of both."""
        logs = [Path(folder) / ("log" if number == 0 else f"log-{number}") for number in range(processes)]
        for log in logs:
            log.unlink(missing_ok=True)
        codes = self.ended(folder, code, kept() | environment, [[str(log), str(log)] for log in logs])
        both = [(code, log.read_text()) for code, log in zip(codes, logs, strict=True)]
        return both[0] if processes == 1 else both

    def completed(self, folder, code, environment):
        """Return a finished process, as `subprocess.run` does."""
        with tempfile.TemporaryDirectory() as scratch:
            files = [Path(scratch) / name for name in ("stdout", "stderr")]
            (ended,) = self.ended(folder, code, environment, [list(map(str, files))])
            return subprocess.CompletedProcess(code, ended, *(file.read_text() for file in files))


def kept():
    """Return the environment without what is about these tests, or the harness; no library goes to a network."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "DEEPLOC_"))}
    return own | {"HF_HUB_OFFLINE": "1"}


@contextmanager
def forks(*whose):
    """Yield what starts processes; `"ours"` have imported the package, too."""
    command = [sys.executable, "-P", "-c", SERVER, *whose]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=kept(), **pipes) as server:
        yield Forks(server)
        server.stdin.close()


@cache
def commands():
    """Return what starts processes that have imported the package; it ends with this one."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(forks("ours"))


def command(*arguments, before=""):
    """Return the code of a command of the harness, after other code."""
    return before + COMMAND.format(arguments=[str(argument) for argument in arguments])
