"""What a plugin does beside computing, while it is built: what it prints, opens, imports and asks the network for."""

import contextlib
import io
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeploc_bench.contract.isolation import guarded
from deeploc_bench.contract.source import code_files, imported_names
from deeploc_bench.training.build import called_build
from deeploc_bench.training.trial import Check, Findings, ModelTrial, finding, listed

CODE = (".py", ".pyc", ".so", ".pyd", ".pth")
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr/share")
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")


@dataclass(slots=True)
class Watch:
    """What was seen while it was on: files opened for reading, hosts asked for, modules imported, text printed."""

    files: list[Path] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    printed: str = ""


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Watch this process for what a plugin does beside computing."""
    watch, known = Watch(), set(sys.modules)
    is_on = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:  # a hook cannot be taken away, but falls silent
        if is_on and event == "open" and isinstance(arguments[0], str) and "r" in str(arguments[1] or "r"):
            watch.files.append(Path(arguments[0]))
        elif is_on and event in NETWORK:
            address = arguments[1] if event == "socket.connect" else arguments
            watch.hosts.append(str(address[0] if isinstance(address, tuple) else address))

    sys.addaudithook(audit)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield watch
    finally:
        is_on = False
    watch.printed = printed.getvalue()
    watch.modules = sorted(set(sys.modules) - known)


def surroundings(trial: ModelTrial) -> Findings:
    """Find what a build and a forward pass read, print or ask for that its identity does not know."""
    with watched() as watch, guarded(trial.title) as changed:
        called_build(trial.model.spec, trial.weights)
        trial.tested(trial.images)
    if changed:
        message = f"{trial.title} changes {listed(changed)} for the whole process, which is put back each time"
        yield finding("surroundings", f"{message}; leave it as it is", "warning")
    if watch.printed:
        message = f"{trial.title} prints ({watch.printed.strip()[:60]!r}); leave it out, or use the module logging"
        yield finding("surroundings", message, "warning")
    if watch.hosts:
        message = (
            f"{trial.title} asks the network for {listed(sorted(set(watch.hosts)))} though no weights are asked for"
        )
        yield finding("surroundings", f"{message}; load pretrained weights only where build is given them", "warning")
    code = {file.absolute() for part in trial.model.parts for file in code_files(part).values()}
    imported = {name for part in trial.model.parts for name in imported_names(part)}
    used = [*watch.modules, *(name for name in imported if name in sys.modules)]
    files = {Path(file).absolute() for name in used if (file := getattr(sys.modules[name], "__file__", None))}
    strange = sorted(str(file) for file in files - code if _is_own(file))
    if strange:
        message = (
            f"{trial.title} imports {listed(strange)}, which is not part of its code's hash: a change of it would "
        )
        cure = "leave old results standing. Put it beside the plugin or into its distribution, and import it by name"
        yield finding("surroundings", f"{message} {cure}")
    declared = Path(trial.model.spec.weights or "").absolute()
    read = {file for file in watch.files if _is_own(file) and file.suffix not in CODE and file.is_file()}
    strange = sorted(str(file) for file in read if file.absolute() != declared)
    if strange:
        message = (
            f"{trial.title} reads {listed(strange)} in build, which is not part of its identity: a change of it would"
        )
        cure = "leave old results standing. Declare it, by Model(weights=...), or take it from --set weights=FILE"
        yield finding("surroundings", f"{message} {cure}")


def _is_own(file: Path) -> bool:
    """Tell whether a file is somebody's own: of no installed library, and of no device."""
    file = file.absolute()
    installed = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    foreign = {*installed, *SYSTEM, str(Path(__file__).parents[1])}
    return not any(Path(folder) in file.parents for folder in foreign)


SURROUNDINGS = Check(name="surroundings", does="reads, prints and fetches nothing unknown", probe=surroundings)
