"""`deeploc-bench new`: what it writes passes `check` as it is, and nothing is lost or taken by it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from conftest import environment
from PIL import Image

from deeploc_bench.cli import cli
from deeploc_bench.contract.errors import DeeplocError, PluginError, UsageError
from deeploc_bench.data.example import example_files

KINDS = ("model", "loss", "dataset")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(name, *arguments):
    """Run a command in this process, and return what it prints; its errors are raised."""
    done = CliRunner().invoke(cli.get_command(None, name), arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_check_without_a_finding(here, kind):
    assert f"wrote mine_{kind}.py" in invoke("new", kind, f"mine-{kind}")
    what = {"dataset": "suite"}.get(kind, kind)
    _, _, heading, *lines = invoke("check", f"mine_{kind}.py").splitlines()
    assert heading == f"{what} mine-{kind}: ok"
    assert all(line.startswith(("  ok      ", "  note    ")) for line in lines), lines


def test_a_new_package_of_several_modules_passes_check_without_a_finding(here, monkeypatch):
    invoke("new", "model", "packed", "--package")
    monkeypatch.syspath_prepend(here / "packed/src")
    assert invoke("check", "packed.plugin").splitlines()[2] == "model packed: ok"


def test_a_new_package_names_its_plugin_and_its_workflow_can_only_read(here):
    invoke("new", "dataset", "a.b", "--package")
    project = tomllib.loads(Path("a.b/pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "a-b"
    assert project["entry-points"] == {"deeploc_bench": {"a-b": "a_b.plugin"}}
    text = Path("a.b/.github/workflows/tests.yml").read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["test"]["steps"][-1]["run"] == "deeploc-bench check a.b"
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in re.findall(r"uses: (.*)", text))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("my.new-net", "my_new_net.py"),
        ("3d", "model_3d.py"),
        ("class", "model_class.py"),
        ("json", "model_json.py"),
        ("pillow", "model_pillow.py"),
        ("losses", "model_losses.py"),
    ],
    ids=lambda value: value,
)
def test_a_file_gets_a_name_that_stands_in_no_others_way(here, name, file):
    invoke("new", "model", name)
    assert [path.name for path in here.iterdir()] == [file]
    assert f'name="{name}"' in (here / file).read_text("utf-8")


@pytest.mark.parametrize(
    ("kind", "name", "error", "message"),
    [
        ("model", "Mine", PluginError, "name of model is 'Mine'; expected lower-case letters"),
        ("loss", "../mine", PluginError, "name of loss is '../mine'; expected"),
        ("dataset", "", PluginError, "is ''; expected"),
        ("model", "residual-unet", UsageError, "the model 'residual-unet' is taken: plugin 'residual-unet' has it"),
        ("model", "fpn-resnet18", UsageError, "the model 'fpn-resnet18' is taken: plugin 'smp' has it"),
        ("loss", "dice", UsageError, "the loss 'dice' is taken: plugin 'losses' has it"),
        ("dataset", "photos", UsageError, "the dataset 'photos' is taken: plugin 'photos' has it"),
        ("model", "net.py", UsageError, "'net.py' reads like a file. Give the name that tables show, such as 'net'"),
    ],
)
def test_a_name_that_is_taken_or_not_allowed_writes_nothing(here, kind, name, error, message):
    with pytest.raises(error, match=re.escape(message)):
        invoke("new", kind, name)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("kind", "flags"), [("dataset", []), ("loss", ["--package"])])
def test_nothing_is_overwritten(here, kind, flags):
    there = "mine" if flags else "mine_data"
    (here / there).write_text("mine")
    with pytest.raises(DeeplocError, match=f"{there} is there already; nothing is overwritten. Choose another name"):
        invoke("new", kind, "mine", *flags)
    assert [(path.name, path.read_text()) for path in here.iterdir()] == [(there, "mine")]


def test_the_example_of_a_dataset_is_edited_where_its_masks_are_and_nowhere_else():
    files = {name: np.asarray(Image.open(io.BytesIO(content))) for name, content in example_files()}
    untouched = {Path(name).name: image for name, image in files.items() if name.startswith("authentic")}
    assert len(untouched) == 8
    for generator in ("smoothed", "moved"):
        for name, image in untouched.items():
            edited, mask = files[f"{generator}/test/images/{name}"], files[f"{generator}/test/masks/{name}"] > 0
            changed = (edited != image).any(axis=2)
            assert not changed[~mask].any()
            assert changed[mask].mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_installed_package_is_found_by_its_name_and_passes_its_own_test(here, kind):
    pytest.importorskip("deeploc_bench.testing")
    invoke("new", kind, "packed", "--package")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", "site"]
    subprocess.run([*pip, "./packed"], check=True, cwd=here)
    installed = environment(PYTHONPATH=str(here / "site"))
    for command in (["deeploc_bench", "check", "packed"], ["pytest", "packed", "-q"]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=here, env=installed, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
