"""What several commands share: options, and how values are printed; what Python code does alike is in api.session."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

import click
import msgspec

from deeploc_bench.api import session
from deeploc_bench.api.session import device_named, progress, requested, say, say_left_out
from deeploc_bench.contract.findings import escaped, printable
from deeploc_bench.contract.isolation import refuse_exits
from deeploc_bench.contract.registry import Registry
from deeploc_bench.training.ranks import cores

__all__ = ["cores", "load", "progress", "say", "say_left_out"]


plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE|FILE|no:NAME",
    callback=lambda context, parameter, plugins: requested(plugins),
    help="Load a plugin, or switch one off (repeatable; also DEEPLOC_PLUGINS, comma-separated).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
data_option = click.option(
    "--data",
    multiple=True,
    metavar="PATH|SUITE=PATH",
    callback=lambda context, parameter, said: session.data_said(said),
    help="Folder of the suite's images (also DEEPLOC_DATA); SUITE=PATH, repeated, where there are several.",
)
runs_option = click.option("--runs", default="runs", metavar="DIR", show_default=True, help="Folder of the artifacts.")
threads_option = click.option("--threads", type=click.IntRange(1, 1024), default=cores, help="CPU threads. [all cores]")


def device_option(purpose: str) -> Callable[[Any], Any]:
    """Return the option --device, whose value is checked before anything is loaded."""
    return click.option(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda[:i]",
        show_default=True,
        callback=lambda context, parameter, device: device_named(device),
        help=f"Where to {purpose}.",
    )


def load(plugins: tuple[str, ...]) -> Registry:
    """Load plugins and tell of each that was left out; from here on only what is `put` goes to stdout."""
    results_apart()
    return session.load(plugins)


def results_apart() -> None:
    """Let only what is `put` go to stdout from here on, whatever somebody else's code prints."""
    root = click.get_current_context().find_root()
    if root.obj is None:
        root.obj = root.with_resource(_stdout_apart())
        refuse_exits()  # for good: what a plugin leaves for the end runs after the command


def is_debug() -> bool:
    """Tell whether tracebacks are asked for."""
    return bool(click.get_current_context().find_root().params.get("debug"))


@contextmanager
def _stdout_apart() -> Iterator[TextIO]:
    """Send what plugins print, from Python or from C, to stderr; yields the stream of the results.

    The descriptor stays where it leads then: plugins may print at the exit, too.
    """
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
        os.close(own)


def put(text: str) -> None:
    """Print a result on stdout; a sign that its encoding has not becomes `?`."""
    stream, text = _results(), printable(text)
    print(text.encode(stream.encoding, "replace").decode(stream.encoding), file=stream)


def print_json(value: Any) -> None:
    """Print JSON; NaN becomes null."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    text = escaped(text, lambda sign: json.dumps(sign)[1:-1])
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
