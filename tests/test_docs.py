"""The documents: what they show is parsed, and runs; what is generated of them is fresh."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import pytest
from command_reference import hooks_page
from conftest import environment, run_deeploc
from deeploc_bench_plugins.described import deeploc_find_suite
from deeploc_bench_plugins.detectors import deeploc_find_model
from warm import commands

import deeploc_bench
from deeploc_bench.cli import COMMANDS, cli
from deeploc_bench.plan.recipe import load_recipe

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs/commands.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(set((ROOT / "docs").glob("*.md")) - {GENERATED})]
LANGUAGES = ("bash", "python", "toml", "text", "csv", "json", "latex")
MARKS = {
    "fails": "a command that ends with an error, which the page shows",
    "long": "takes hours",
    "needs-cluster": "takes a Ray cluster",
    "needs-data": "takes a data set that users download, or a path of theirs",
    "needs-gpus": "takes several GPUs",
    "needs-docker": "takes Docker",
    "needs-network": "downloads",
    "needs-slurm": "takes a cluster with Slurm",
    "shown": "a signature, not a program",
}
NOT_RUN = set(MARKS) - {"fails"}
OTHERS = {"docker", "pip", "git", "pytest", "python", "ray", "sbatch", "tensorboard", ".ci/run"}
"""Programs that the documents name and that no test here starts."""
INSTANT = {"new", "list"}
"""Commands that take less than a second."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: its language, its marks, and what stands in it."""

    page: Path
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def where(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self):
        return not NOT_RUN & set(self.marks)

    @property
    def file(self):
        """Return the name of the file that its code is, or None."""
        return next((mark.removeprefix("file=") for mark in self.marks if mark.startswith("file=")), None)


def blocks_of(page):
    """Return the fenced blocks of a document; those in a list are indented."""
    text = page.read_text("utf-8")
    found = re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    blocks = []
    for match in found:
        indent, (language, *marks) = len(match[1]), match[2].split() or [""]
        lines = "".join(line[indent:] or "\n" for line in match[3].splitlines(keepends=True))
        blocks.append(Block(page, text.count("\n", 0, match.start()) + 1, language, tuple(marks), lines))
    return blocks


def commands_of(text):
    """Return the commands of a shell text as lists of words, without comments and the variables set before them."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = [[]]
        for word in lexer:
            if set(word) <= set("|&;"):
                words.append([])
            else:
                words[-1].append(word)
        for command in words:
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                command = command[1:]
            if command:
                commands.append(command)
    return commands


def parsed(words):
    """Parse the words behind `deeploc-bench` as the command line does, and run nothing; raises click's errors."""
    context = click.Context(cli, info_name="deeploc-bench")
    command = cli
    while isinstance(command, click.Group) and words:
        name, command, words = command.resolve_command(context, words)
    if "--help" not in words:
        command.make_context(" ".join(words), list(words))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LEADERBOARD = blocks_of(ROOT / "leaderboard/README.md")


def of_language(language):
    return pytest.mark.parametrize(
        "block", [block for block in BLOCKS if block.language == language], ids=lambda block: block.where
    )


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_says_its_language_and_only_marks_that_are_listed(block):
    assert block.language in LANGUAGES, f"{block.where}: say one of {LANGUAGES} behind the ```"
    assert {mark for mark in block.marks if not mark.startswith("file=")} <= set(MARKS), block.where


@pytest.mark.parametrize(
    "block", [*(b for b in BLOCKS if b.language == "bash"), *LEADERBOARD], ids=lambda block: block.where
)
def test_a_command_of_a_document_has_only_flags_and_values_that_there_are(block):
    commands = commands_of(block.text)
    assert commands
    for program, *words in commands:
        if program == "deeploc-bench":
            parsed(words)
        elif not block.file:  # which is a script, with the words of a shell
            assert program in OTHERS
            if "deeploc_bench" in words:
                parsed(words[words.index("deeploc_bench") + 1 :])


@pytest.mark.parametrize("line", ["run --suite", "run --epochs 3", "rum", "data look photos", "new model"])
def test_a_command_that_is_not_there_would_be_found(line):
    with pytest.raises(click.ClickException):
        parsed(line.split())


@of_language("toml")
def test_a_toml_block_is_read_by_what_reads_such_files(block, tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(block.text)
    table = tomllib.loads(block.text)
    if "suite" in table or "generator" in table:
        assert deeploc_find_suite(str(file))
    elif "output" in table:
        assert deeploc_find_model(str(file))
    elif not {"project", "tool", "build-system"} & set(table):
        assert load_recipe(str(file))


@of_language("python")
def test_python_of_a_document_compiles_and_imports_only_names_that_there_are(block):
    for node in ast.walk(ast.parse(block.text, block.where)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deeploc_bench"):
            for name in node.names:
                if not hasattr(import_module(node.module), name.name):
                    import_module(f"{node.module}.{name.name}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dlb":
            assert hasattr(deeploc_bench, node.attr)


def test_the_page_of_the_hooks_is_what_the_code_says():
    kept = (ROOT / "docs/hooks.md").read_text("utf-8")
    assert kept == hooks_page(), "stale; run: python tests/command_reference.py"


def leaves(name, command):
    """Yield every command that can be given, with the words that lead to it."""
    if not isinstance(command, click.Group):
        yield name, command
    for inner, one in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {inner}", one)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_a_command_stands_in_its_section(name):
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", GENERATED.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    for title, command in leaves(name, cli.get_command(None, name)):
        told = set(re.findall(r"--?[a-z][a-z-]*", sections.get(title, "")))
        assert {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts} <= told, title


def walk(page, folder, only=None):
    """Do what a page says, in its order, in a folder that is like a clone, and look for the output that it shows.

    `only` names the commands that are run; a block with others is passed over. A training takes one epoch and one seed.
    Python that is no file is one program, as in a notebook, and runs at the end. Returns how many shell blocks ran.
    """
    shutil.copytree(ROOT / "leaderboard", folder / "leaderboard")
    blocks = blocks_of(page)
    program, count = "", 0
    for block, following in zip(blocks, [*blocks[1:], None], strict=False):
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "python" and block.is_run:
            program += block.text
        elif block.language == "bash" and block.is_run:
            asked = [words for name, *words in commands_of(block.text) if name == "deeploc-bench"]
            scripts = [words for name, *words in commands_of(block.text) if name == "python"]
            for words in scripts if only is None else ():  # those that the page has shown
                if (folder / words[0]).is_file():
                    subprocess.run([sys.executable, "-W", "ignore", *words], cwd=folder, check=True)
            if asked and (only is None or {words[0] for words in asked} <= only):
                printed = "".join(output_of(words, folder, "fails" in block.marks) for words in asked)
                shown = following.text if following and following.language == "text" else ""
                assert lines_of(shown) <= lines_of(printed), following.where
                count += 1
    if program and only is None:
        done = commands().completed(folder, program, environment())
        assert done.returncode == 0, done.stderr
    return count


def output_of(words, folder, fails):
    done = run_deeploc(folder, *(shortened(words) if words[0] == "run" else words))
    assert (done.returncode != 0) == fails, f"{words}: {done.stderr}"
    return (done.stdout + done.stderr).replace(", epochs=1", "")


def shortened(words):
    """Return the words of a run that takes one epoch, and one seed where it takes several."""
    seeds = [place for place, word in enumerate(words) if word == "--seed"][1:]
    kept = [word for place, word in enumerate(words) if place not in seeds and place - 1 not in seeds]
    return [*kept, "--set", "epochs=1", "--threads", "1"]


def lines_of(text):
    """Return the lines of an output without what another machine, or another epoch, would print: numbers and rules."""
    return {" ".join(re.sub(r"[\d.,*+|<-]+", " ", line).split()) for line in text.splitlines()} - {""}


def test_what_new_prints_is_what_its_page_shows(tmp_path):
    assert walk(ROOT / "docs/plugins.md", tmp_path, INSTANT) == 3
    assert (tmp_path / "my-net/src/my_net/network.py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_and_the_code_of_a_page_run_and_print_what_it_shows(page, tmp_path):
    shell = [block for block in blocks_of(page) if block.language == "bash" and block.is_run and not block.file]
    assert walk(page, tmp_path) == sum("deeploc-bench" in block.text for block in shell)
