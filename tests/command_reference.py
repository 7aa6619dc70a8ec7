"""Writes docs/commands.md: what `--help` prints of every command."""

from __future__ import annotations

from pathlib import Path

import click

from deeploc_bench.cli import COMMANDS, cli

INTRO = """# Commands

What `deeploc-bench COMMAND --help` prints. Results go to stdout, progress and warnings to stderr. Exit codes: 0 done; 1
some training failed, or a check found something; 2 wrong usage or bad input; 130 or 143 stopped by a signal, its state
saved.
`deeploc-bench --debug COMMAND ...` shows the traceback behind an error.
"""


def reference_of(name):
    """Return the section of a command, and of the commands below it."""
    command = cli.get_command(None, name)
    below = getattr(command, "commands", {})
    parts = {f"{name} {inner}": below[inner] for inner in below} or {name: command}
    return "\n".join(f"## {title}\n\n```\n{_help(title, one)}\n```\n" for title, one in parts.items())


def _help(title, command):
    context = click.Context(command, info_name=f"deeploc-bench {title}", terminal_width=110, max_content_width=110)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


if __name__ == "__main__":
    target = Path(__file__).parents[1] / "docs/commands.md"
    target.write_text("\n".join([INTRO, *(reference_of(name) for name in COMMANDS)]), "utf-8")
