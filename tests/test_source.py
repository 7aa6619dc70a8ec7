"""A plugin's code is what its file reaches: an edit of any of it is another code, and nothing else is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

from deeploc_bench.contract.errors import PluginError
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.source import imported_distributions, reached, source_hash

PLUGIN = """
from deeploc_bench import Model, hookimpl
{imports}
def build():
    {late}
    from torch import nn
    return nn.Conv2d(3, 1, 1)

@hookimpl
def deeploc_models():
    return [Model(name="own", build=build, reference=None, pretraining="none")]
"""
HELPERS = {
    "aside.py": "import below.part\nfrom kit import tools\n",
    "kit/__init__.py": "from . import tools\n",
    "kit/tools.py": "from .deep.core import WIDTH\n",
    "kit/spare.py": "",
    "kit/deep/__init__.py": "",
    "kit/deep/core.py": "from .. import spare\nWIDTH = 3\n",
    "below/part.py": "DEPTH = 2\n",
    "late.py": "import later\nSIZE = 4\n",
    "later.py": "",
    "unrelated.py": "",
    "kit/unrelated.py": "",
}


@pytest.fixture(autouse=True)
def as_imported_before(tmp_path, monkeypatch):
    """Let each test import its own helpers: forget those of the test before, and its folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def plugin_of(imports="", late="pass"):
    return PLUGIN.format(imports=imports, late=late)


@pytest.fixture
def lone(tmp_path):
    """A lone plugin file with helpers beside and below it."""
    imports = "import aside\nassert aside.below.part.DEPTH == 2"
    plugin = plugin_of(imports, "import late; assert late.SIZE == 4")
    return write(tmp_path / "plugins", HELPERS | {"own.py": plugin}) / "own.py"


def own_model(*requests):
    return load_plugins([str(request) for request in requests]).models["own"]


def test_helpers_beside_a_lone_file_can_be_imported_at_once_and_when_it_builds(lone):
    assert own_model(lone).spec.build().in_channels == 3


@pytest.mark.parametrize("name", [name for name in HELPERS if "unrelated" not in name] + ["own.py"])
def test_an_edit_of_anything_that_a_lone_file_reaches_is_another_code(lone, name):
    model = own_model(lone)
    before = source_hash(model)
    (lone.parent / name).write_text((lone.parent / name).read_text() + "# edited\n")
    assert source_hash(model) != before


@pytest.mark.parametrize("name", ["unrelated.py", "kit/unrelated.py", "new.py", "notes.txt"])
def test_an_edit_of_another_file_beside_it_is_the_same_code(lone, name):
    model = own_model(lone)
    before = source_hash(model)
    (lone.parent / name).write_text("# edited\n")
    assert source_hash(model) == before


def test_a_helper_of_another_name_is_another_code(tmp_path):
    imports = "try:\n    import newer\nexcept ImportError:\n    import older"
    file = write(tmp_path, {"own.py": plugin_of(imports), "older.py": "WIDTH = 3"}) / "own.py"
    model = own_model(file)
    before = source_hash(model)
    (tmp_path / "older.py").rename(tmp_path / "newer.py")
    assert source_hash(model) != before


def test_a_lone_file_may_be_moved_with_its_helpers_and_renamed(lone, tmp_path):
    before = source_hash(own_model(lone))
    moved = shutil.copytree(lone.parent, tmp_path / "elsewhere")
    (moved / "own.py").rename(moved / "mine.py")
    code = "import sys; from deeploc_bench.contract.loading import load_plugins\n"
    code += "from deeploc_bench.contract.source import source_hash\n"
    code += "print(source_hash(load_plugins(sys.argv[1:]).models['own']))"
    assert python(code, moved / "mine.py") == before


def python(code, *arguments, path=""):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment(PYTHONPATH=str(path)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import kit.deep.core", {"", "kit", "kit.deep", "kit.deep.core", "kit.tools", "kit.spare"}),
        ("from late import *", {"", "late", "later"}),
        ("from below import part", {"", "below.part"}),
        ("if False:\n    import late", {"", "late", "later"}),
        ("try:\n    import nowhere\nexcept ImportError:\n    import later", {"", "later"}),
        ("import json, later as after", {"", "later"}),
        ("import unrelated.kit.part", {"", "unrelated"}),
    ],
)
def test_imports_of_every_form_are_followed_by_reading(tmp_path, statement, names):
    file = write(tmp_path, HELPERS | {"own.py": statement}) / "own.py"
    assert set(reached("own", file, None)) == names


def test_of_one_name_a_package_goes_before_a_file_and_a_file_before_a_folder(tmp_path):
    file = write(tmp_path, {"own.py": "import both, plain.part", "both.py": "", "both/__init__.py": ""}) / "own.py"
    write(tmp_path, {"plain.py": "", "plain/part.py": ""})
    own = {name: path.relative_to(tmp_path).as_posix() for name, path in reached("own", file, None).items()}
    assert own == {"": "own.py", "both": "both/__init__.py", "plain": "plain.py"}


PACKAGE = {
    "wholepackage/__init__.py": "",
    "wholepackage/plugin.py": plugin_of("from . import near\nfrom .sub import far", "from ..wholepackage import late"),
    "wholepackage/near.py": "",
    "wholepackage/sub/__init__.py": "",
    "wholepackage/sub/far.py": "from .. import above",
    "wholepackage/above.py": "",
    "wholepackage/late.py": "",
}


@pytest.mark.parametrize("name", PACKAGE)
def test_a_module_of_a_package_reaches_by_relative_imports(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(write(tmp_path, PACKAGE))
    model = own_model("wholepackage.plugin")
    before = source_hash(model)
    (tmp_path / "wholepackage/unused.py").write_text("# edited")
    assert source_hash(model) == before
    (tmp_path / name).write_text(PACKAGE[name] + "# edited\n")
    assert source_hash(model) != before and model.plugin.distribution is None


def test_a_package_may_be_a_plugin_itself(tmp_path, monkeypatch):
    files = {"ownpackage/__init__.py": plugin_of("from .near import WIDTH"), "ownpackage/near.py": "WIDTH = 3"}
    monkeypatch.syspath_prepend(write(tmp_path, files))
    model = own_model("ownpackage")
    before = source_hash(model)
    (tmp_path / "ownpackage/near.py").write_text("WIDTH = 4")
    assert source_hash(model) != before


def test_a_module_in_no_package_is_like_a_lone_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write(tmp_path, {"ownmodule.py": plugin_of("import beside_it"), "beside_it.py": ""}))
    model = own_model("ownmodule")
    before = source_hash(model)
    (tmp_path / "beside_it.py").write_text("# edited")
    assert source_hash(model) != before


INSTALLED = {
    "firstmodule.py": plugin_of("import secondmodule", "import shareddist.part"),
    "secondmodule.py": "",
    "shareddist/__init__.py": "",
    "shareddist/part.py": "",
    "shareddist/unused.py": "",
    "foreignmodule.py": "",
    "owndist-1.2.dist-info/entry_points.txt": "[deeploc_bench]\nowndist = firstmodule\n",
    "owndist-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: owndist\nVersion: 1.2\n",
    "foreigndist-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: foreigndist\nVersion: 1.0\n",
    "foreigndist-1.0.dist-info/top_level.txt": "foreignmodule\n",
}
LISTS = {
    "top_level.txt": "firstmodule\nsecondmodule\nshareddist\n",
    "RECORD": "firstmodule.py,,\nsecondmodule.py,,\nshareddist/__init__.py,,\nshareddist/part.py,,\n",
}
HASHES = """
import sys
from pathlib import Path
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.source import imported_distributions, source_hash
model = load_plugins().models["own"]
told = [model.plugin.distribution, model.plugin.version, source_hash(model)]
for name in sys.argv[2:]:
    file = Path(sys.argv[1], name)
    file.write_text(file.read_text() + "# edited\\n")
    told.append(source_hash(model))
print(*told, *sorted(imported_distributions(model)))
"""


@pytest.mark.parametrize("listed", LISTS)
def test_an_installed_plugin_is_all_that_it_reaches_of_its_distribution(tmp_path, listed):
    imports = INSTALLED["firstmodule.py"].replace("import secondmodule", "import secondmodule, foreignmodule")
    files = INSTALLED | {"firstmodule.py": imports, f"owndist-1.2.dist-info/{listed}": LISTS[listed]}
    edited = ["foreignmodule.py", "shareddist/unused.py", "secondmodule.py", "shareddist/part.py", "firstmodule.py"]
    folder = write(tmp_path, files)
    owner, version, before, foreign, unused, *others, _, _, _, _ = python(HASHES, folder, *edited, path=folder).split()
    assert (owner, version) == ("owndist", "1.2") and foreign == unused == before
    assert len({before, *others}) == 4


def test_a_package_whose_distribution_lists_no_module_is_all_that_it_reaches_of_itself(tmp_path):
    """As an editable install is: all that it lists is a .pth file."""
    files = {
        "editable/__init__.py": "",
        "editable/plug.py": plugin_of("from editable.net import WIDTH"),
        "editable/net.py": "WIDTH = 3\n",
        "owndist-1.2.dist-info/entry_points.txt": "[deeploc_bench]\nowndist = editable.plug\n",
        "owndist-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: owndist\nVersion: 1.2\n",
        "owndist-1.2.dist-info/RECORD": "_owndist.pth,,\n",
    }
    folder = write(tmp_path, files)
    owner, _, before, after, *_ = python(HASHES, folder, "editable/net.py", path=folder).split()
    assert owner == "owndist" and after != before


def test_another_version_alone_is_the_same_code(tmp_path):
    files = INSTALLED | {"owndist-1.2.dist-info/top_level.txt": LISTS["top_level.txt"]}
    folder = write(tmp_path, files)
    before = python(HASHES, folder, path=folder).split()
    metadata = folder / "owndist-1.2.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))
    assert python(HASHES, folder, path=folder).split()[:3] == ["owndist", "1.3", before[2]]
    assert before[3:] == ["deeploc-bench", "owndist", "torch"]


def test_the_libraries_of_a_plugin_are_told_by_their_distributions(registry):
    found = imported_distributions(registry.model("unet-resnet18"))
    assert {"segmentation_models_pytorch", "timm", "torch", "safetensors", "huggingface_hub"} <= found
    assert imported_distributions(registry.model("residual-unet")) == {"deeploc-bench", "torch"}


@pytest.mark.parametrize("name", ["residual-unet", "unet-resnet18"])
def test_the_code_of_the_harness_is_no_plugins(registry, name):
    plugin = registry.model(name).plugin
    found = reached(plugin.module.__name__, Path(plugin.module.__file__), plugin.distribution)
    assert found and all(imported.partition(".")[0] == "deeploc_bench_plugins" for imported in found)


@pytest.mark.parametrize("name", ["json", "tomllib", "torch"])
def test_a_helper_whose_name_another_module_has_is_refused_by_name(tmp_path, name):
    file = write(tmp_path, {"own.py": plugin_of(late=f"import {name}"), f"{name}.py": ""}) / "own.py"
    with pytest.raises(PluginError) as caught:
        own_model(file)
    told = f"not {tmp_path}/{name}.py, the file beside the plugin; rename that"
    assert f"import {name} gives " in str(caught.value) and told in str(caught.value)


def test_helpers_of_one_name_beside_two_plugins_are_refused_by_name(tmp_path):
    other = plugin_of("import twin").replace('"own"', '"other"')
    write(tmp_path, {"a/one.py": plugin_of("import twin"), "a/twin.py": "", "b/two.py": other, "b/twin.py": ""})
    own_model(tmp_path / "a/one.py")
    with pytest.raises(PluginError, match=rf"import twin gives {tmp_path}/a/twin.py, not {tmp_path}/b/twin.py"):
        own_model(tmp_path / "a/one.py", tmp_path / "b/two.py")


def test_a_helper_of_one_name_below_the_plugins_own_folder_is_refused_too(tmp_path):
    other = plugin_of("import twin").replace('"own"', '"other"')
    write(tmp_path, {"one.py": plugin_of("import twin"), "twin.py": "", "sub/two.py": other, "sub/twin.py": ""})
    load_plugins([str(tmp_path / "sub/two.py")])
    with pytest.raises(PluginError, match=rf"import twin gives {tmp_path}/sub/twin.py, not {tmp_path}/twin.py"):
        own_model(tmp_path / "sub/two.py", tmp_path / "one.py")


def test_two_plugins_of_one_name_are_refused_by_name(tmp_path):
    write(tmp_path, {"a/same.py": plugin_of(), "b/same.py": plugin_of().replace('"own"', '"other"')})
    with pytest.raises(PluginError, match=r"b/same.py: another plugin is called 'same'; rename one"):
        own_model(tmp_path / "a/same.py", tmp_path / "b/same.py")


def test_an_installed_plugin_makes_room_where_it_is_switched_off(tmp_path):
    file = write(tmp_path, {"losses.py": plugin_of()}) / "losses.py"
    with pytest.raises(PluginError, match=r"another plugin is called 'losses'; .* switch .* off \(no:losses\)"):
        own_model(file)
    assert own_model(file, "no:losses").plugin.module.__file__ == str(file)


def test_a_syntax_error_in_a_helper_is_told_with_its_file(tmp_path):
    file = write(tmp_path, {"own.py": plugin_of("import crooked"), "crooked.py": "def (:\n"}) / "own.py"
    with pytest.raises(PluginError, match=r"SyntaxError: .*crooked.py, line 1"):
        own_model(file)


@pytest.mark.parametrize("content", [b"def (:\n", b"\xff", b"a = '\0'"])
def test_a_helper_that_is_no_python_is_still_part_of_the_code(tmp_path, content):
    file = write(tmp_path, {"own.py": plugin_of(late="import crooked"), "crooked.py": ""}) / "own.py"
    model = own_model(file)
    before = source_hash(model)
    (tmp_path / "crooked.py").write_bytes(content)
    assert source_hash(model) != before
