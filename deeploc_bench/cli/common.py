"""What several commands share: options, progress, and how warnings and values are printed."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.isolation import exits_raised
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.registry import Registry
from deeploc_bench.training import ranks


def cores() -> int:
    """Return how many processors this process may use; the processes that torchrun starts share them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // ranks.processes_here())


def _requested(context: click.Context, parameter: click.Parameter, plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plugins asked for by the environment, then those by flags."""
    listed = os.environ.get("DEEPLOC_PLUGINS", "").split(",")
    return (*(name.strip() for name in listed if name.strip()), *plugins)


def _device(context: click.Context, parameter: click.Parameter, device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device!r} is not a device. Allowed: auto, cpu, cuda, cuda:i.")
    return device


plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE|FILE|no:NAME",
    callback=_requested,
    help="Load a plugin, or switch one off (repeatable; also DEEPLOC_PLUGINS, comma-separated).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
data_option = click.option("--data", metavar="PATH", help="Folder of the suite's images (also DEEPLOC_DATA).")
runs_option = click.option("--runs", default="runs", metavar="DIR", show_default=True, help="Folder of the artifacts.")
threads_option = click.option("--threads", type=click.IntRange(1, 1024), default=cores, help="CPU threads. [all cores]")


def device_option(purpose: str) -> Callable[[Any], Any]:
    """Return the option --device, whose value is checked before anything is loaded."""
    return click.option(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda[:i]",
        show_default=True,
        callback=_device,
        help=f"Where to {purpose}.",
    )


def load(plugins: tuple[str, ...]) -> Registry:
    """Load plugins and tell of each that was left out; from here on only what is `put` goes to stdout."""
    root = click.get_current_context().find_root()
    if root.obj is None:
        root.obj = root.with_resource(_stdout_apart())
        root.with_resource(exits_raised())
    registry = load_plugins(plugins)
    for finding in registry.findings:
        say(f"warning: {finding}")
    return registry


def is_debug() -> bool:
    """Tell whether tracebacks are asked for."""
    return bool(click.get_current_context().find_root().params.get("debug"))


def say(message: str) -> None:
    """Write a line on stderr; of several processes that share a training, only the leader does."""
    if ranks.is_leader() and sys.stderr:  # which may be closed
        print(message, file=sys.stderr, flush=True)


def say_left_out(files: Sequence[Path]) -> None:
    """Tell of the submissions that something is not held against."""
    if files:
        names = ", ".join(file.stem for file in files[:5]) + (", ..." if len(files) > 5 else "")
        say(f"warning: {len(files)} submissions are left out, refused or tested on other images: {names}")


@contextmanager
def _stdout_apart() -> Iterator[TextIO]:
    """Send what plugins print, from Python or from C, to stderr; yields the stream of the results."""
    kept = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # where it is closed, nobody reads
    try:
        descriptor, errors = kept.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError):  # one of both is closed, or no file
        with redirect_stdout(sys.stderr or kept):
            yield kept
        return
    kept.flush()
    own = os.dup(descriptor)
    os.dup2(errors, descriptor)
    try:
        with (
            open(own, "w", encoding=kept.encoding, errors=kept.errors, closefd=False) as results,
            redirect_stdout(sys.stderr),
        ):
            yield results
    finally:
        os.dup2(own, descriptor)
        os.close(own)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Show a progress bar on stderr, from the second second on and only on a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, delay=2, disable=None if ranks.is_leader() else True, leave=False) as bar:
        yield bar.update


def put(text: str) -> None:
    """Print a result on stdout; a sign that its encoding has not becomes `?`."""
    stream = _results()
    print(text.encode(stream.encoding, "replace").decode(stream.encoding), file=stream)


def print_json(value: Any) -> None:
    """Print JSON; NaN becomes null."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    try:
        text.encode(_results().encoding)
    except UnicodeEncodeError:
        text = "".join(sign if sign.isascii() else json.dumps(sign)[1:-1] for sign in text)
    put(text)


def _results() -> TextIO:
    stream: TextIO = click.get_current_context().find_root().obj or sys.stdout
    return stream


def show(value: Any, text: str, as_json: bool) -> None:
    """Print a result: its value as JSON, or its text."""
    if as_json:
        print_json(value)
    else:
        put(text)
