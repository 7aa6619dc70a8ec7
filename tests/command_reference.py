"""Writes docs/commands.md, what `--help` prints of every command, and docs/hooks.md, the hooks and what they return."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

import click

import deeploc_bench
from deeploc_bench.cli import COMMANDS, cli
from deeploc_bench.contract import hookspecs, specs

HELPERS = ("paired_samples", "sample_of", "distinct_samples", "read_toml", "read_bytes")
DOCS = Path(__file__).parents[1] / "docs"
INTRO = """# Commands

What `deeploc-bench COMMAND --help` prints. Results go to stdout, progress and warnings to stderr. Exit codes: 0 done; 1
some training failed, or a check found something; 2 wrong usage or bad input; 130 or 143 stopped by a signal, its state
saved.
`deeploc-bench --debug COMMAND ...` shows the traceback behind an error.
"""
HOOKS_INTRO = """# Hooks and specs

A plugin is a module with functions of these names and arguments (an argument may be left out), each marked `@hookimpl`.
They return specs: frozen values, made with keywords. [plugins.md](plugins.md) shows how to begin. Functions that help
to write them are at the end; all are imported from `deeploc_bench`.
"""
SPECS = ("Model", "Loss", "GeneratorDataset", "Inclusion", "Sample")


def commands_page():
    """Return what docs/commands.md holds."""
    return "\n".join([INTRO, *(reference_of(name) for name in COMMANDS)])


def hooks_page():
    """Return what docs/hooks.md holds."""
    hooks = [hook for name, hook in vars(hookspecs).items() if name.startswith("deeploc_")]
    helpers = [getattr(deeploc_bench, name) for name in HELPERS]
    parts = [*map(_function, hooks), *(_spec(getattr(specs, name)) for name in SPECS), *map(_function, helpers)]
    return "\n".join([HOOKS_INTRO, *parts])


def reference_of(name):
    """Return the section of a command, and of the commands below it."""
    command = cli.get_command(None, name)
    below = getattr(command, "commands", {})
    parts = {f"{name} {inner}": below[inner] for inner in below} or {name: command}
    return "\n".join(f"## {title}\n\n```\n{_help(title, one)}\n```\n" for title, one in parts.items())


def _help(title, command):
    context = click.Context(command, info_name=f"deeploc-bench {title}", terminal_width=110, max_content_width=110)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _function(function):
    parsed = ast.parse(inspect.getsource(function)).body[0]
    signature = f"def {function.__name__}({ast.unparse(parsed.args)}) -> {ast.unparse(parsed.returns)}: ..."
    return _section(function, signature)


def _spec(spec):
    fields = [ast.unparse(line) for line in ast.parse(inspect.getsource(spec)).body[0].body if _is_field(line)]
    return _section(spec, f"class {spec.__name__}:\n" + textwrap.indent("\n".join(fields), "    "))


def _is_field(line):
    return isinstance(line, ast.AnnAssign)


def _section(thing, code):
    return f"## {thing.__name__}\n\n```python shown\n{code}\n```\n\n{inspect.getdoc(thing)}\n"


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(commands_page(), "utf-8")
    (DOCS / "hooks.md").write_text(hooks_page(), "utf-8")
