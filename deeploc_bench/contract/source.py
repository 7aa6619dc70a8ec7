"""A plugin's code: its file, and every module that it imports from its own folder or its own distribution.

Imports are followed by reading the files, inside functions too and however deep, and nothing is run. The harness itself
is left out: what of it a training depends on has a number of its own.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from deeploc_bench.contract.files import read_bytes
from deeploc_bench.contract.owned import Plugin

HARNESS = __name__.partition(".")[0]


class OfPlugin(Protocol):
    """What comes out of a plugin's module: a spec with its owner, or a function."""

    @property
    def plugin(self) -> Plugin:
        """Return the module, and the distribution that it came in."""


class Part(OfPlugin, Protocol):
    """A spec with its owner, that may be made of others, or read from a file."""

    @property
    def spec(self) -> Any:
        """Return the spec."""

    @property
    def inner(self) -> "Sequence[Part]":
        """Return what it is made of."""


def source_hash(owned: Part) -> str:
    """Return the hash (16 hex) of all code that a spec's plugin reaches, each file by its dotted name and content.

    The file that describes a model counts as such, and so does the code of the models that it is made of.
    """
    description: Path | None = getattr(owned.spec, "description", None)
    hashes = [files_hash(owned), *map(source_hash, owned.inner)]
    if description:
        hashes.append(hashlib.sha256(read_bytes(description)).hexdigest())
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16] if len(hashes) > 1 else hashes[0]


def files_hash(owned: OfPlugin) -> str:
    """Return the hash (16 hex) of the files that a plugin reaches.

    A lone file has no name, so that it may be moved; its helpers have theirs.
    """
    state = hashlib.sha256()
    for name, path in sorted(code_files(owned).items()):
        state.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


def code_files(owned: OfPlugin) -> Mapping[str, Path]:
    """Return the files that a spec's plugin reaches, by dotted name."""
    module = owned.plugin.module
    return reached(module.__name__, Path(str(module.__file__)), owned.plugin.distribution)


def imported_names(owned: OfPlugin) -> set[str]:
    """Return every dotted name that a spec's plugin imports, from anywhere."""
    return {imported for name, file in code_files(owned).items() for imported in _imports(file, name)}


def imported_distributions(owned: OfPlugin) -> set[str]:
    """Return the installed distributions whose modules a spec's plugin imports, its own among them."""
    names = {name.partition(".")[0] for name in imported_names(owned)}
    return {owner for name in names for owner in _owners().get(name, ())}


def reached(name: str, file: Path, distribution: str | None) -> Mapping[str, Path]:
    """Return the files that a plugin's file reaches, itself included, by the dotted name that imports them.

    A lone file (one without a distribution, in no package) is called "", and reaches what lies beside or below it.
    """
    file = file.absolute()
    roots = _roots(name, file, distribution)
    start = name if name.partition(".")[0] in roots else ""
    files, waiting = {start: file}, [start]
    while waiting:
        importer = waiting.pop()
        for imported in _imports(files[importer], importer):
            path = _resolved(imported, roots)
            if path is not None and imported not in files and path != file:
                files[imported] = path
                waiting.append(imported)
    return files


def _roots(name: str, file: Path, distribution: str | None) -> Mapping[str, Path]:
    """Return the files and folders of the top-level modules that count as a plugin's own, by name."""
    packages = name.count(".") + (file.name == "__init__.py")
    own = {name.partition(".")[0]: file.parents[packages - 1] if packages else file}
    if distribution is not None:  # which may not say what it holds: an editable install lists no module
        return {top: path for top, path in _top_levels(distribution).items() if top != HARNESS} | own
    if packages:
        return own
    beside = [path for path in file.parent.iterdir() if path.is_dir() or path.suffix == ".py"]
    # of one name, Python takes a package first, then a file, then a folder without __init__.py: the last of these
    beside.sort(key=lambda path: ((path / "__init__.py").is_file(), path.is_file()))
    return {path.name.removesuffix(".py"): path for path in beside if path != file}


_owners = cache(importlib.metadata.packages_distributions)
"""The distributions of every installed top-level module, by its name."""


@cache
def _top_levels(distribution: str) -> Mapping[str, Path]:
    found = {}
    for name in sorted(name for name, names in _owners().items() if distribution in names):
        spec = importlib.util.find_spec(name)
        for origin in (spec.submodule_search_locations or [spec.origin or ""]) if spec else ():
            if origin and Path(origin).exists():
                found[name] = Path(origin).absolute()
    return found


def _resolved(name: str, roots: Mapping[str, Path]) -> Path | None:
    """Return the file of a dotted name, where it lies below the roots."""
    top, *rest = name.split(".")
    root = roots.get(top)
    if root is None or root.is_file():
        return None if rest else root
    base = root.joinpath(*rest)
    return next((path for path in (base / "__init__.py", base.parent / f"{base.name}.py") if path.is_file()), None)


def _imports(file: Path, name: str) -> Iterator[str]:
    """Yield every dotted name that a file may import, the packages above it among them."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:
        return  # said when the file is run
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    names = [package]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = [part for part in (*above, node.module) if part]
            names += [".".join([*base, alias.name]) for alias in node.names]
    for imported in names:
        yield from accumulate(imported.split("."), "{}.{}".format)
