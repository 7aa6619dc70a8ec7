"""What commands and notebooks do alike: find device and plugins, and tell of warnings and progress on stderr."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.findings import printable
from deeploc_bench.contract.isolation import exits_raised
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.registry import Registry
from deeploc_bench.training import ranks


def device_named(device: str) -> str:
    """Return a device's name; raises UsageError where it is none. Whether it is there, is seen when it is needed."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device!r} is not a device. Allowed: auto, cpu, cuda, cuda:i.")
    return device


def requested(plugins: Sequence[str]) -> tuple[str, ...]:
    """Return the plugins asked for by the environment, then those that are named."""
    listed = os.environ.get("DEEPLOC_PLUGINS", "").split(",")
    return (*(name.strip() for name in listed if name.strip()), *plugins)


def data_said(said: Sequence[str]) -> str | None:
    """Return where the data lie, in one text; raises UsageError where several folders have no suite."""
    if len(said) > 1 and (bare := next((one for one in said if "=" not in one), None)):
        raise UsageError(f"--data {bare}: of several, each names its suite: --data SUITE=PATH")
    return os.pathsep.join(said) or None


def load(plugins: Sequence[str]) -> Registry:
    """Load plugins and tell of each that was left out."""
    registry = load_plugins(plugins)
    for finding in registry.findings:
        say(f"warning: {finding}")
    return registry


def say(message: str) -> None:
    """Write a line on stderr; of several processes that share a training, only the leader does."""
    if ranks.is_leader() and sys.stderr:  # which may be closed
        print(printable(message), file=sys.stderr, flush=True)


def say_left_out(files: Sequence[Path]) -> None:
    """Tell of the submissions that something is not held against."""
    if files:
        names = ", ".join(file.stem for file in files[:5]) + (", ..." if len(files) > 5 else "")
        say(f"warning: {len(files)} submissions are left out, refused or tested on other images: {names}")


@contextmanager
def quiet() -> Iterator[None]:
    """Send what plugins print to stderr, and raise where one would end the process."""
    with redirect_stdout(sys.stderr), exits_raised():
        yield


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Show a progress bar on stderr, from the second second on and only on a terminal."""
    from tqdm import tqdm

    title, is_off = printable(title), None if ranks.is_leader() else True
    with tqdm(total=total, desc=title, delay=2, disable=is_off, leave=False) as bar:
        yield bar.update
