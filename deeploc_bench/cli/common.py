"""What several commands share: options, and how values are printed; what Python code does alike is in api.session."""

from collections.abc import Callable
from typing import Any

import click
import msgspec

from deeploc_bench.api.session import cores, device_named, load, progress, requested, say, say_left_out

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
        callback=lambda context, parameter, device: device_named(device),
        help=f"Where to {purpose}.",
    )


def print_json(value: Any) -> None:
    """Print JSON; NaN becomes null."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def show(value: Any, text: str, as_json: bool) -> None:
    """Print a result: its value as JSON, or its text."""
    if as_json:
        print_json(value)
    else:
        print(text)
