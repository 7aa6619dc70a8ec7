"""Plugins from outside: found, isolated, and blamed by name."""

from __future__ import annotations

import pytest
from conftest import TWO_LAYER, printed_json

from deeploc_bench.contract.errors import PluginError, UsageError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.source import source_hash

BROKEN = {
    "raises on import": ("1 / 0\n", "ZeroDivisionError"),
    "is no Python": ("def (:\n", "SyntaxError"),
    "exits on import": ("raise SystemExit(3)\n", "SystemExit"),
    "misspelt hook": (TWO_LAYER.replace("deeploc_models", "deeploc_model"), "Did you mean 'deeploc_models'?"),
    "taken name": (TWO_LAYER.replace('"two-layer"', '"residual-unet"'), "claimed by 'broken'"),
    "name twice": (TWO_LAYER.replace("[Model", "2 * [Model"), "claimed by"),
    "returns no specs": (TWO_LAYER.replace("[Model", "[dict"), "returned a dict; expected Model"),
    "returns no list": (TWO_LAYER.replace("return [Model", "return 3 or [Model"), "returned int"),
    "forbidden name": (TWO_LAYER.replace('"two-layer"', '"Two Layer"'), "expected lower-case letters"),
    "reference left out": (TWO_LAYER.replace('reference="https://example.org/two-layer", ', ""), "reference"),
    "build is no callable": (TWO_LAYER.replace("build=build", "build=3"), "expected a callable"),
    "unknown recipe override": (TWO_LAYER.replace('"none")', '"none", recipe={"epochs": 1})'), "may set only"),
    "raises late": (
        TWO_LAYER.replace("    return [Model", "    yield Model").replace('"none")]', '"none")\n    1 / 0'),
        "ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("source", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_that_was_asked_for_is_one_clear_error(tmp_path, source, message):
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(PluginError) as caught:
        load_plugins([str(file)])
    assert message in str(caught.value)
    assert "broken.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def install(folder, name, source):
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[deeploc_bench]\n{name} = {name}\n")


def test_a_broken_installed_plugin_costs_one_line_and_the_program_goes_on(deeploc, tmp_path):
    install(tmp_path, "brokendist", "1 / 0\n")
    done = deeploc("list", "models", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert "residual-unet" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "brokendist (brokendist 1.2) left out" in done.stderr and "ZeroDivisionError" in done.stderr


def test_a_name_that_two_installed_plugins_claim_cannot_be_used_but_others_can(deeploc, tmp_path):
    install(tmp_path, "zclash", TWO_LAYER.replace('"two-layer"', '"residual-unet"'))
    done = deeploc("run", "--dry-run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "owned by plugin 'residual-unet' and claimed by 'zclash'" in done.stderr.splitlines()[-1]
    assert deeploc("run", "--dry-run", "--model", "unet-resnet18", PYTHONPATH=str(tmp_path)).returncode == 0


CLAIMS_A_GENERATOR = """
from deeploc_bench import GeneratorDataset, hookimpl

@hookimpl
def deeploc_datasets():
    return [GeneratorDataset(name="cyclegan", suite="photos", build=dict)]
"""


def test_a_suite_with_a_generator_that_two_installed_plugins_claim_cannot_be_used(deeploc, tmp_path):
    install(tmp_path, "zclash", CLAIMS_A_GENERATOR)
    done = deeploc("run", "--dry-run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    told = "generator photos/cyclegan is owned by plugin 'photos' and claimed by 'zclash'"
    assert "generator 'photos/cyclegan' cannot be used" in done.stderr and told in done.stderr.splitlines()[-1]


def test_an_installed_plugin_is_found_by_its_entry_point_and_switched_off_by_name(deeploc, tmp_path):
    install(tmp_path, "twodist", TWO_LAYER)
    found = printed_json(deeploc("list", "models", "--json", PYTHONPATH=str(tmp_path)))
    assert {"name": "two-layer", "plugin": "twodist"}.items() <= next(
        entry for entry in found if entry["name"] == "two-layer"
    ).items()
    without = deeploc("list", "models", "--json", "--plugin", "no:twodist", PYTHONPATH=str(tmp_path))
    assert "two-layer" not in without.stdout


def test_nothing_is_imported_from_the_working_directory(deeploc, tmp_path):
    (tmp_path / "deeploc_plugins.py").write_text("1 / 0")
    (tmp_path / "two_layer.py").write_text(TWO_LAYER)
    assert "two-layer" not in deeploc("list", "models").stdout


def test_plugins_are_read_from_the_environment_too(deeploc, two_layer):
    assert "two-layer" in deeploc("list", "models", DEEPLOC_PLUGINS=f" {two_layer}, no:smp").stdout


def test_the_first_plugin_runs_and_is_trained_anew_after_its_code_is_edited(deeploc, tiny, two_layer):
    arguments = [*tiny, "--plugin", two_layer, "--model", "two-layer", "--set", "epochs=1", "--json"]
    first = printed_json(deeploc("run", *arguments))
    assert (first["trained"], first["reused"]) == (4, 0)
    assert printed_json(deeploc("run", *arguments))["trained"] == 0
    two_layer.write_text(TWO_LAYER.replace("16", "8"))
    assert printed_json(deeploc("run", *arguments))["trained"] == 2


@pytest.mark.slow
def test_a_model_of_the_wrong_shape_is_refused_before_any_training(deeploc, tiny, two_layer, tmp_path):
    two_layer.write_text(TWO_LAYER.replace("nn.ReLU()", "nn.MaxPool2d(2)"))
    done = deeploc("run", *tiny, "--plugin", two_layer, "--model", "two-layer")
    assert done.returncode == 2
    expected = (
        "(plugin 'two_layer') returned logits of shape (2, 1, 32, 32) for images (2, 3, 64, 64); expected (2, 1, 64"
    )
    assert expected in done.stderr and "Upsample inside the model." in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_model_that_cannot_be_built_is_one_message_with_its_plugin(deeploc, tiny, two_layer):
    two_layer.write_text(TWO_LAYER.replace("from torch import nn", "import torchh"))
    done = deeploc("run", *tiny, "--plugin", two_layer, "--model", "two-layer")
    assert done.returncode == 2
    assert "model 'two-layer' (plugin 'two_layer') cannot be built: ModuleNotFoundError" in done.stderr


def test_a_family_is_asked_only_for_names_nobody_listed(registry):
    assert registry.model("unet-resnet18").plugin.name == "smp"
    assert registry.model("manet-resnet18").spec.name == "manet-resnet18"
    with pytest.raises(UsageError, match="unknown model 'manet-resnet'"):
        registry.model("manet-resnet")


def test_the_source_hash_follows_the_file_that_builds(tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text(TWO_LAYER)
    before = source_hash(load_plugins([str(file)]).models["two-layer"])
    assert before == source_hash(load_plugins([str(file)]).models["two-layer"])
    file.write_text(TWO_LAYER + "# edited\n")
    assert source_hash(load_plugins([str(file)]).models["two-layer"]) != before
