"""Who owns which name: what is listed, what is found, and whose mistake it is where neither can be had."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deeploc_bench.contract.errors import DataError, PluginError, UsageError
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.registry import observe

FAMILY = """
from pathlib import Path
from deeploc_bench import DataError, GeneratorDataset, Loss, Model, hookimpl

@hookimpl
def deeploc_models():
    return [Model(name="fam-listed", build=object, reference=None, pretraining="none")]

@hookimpl
def deeploc_find_model(name):
    if name == "fam-broken":
        raise ValueError("no such size")
    if name == "fam-foreign":
        return {"name": name}
    if name == "fam-other":
        return Model(name="fam-another", build=object, reference=None, pretraining="none")
    if name == "fam-refused":
        raise DataError("fam-refused needs a licence")
    if name.startswith("fam-"):
        return Model(name=name, build=object, reference=None, pretraining="found")

@hookimpl
def deeploc_find_suite(name):
    if name == "found-broken":
        raise OSError("gone")
    if name == "found-refused":
        raise DataError("found-refused is not for you")
    if name == "found-foreign":
        return ["a"]
    if name == "found-none":
        return []
    if name == "found-twice":
        return 2 * [GeneratorDataset(name="a", suite=name, build=dict)]
    if name == "found-two":
        return [GeneratorDataset(name=one, suite=one, build=dict) for one in ("a", "b")]
    if name == "found-number":
        return 3
    if name.startswith("found-"):
        return [GeneratorDataset(name=generator, suite=name, build=dict) for generator in ("b", "a")]
"""
SECOND = """
from deeploc_bench import GeneratorDataset, Model, hookimpl

@hookimpl
def deeploc_find_model(name):
    assert name != "fam-listed" and name != "second-listed"
    if name in ("fam-two", "second-found"):
        return Model(name=name, build=object, reference=None, pretraining="second")

@hookimpl
def deeploc_models():
    return [Model(name="second-listed", build=object, reference=None, pretraining="none", baseline=True)]

@hookimpl
def deeploc_datasets():
    return [GeneratorDataset(name=name, suite="listed", build=dict) for name in ("z", "y")]

@hookimpl
def deeploc_epoch_finished(training, epoch):
    raise RuntimeError(f"deaf to {epoch}")
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "family.py").write_text(FAMILY)
    (folder / "second.py").write_text(SECOND)
    return load_plugins([str(folder / "family.py"), str(folder / "second.py")])


@pytest.mark.parametrize(
    ("name", "owner", "pretraining"),
    [
        ("fam-listed", "family", "none"),
        ("fam-one", "family", "found"),
        ("fam-two", "family", "found"),
        ("second-listed", "second", "none"),
        ("second-found", "second", "second"),
    ],
)
def test_a_model_is_the_listed_one_or_the_first_that_is_found(loaded, name, owner, pretraining):
    found = loaded.model(name)
    assert (found.spec.name, found.plugin.name, found.spec.pretraining) == (name, owner, pretraining)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fam-broken", r"plugin family: deeploc_find_model\('fam-broken'\) raised ValueError: no such size"),
        ("fam-foreign", r"plugin family: deeploc_find_model\('fam-foreign'\) returned \{'name': 'fam-foreign'\}"),
        ("fam-other", r"plugin family: deeploc_find_model\('fam-other'\) returned Model\(name='fam-another'"),
    ],
)
def test_a_finder_that_breaks_the_contract_is_named_with_what_it_did(loaded, name, told):
    with pytest.raises(PluginError, match=told):
        loaded.model(name)


@pytest.mark.parametrize("name", ["fam-refused", "found-refused"])
def test_a_finder_may_say_in_its_own_words_why_not(loaded, name):
    with pytest.raises(DataError, match=f"^{name} "):
        loaded.model(name) if name.startswith("fam") else loaded.suite(name)


def test_a_model_that_nobody_knows_is_told_with_those_that_are_listed(loaded):
    with pytest.raises(
        UsageError, match=r"unknown model 'residual-net'. Did you mean 'residual-unet'\? Known: .*fam-list"
    ):
        loaded.model("residual-net")


@pytest.mark.parametrize(("name", "generators"), [("listed", ["y", "z"]), ("found-it", ["a", "b"])])
def test_the_generators_of_a_suite_are_sorted_whether_listed_or_found(loaded, name, generators):
    found = loaded.suite(name)
    assert [owned.spec.name for owned in found] == generators
    assert {owned.plugin.name for owned in found} == {"second" if name == "listed" else "family"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("found-broken", r"plugin family: deeploc_find_suite\('found-broken'\) raised OSError: gone"),
        ("found-foreign", "deeploc_find_suite returned a str; expected GeneratorDataset"),
        ("found-twice", "plugin family: suite 'found-twice' must be one suite of different generators"),
        ("found-two", "plugin family: suite 'found-two' must be one suite of different generators"),
        ("found-number", "deeploc_find_suite returned int; expected a list of GeneratorDataset"),
    ],
)
def test_a_suite_that_cannot_be_found_is_its_plugins_mistake(loaded, name, told):
    with pytest.raises(PluginError, match=told):
        loaded.suite(name)


@pytest.mark.parametrize("name", ["lister", "found-none"])
def test_a_suite_that_nobody_knows_is_told_with_those_that_are_listed(loaded, name):
    with pytest.raises(UsageError, match=rf"unknown suite '{name}'.* Known: .*dolos, .*listed, .*photos, "):
        loaded.suite(name)


def test_a_loss_that_nobody_knows_is_told_with_those_that_are(loaded):
    with pytest.raises(UsageError, match=r"unknown loss 'dise'. Did you mean 'dice'\?"):
        loaded.loss("dise")


def test_the_plugins_that_find_are_told_by_their_hook(loaded):
    assert [plugin.name for plugin in loaded.having("deeploc_find_model")] == [
        *("declip", "detectors", "dinov2", "fronts", "iml-vit", "patch-forensics", "smp"),
        *("family", "second"),
    ]
    assert [plugin.name for plugin in loaded.having("deeploc_find_suite")] == ["described", "family"]


def test_baselines_are_told_by_what_their_models_declare(loaded):
    assert set(loaded.baselines) > {"all-manipulated", "second-listed"} and "residual-unet" not in loaded.baselines
    assert list(loaded.baselines) == sorted(loaded.baselines)


def test_an_observer_that_raises_is_a_warning_with_its_name(loaded):
    (finding,) = observe(loaded, "deeploc_epoch_finished", training={}, epoch=3)
    told = "warning [observer] observer second: deeploc_epoch_finished: RuntimeError: deaf to 3"
    assert finding.line == told and not finding.is_error


def test_an_observer_hears_only_what_it_asks_for(tmp_path):
    (tmp_path / "hears_epochs.py").write_text(
        "from deeploc_bench import hookimpl\nHEARD = []\n"
        "@hookimpl\ndef deeploc_epoch_finished(epoch):\n    HEARD.append(epoch)\n"
    )
    registry = load_plugins([str(tmp_path / "hears_epochs.py")])
    assert observe(registry, "deeploc_epoch_finished", training={}, epoch=3) == []
    assert registry.plugins[-1].module.HEARD == [3]


def test_a_listed_model_is_never_searched_for(loaded):
    assert loaded.model("second-listed").plugin.name == "second"  # whose finder would fail


@pytest.mark.parametrize("kind", ["model", "loss"])
def test_why_a_plugin_was_left_out_is_told_where_its_name_is_asked_for(registry, kind):
    broken = Finding(check="plugin", where="plugin far left out", message="ImportError: torch", level="warning")
    with pytest.raises(UsageError, match=r"unknown .* 'far-away'.* \(plugin far left out: ImportError: torch\)"):
        getattr(replace(registry, findings=(broken,)), kind)("far-away")
    with pytest.raises(
        PluginError, match=rf"{kind} 'far-away' cannot be used: plugin far left out: ImportError: torch"
    ):
        getattr(replace(registry, contested={f"{kind} far-away": broken}), kind)("far-away")
