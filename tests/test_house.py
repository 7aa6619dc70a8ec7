"""The house: which room imports which, what is exported, and what the documents show."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from command_reference import reference_of
from conftest import TWO_LAYER, environment, run_deeploc

import deeploc_bench
from deeploc_bench.cli import COMMANDS
from deeploc_bench.contract import hookspecs

ROOT = Path(__file__).parents[1]
WRITES = {"contract": (), "data": ("contract",), "scoring": ("contract",), "plan": ("contract", "data", "scoring")}
WRITES |= {"training": (*WRITES["plan"], "plan")}
READS = {"results": (*WRITES["plan"], "plan"), "leaderboard": (*WRITES["plan"], "plan", "results")}
TRIES = {"conformance": (*WRITES,)}
HOUSE = WRITES | READS | TRIES
ROOMS = HOUSE | {"api": (*HOUSE,), "cli": (*HOUSE, "api")}
"""Which rooms a room may import beside itself: the left wing writes records, the right wing reads them."""
KEPT = ROOT / "leaderboard"
MODULES = sorted((ROOT / "deeploc_bench").glob("*/*.py"))


def imported(path):
    """Yield every module that a file names in an import: under TYPE_CHECKING and inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield from (f"{base}.{name.name}" if f"{base}.{name.name}" in NAMES else base for name in node.names)


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {module_name(path) for path in (ROOT / "deeploc_bench").rglob("*.py")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_room_imports_only_from_rooms_to_its_left(path):
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("deeploc_bench.")}
    assert rooms <= {path.parent.name, *ROOMS[path.parent.name]}


def test_no_import_goes_round_in_a_circle():
    graph = {module_name(path): {n for n in imported(path) if n in NAMES} - {module_name(path)} for path in MODULES}
    assert tuple(TopologicalSorter(graph).static_order())  # a CycleError names the circle


def test_the_rooms_are_the_folders_and_contributing_draws_them_all():
    assert {path.parent.name for path in MODULES} == set(ROOMS)
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert all(f"`deeploc_bench/{room}/`" in text for room in ROOMS)
    drawn = {room: ", ".join(allowed) for room, allowed in ROOMS.items() if room not in ("contract", "cli")}
    assert all(re.search(rf"^    {room} +{allowed}(   |$)", text, re.MULTILINE) for room, allowed in drawn.items())


NO_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "accelerate", "segmentation_models_pytorch"):
    sys.modules[name] = None  # an import of it raises
from deeploc_bench.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["results", "runs"],
        ["results", "runs", "--json", "--dialect", "all", "--curves", "curves"],
        ["report", "runs"],
        ["submit", "residual-unet+jaccard", "--suite", "tiny", "--contact", "me", "-o", "entry.json"],
        ["verify", *sorted((ROOT / "leaderboard/submissions/photos").glob("res*.json")), "--leaderboard", KEPT],
        ["leaderboard", KEPT, "--check"],
        ["list", "models"],
        ["list", "suites"],
        ["--help"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2]))[:30],
)
def test_what_reads_records_runs_where_torch_cannot_be_imported(arguments, finished, tmp_path):
    shutil.copytree(finished / "runs", tmp_path / "runs")
    command = [sys.executable, "-c", NO_TORCH, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with a finished run of the tiny suite."""
    folder = tmp_path_factory.mktemp("finished")
    flags = ["--plugin", Path(__file__).parent / "tiny.py", "--suite", "tiny", "--model", "residual-unet"]
    done = run_deeploc(folder, "run", *flags, "--recipe", "quick", "--threads", "1", "--set", "epochs=1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("path", sorted((ROOT / "deeploc_bench/cli").glob("*.py")), ids=lambda path: path.stem)
def test_a_command_prints_its_results_by_one_function(path):
    printing = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printing or path.stem in ("__init__", "common"), f"say common.put in lines {printing}"


def test_plugins_import_only_the_public_names():
    for path in (ROOT / "plugins").rglob("*.py"):
        inner = [name for name in imported(path) if name.startswith("deeploc_bench.")]
        assert not inner, path


def test_the_public_names_are_sorted_and_all_there():
    assert deeploc_bench.__all__ == sorted(deeploc_bench.__all__)
    assert set(deeploc_bench._HOMES) | {"__version__"} == set(deeploc_bench.__all__) == set(dir(deeploc_bench))
    assert all(getattr(deeploc_bench, name) for name in deeploc_bench.__all__)


def test_every_public_name_is_told_of_in_the_documents():
    text = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    assert all(f"`{name}" in text or f"import {name}" in text for name in deeploc_bench.__all__)


def test_every_reference_plugin_is_an_entry_point():
    modules = {point.value for point in entry_points(group="deeploc_bench")}
    asked_for = {"__init__", "makers", "tensorboard"}  # observers and makers are loaded only where they are asked for
    asked_for |= {"published", "towers"}  # what plugins share
    files = {path.stem for path in (ROOT / "plugins").glob("*.py")}
    files |= {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert {f"deeploc_bench_plugins.{name}" for name in files - asked_for} <= modules


def test_the_readme_shows_the_first_plugin_word_for_word():
    assert TWO_LAYER in (ROOT / "README.md").read_text("utf-8")


HOOKS = [name for name in vars(hookspecs) if name.startswith("deeploc_")]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_arguments(name):
    arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    assert f"| `{name}({arguments})` |" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_its_reference_is_what_help_prints(name):
    assert f"| `deeploc-bench {name}` |" in (ROOT / "README.md").read_text("utf-8")
    kept = (ROOT / "docs/commands.md").read_text("utf-8")
    assert reference_of(name) in kept, "stale; run: python tests/command_reference.py"


def test_links_of_the_documents_lead_to_files():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
            assert (document.parent / target).exists(), target
