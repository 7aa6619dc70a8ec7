"""`deeploc-bench new`: writes a plugin to start from, which passes `check` as it is written."""

import keyword
import os
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

import click
from jinja2 import Environment, PackageLoader, StrictUndefined

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.files import digest, filling, rewrite
from deeploc_bench.contract.loading import refuse_joined
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model
from deeploc_bench.data.example import example_files
from deeploc_bench.plan.job import DEFAULT_LOSS, DEFAULT_MODEL, DEFAULT_SUITE

OTHER_NAME = "Choose another name, or move it"
HOME = "https://github.com/deeploc-bench/deeploc-bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """What the templates are told: the plugin's name, and the names that Python and pip can take for it."""

    kind: str
    name: str
    module: str
    distribution: str
    data: str
    """The folder of a dataset's example, relative to the plugin's file."""
    file: str
    """The plugin's file, where it is one file."""
    model: str
    """What it is compared with, or trained with: the model that the default suite names."""
    loss: str = DEFAULT_LOSS
    home: str = HOME
    version: str = version("deeploc-bench")


@click.command("new")
@click.argument("kind", type=click.Choice(["model", "loss", "dataset"]))
@click.argument("name")
@click.option("--package", is_flag=True, help="Write an installable package, with a test and a workflow, into NAME/.")
def command(kind: str, name: str, package: bool) -> None:
    """Write a plugin to start from: a model, a loss, or a dataset (a suite of generators), called NAME.

    It passes `check` and can be run as it is; comments say what to change. Nothing is overwritten.
    """
    registry = common.load(())
    _refuse_taken(kind, name, registry)
    starter = _starter(kind, name, package, registry)
    files = dict(_package_files(starter) if package else _single_files(starter))
    tops = [Path(name) for name in dict.fromkeys(path.parts[0] for path in files)]
    folder = next((top for top in tops if top not in files), None)
    names, what = [str(top.absolute()) for top in tops], digest(map(repr, files.items()))
    with filling(folder, names, what, OTHER_NAME) if folder else nullcontext():
        for path, content in files.items():
            if not folder and os.path.lexists(path):
                raise UsageError(f"{path} is there already; nothing is overwritten. {OTHER_NAME}.")
            rewrite(path, content)
    written = f"{name}/" if package else " and ".join(map(str, tops))
    first = [f"pip install -e './{name}[test]' && pytest {name}"] if package else []
    commands = "\n".join(f"    {line}" for line in (*first, *_commands(starter)))
    common.put(f"wrote {written}\n\nNext:\n\n{commands}")


def _refuse_taken(kind: str, name: str, registry: Registry) -> None:
    """Raise PluginError where a name is not allowed, UsageError where a plugin has it."""
    if name.endswith((".py", ".toml")):
        raise UsageError(f"{name!r} reads like a file. Give the name that tables show, such as {Path(name).stem!r}.")
    if kind == "model":
        refuse_joined([name])
    owner = None
    with suppress(UsageError):  # raised where nobody knows it
        if kind == "model":
            Model(name=name, build=dict, reference=None, pretraining=None)  # a spec refuses a name it may not have
            owner = registry.model(name).plugin
        elif kind == "loss":
            Loss(name=name, build=lambda: dict)
            owner = registry.loss(name).plugin
        else:
            GeneratorDataset(name="edited", suite=name, build=dict)
            owner = registry.suite(name)[0].plugin
    if owner:
        raise UsageError(f"the {kind} {name!r} is taken: plugin {owner.name!r} has it. Choose another name.")


def _starter(kind: str, name: str, package: bool, registry: Registry) -> Starter:
    module = re.sub(r"\W+", "_", name).strip("_")
    installed = packages_distributions()
    taken = {*sys.stdlib_module_names, *keyword.kwlist, *installed, *(one for own in installed.values() for one in own)}
    taken |= {plugin.name for plugin in registry.plugins}
    if not module.isidentifier() or module in {one.lower().replace("-", "_") for one in taken}:
        module = f"{kind}_{module}"  # a module of a name that others import, or pip installs, would stand in their way
    return Starter(
        kind=kind,
        name=name,
        module=module,
        distribution=module.replace("_", "-"),
        data="data" if package else f"{module}_data",
        file="" if package else f"{module}.py",
        model=_default_model(registry),
    )


def _default_model(registry: Registry) -> str:
    named = [owned.spec.default_model for owned in registry.datasets if owned.spec.suite == DEFAULT_SUITE]
    return next(filter(None, named), DEFAULT_MODEL)


def _single_files(starter: Starter) -> Iterator[tuple[Path, bytes]]:
    yield Path(starter.file), _rendered(f"{starter.kind}.py", starter)
    yield from _example_files(Path(starter.data), starter)


def _package_files(starter: Starter) -> Iterator[tuple[Path, bytes]]:
    root = Path(starter.name)
    source = root / "src" / starter.module
    yield root / "pyproject.toml", _rendered("package/pyproject.toml", starter)
    yield root / "README.md", _rendered("package/README.md", starter)
    yield root / ".github/workflows/tests.yml", _rendered("package/workflow.yml", starter)
    yield root / "tests/test_plugin.py", _rendered("package/test_plugin.py", starter)
    yield source / "__init__.py", f'"""{starter.name}, a {starter.kind} of deeploc-bench."""\n'.encode()
    if starter.kind == "model":
        for name in ("plugin.py", "network.py", "layers.py"):
            yield source / name, _rendered(f"package/{name}", starter)
    else:
        yield source / "plugin.py", _rendered(f"{starter.kind}.py", starter)
    yield from _example_files(source / starter.data, starter)


def _commands(starter: Starter) -> list[str]:
    return _rendered("commands.txt", starter).decode().splitlines()


def _rendered(template: str, starter: Starter) -> bytes:
    templates = Environment(
        loader=PackageLoader("deeploc_bench.cli"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    values = asdict(starter)
    if template == "package/README.md":
        values["commands"] = "\n".join(_commands(starter))
    return templates.get_template(f"{template}.j2").render(values).encode()


def _example_files(folder: Path, starter: Starter) -> Iterator[tuple[Path, bytes]]:
    """Yield the images that a new dataset reads; none for a model or a loss."""
    if starter.kind == "dataset":
        yield from ((folder / name, content) for name, content in example_files())
