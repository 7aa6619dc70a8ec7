"""What is written down of a maker: its code, its options, its files, its terms, and the versions that it ran with.

A maker's module may declare `REFERENCE`, `LICENSE` and `WEIGHTS`, a file or a folder, or a list of them, relative to
the module; an option of type Path names a file or a folder, too.
"""

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deeploc_bench.contract.errors import PluginError, UsageError
from deeploc_bench.contract.functions import Function
from deeploc_bench.contract.source import files_hash, imported_distributions
from deeploc_bench.contract.specs import AUTHENTIC, NAME_PATTERN, NAME_RULE
from deeploc_bench.data.made import Maker, MakerFile
from deeploc_bench.data.making import Making

VERSIONED = ("deeploc-bench", "numpy", "pillow")


def making_of(
    function: Function, options: Mapping[str, Any], *, name: str, whole: bool, batch_size: int, **terms: str | None
) -> Making:
    """Return a function with its options as a generator to be made; `terms` are license and reference.

    Terms that are None are what the module declares. Raises PluginError, UsageError where a file cannot be read.
    """
    files = dict(_files(function, options))
    declared = {what: _declared(function, what.upper()) for what in ("license", "reference")}
    versions = {*VERSIONED, *imported_distributions(function)}
    return Making(
        name=name,
        inpaint=partial(function.call, **options),
        maker=Maker(
            function=function.title,
            code=files_hash(function),
            options={name: str(value) for name, value in sorted(options.items()) if not isinstance(value, Path)},
            files=files,
            whole=whole,
            batch_size=batch_size,
        ),
        license=terms.get("license") or declared["license"],
        reference=terms.get("reference") or declared["reference"],
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in sorted(versions)},
    )


def name_of(function: Function, name: str | None) -> str:
    """Return the name that is given, or else the function's, or that of its file; raises UsageError."""
    words = function.title.rpartition(":")
    stem = Path(words[0]).stem if words[0].endswith(".py") else words[0].rpartition(".")[2]
    found = name or (stem if words[2] == "inpaint" else words[2]).lower().replace("_", "-")
    if not re.fullmatch(NAME_PATTERN, found) or found == AUTHENTIC:
        raise UsageError(f"the generator would be called {found!r}; expected {NAME_RULE}; not authentic: --name NAME")
    return found


def _declared(function: Function, what: str) -> str | None:
    value = getattr(function.module, what, None)
    if value is not None and not isinstance(value, str):
        raise PluginError(f"{what} of {function.plugin.name} is {value!r:.80}; expected text")
    return value


def _files(function: Function, options: Mapping[str, Any]) -> Iterator[tuple[str, MakerFile]]:
    for name, value in sorted(options.items()):
        if isinstance(value, Path):
            yield name, _file(value, f"option {name} of {function.title}")
    declared = getattr(function.module, "WEIGHTS", None) or []
    for value in [declared] if isinstance(declared, str | Path) else declared:
        path = Path(str(function.module.__file__)).parent / value
        yield path.name, _file(path, f"WEIGHTS of {function.title}")


def _file(path: Path, where: str) -> MakerFile:
    """Return a file, or all files of a folder, as one hash; raises UsageError."""
    parts = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    state = hashlib.sha256()
    try:
        for file in parts:
            with file.open("rb") as content:
                hashed = hashlib.file_digest(content, "sha256")
            state.update(file.relative_to(path).as_posix().encode() + b"\0" + hashed.digest())
    except OSError as error:
        raise UsageError(f"{where}: {file}: {error.strerror}") from None
    return MakerFile(name=path.name, sha256=state.hexdigest() if path.is_dir() else hashed.hexdigest())
