"""The house: which room imports which, what is exported, and what the documents show."""

from __future__ import annotations

import ast
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from conftest import TWO_LAYER

import deeploc_bench
from deeploc_bench.cli import COMMANDS
from deeploc_bench.contract import hookspecs

ROOT = Path(__file__).parents[1]
WRITES = {"contract": (), "data": ("contract",), "scoring": ("contract",), "plan": ("contract", "data", "scoring")}
WRITES |= {"training": (*WRITES["plan"], "plan")}
READS = {"results": (*WRITES["plan"], "plan"), "leaderboard": ("contract", "scoring", "plan", "results")}
ROOMS = WRITES | READS | {"cli": (*WRITES, *READS)}
"""Which rooms a room may import beside itself: the left wing writes records, the right wing reads them."""
MODULES = sorted((ROOT / "deeploc_bench").glob("*/*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_room_imports_only_from_rooms_to_its_left(path):
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("deeploc_bench.")}
    assert rooms <= {path.parent.name, *ROOMS[path.parent.name]}


TORCH_FREE = [path for path in MODULES if path.parent.name in ("scoring", "plan", "results", "leaderboard")]


@pytest.mark.parametrize("path", TORCH_FREE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scores_and_boards_need_no_torch(path):
    outside = {name.split(".")[0] for name in imported(path)}
    assert not outside & {"torch", "scipy", "timm", "accelerate", "pluggy"}


def test_plugins_import_only_the_public_names():
    for path in (ROOT / "plugins").rglob("*.py"):
        inner = [name for name in imported(path) if name.startswith("deeploc_bench.")]
        assert not inner, path


def test_the_public_names_are_sorted_and_all_there():
    assert deeploc_bench.__all__ == sorted(deeploc_bench.__all__)
    assert all(getattr(deeploc_bench, name) for name in deeploc_bench.__all__)


def test_every_reference_plugin_is_an_entry_point():
    modules = {point.value for point in entry_points(group="deeploc_bench")}
    files = {path.stem for path in (ROOT / "plugins").glob("*.py")} - {"__init__"} | {"photos"}
    assert {f"deeploc_bench_plugins.{name}" for name in files} <= modules


def test_the_readme_shows_the_first_plugin_word_for_word():
    assert TWO_LAYER in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in vars(hookspecs) if name.startswith("deeploc_")])
def test_every_hook_is_documented(name):
    assert name in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    assert f"deeploc-bench {name}" in (ROOT / "README.md").read_text("utf-8")


def test_links_of_the_documents_lead_to_files():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
            assert (document.parent / target).exists(), target
