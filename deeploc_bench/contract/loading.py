"""Finds plugins, and loads each inside its own try: a broken one costs a line, unless it was asked for."""

import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from deeploc_bench.contract import hookspecs
from deeploc_bench.contract.errors import DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.isolation import guarded, streams_kept
from deeploc_bench.contract.owned import Owned, Plugin, claim, intrusions, owned_specs
from deeploc_bench.contract.registry import Registry, call
from deeploc_bench.contract.source import reached
from deeploc_bench.contract.specs import NAME_RULE, GeneratorDataset, Loss, Model

GROUP = "deeploc_bench"
LISTING_HOOKS = {"deeploc_datasets": GeneratorDataset, "deeploc_models": Model, "deeploc_losses": Loss}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A plugin that may be loaded; `request` is what the user asked for it by, None where it is only installed."""

    name: str
    load: Callable[[], ModuleType]
    distribution: importlib.metadata.Distribution | None = None
    request: str | None = None

    @property
    def label(self) -> str:
        """Return what it is called in messages: a name or file, with distribution and version where it has them."""
        came = f" ({self.distribution.name} {self.distribution.version})" if self.distribution else ""
        return f"{self.request or self.name}{came}"


def load_plugins(requests: Sequence[str] = (), *, installed: bool = True) -> Registry:
    """Load installed plugins (or none), then the requested: `MODULE`, `FILE.py`, or `no:NAME` to switch one off.

    A broken plugin becomes a finding of the registry; a broken plugin that was requested raises PluginError.
    Raises UsageError for a request that names nothing.
    """
    manager = pluggy.PluginManager("deeploc_bench")
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    specs: list[Owned[Any]] = []
    findings: list[Finding] = []
    contested: dict[str, Finding] = {}
    for candidate in _candidates(requests, installed):
        try:
            with guarded("it") as changed, streams_kept():
                plugin, new = _loaded(manager, candidate, specs)
        except Exception as error:
            if candidate.request is not None:
                raise PluginError(f"--plugin {candidate.label}: {reason_with_place(error)}") from error
            where = f"plugin {candidate.label} left out"
            findings.append(Finding(check="plugin", where=where, message=reason_with_place(error), level="warning"))
            if isinstance(error, _Clash):
                contested[error.check] = findings[-1]
        else:
            plugins.append(plugin)
            specs += new
            if changed:
                message = f"it changed {', '.join(changed)}, which was put back"
                findings.append(
                    Finding(check="settings", where=f"plugin {candidate.label}", message=message, level="warning")
                )
    return Registry(
        plugins=tuple(plugins),
        datasets=tuple(owned for owned in specs if isinstance(owned.spec, GeneratorDataset)),
        models={owned.spec.name: owned for owned in specs if isinstance(owned.spec, Model)},
        losses={owned.spec.name: owned for owned in specs if isinstance(owned.spec, Loss)},
        findings=tuple(findings),
        contested=contested,
        manager=manager,
    )


def _candidates(requests: Sequence[str], installed: bool) -> list[_Candidate]:
    found = importlib.metadata.entry_points(group=GROUP) if installed else ()
    points = [point for _, point in sorted({(point.name, point.value): point for point in found}.items())]
    switched_off = {request[3:] for request in requests if request.startswith("no:")}
    missing = switched_off - {point.name for point in points}
    if missing:
        raise UsageError(unknown("plugin", min(missing), (point.name for point in points)))
    kept = [point for point in points if point.name not in switched_off]
    wanted = dict.fromkeys(request for request in requests if not request.startswith("no:"))
    return [
        *(_Candidate(name=point.name, load=point.load, distribution=point.dist) for point in kept),
        *(_requested(request) for request in wanted),
    ]


def _requested(request: str) -> _Candidate:
    if request.endswith(".py"):
        path = Path(request)
        if not path.is_file():
            raise UsageError(f"--plugin {request}: there is no such file. Give a Python file or an importable module.")
        return _Candidate(name=path.stem, load=partial(load_file, path.absolute()), request=request)
    refuse_path(request, "--plugin")
    owners = importlib.metadata.packages_distributions().get(request.partition(".")[0])
    distribution = importlib.metadata.distribution(owners[0]) if owners else None
    load = partial(importlib.import_module, request)
    return _Candidate(name=request, load=load, distribution=distribution, request=request)


def refuse_path(request: str, flag: str) -> None:
    """Raise UsageError where a file's name lacks its ending, or a folder is named in the place of a module."""
    path, top = Path(request), request.partition(".")[0]
    if Path(f"{request}.py").is_file() and importlib.util.find_spec(top) is None:
        raise UsageError(f"{flag} {request}: there is no such module. Did you mean the file {request}.py?")
    if not re.fullmatch(r"\w+(\.\w+)*", request):
        cure = f"Install the package first, by pip install -e {request}, and give its module" if path.is_dir() else ""
        cure = cure or "Give a Python file, FILE.py, or an importable module"
        raise UsageError(f"{flag} {request}: that is no module and no Python file. {cure}.")


def load_file(path: Path) -> ModuleType:
    """Import a lone file; helper modules beside it can be imported, now and when it builds something later."""
    name = f"deeploc_bench_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("cannot be read as a Python file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that no file beside a plugin shadows an installed package
    _refuse_shadowed(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling and inspect look a function's module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_shadowed(path: Path) -> None:
    """Raise PluginError where the import of a helper beside a lone file would give another module of that name."""
    for name, file in reached("", path, None).items():
        top = name.partition(".")[0]
        if top and path.parent in file.parents:
            found = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
            origin = found and (found.origin or next(iter(found.submodule_search_locations or ()), None))
            beside = [path.parent / top, path.parent / top / "__init__.py", path.parent / f"{top}.py"]
            if not origin or Path(origin).absolute() not in beside:
                raise PluginError(f"import {top} gives {origin}, not {file}, the file beside the plugin; rename that")


def _loaded(
    manager: pluggy.PluginManager, candidate: _Candidate, specs: Sequence[Owned[Any]]
) -> tuple[Plugin, list[Owned[Any]]]:
    """Return a plugin and what it offers, registered; or raise, and leave the manager as it was."""
    name, came = candidate.name, candidate.distribution
    if manager.has_plugin(name):
        raise PluginError(f"another plugin is called {name!r}; rename one, or switch an installed one off (no:{name})")
    module = candidate.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"the entry point gives {type(module).__name__}; expected a module")
    distribution, version = (came.name, came.version) if came else (None, None)
    plugin = Plugin(name=name, distribution=distribution, version=version, module=module)
    try:
        manager.register(module, name)
        manager.check_pending()
        _refuse_unmarked(manager, module)
        new = [
            owned
            for hook, kind in LISTING_HOOKS.items()
            for offered in call(manager, plugin, hook)
            for owned in owned_specs(hook, offered, (kind,), plugin)
        ]
        refuse_joined(owned.spec.name for owned in new)
        _refuse_clashes(new, specs)
    except BaseException as error:
        if manager.is_registered(module):
            manager.unregister(module)
        if isinstance(error, pluggy.PluginValidationError):
            raise PluginError(_misspelt(str(error))) from None
        raise
    return plugin, new


def _refuse_unmarked(manager: pluggy.PluginManager, module: ModuleType) -> None:
    """Raise PluginError where a function is called like a hook, and is not marked as one."""
    for name in (name for name in vars(hookspecs) if name.startswith("deeploc_")):
        marked = any(one.plugin is module for one in getattr(manager.hook, name).get_hookimpls())
        if callable(getattr(module, name, None)) and not marked:
            raise PluginError(f"{name} is not marked; put @hookimpl above it (from deeploc_bench import hookimpl)")


def refuse_joined(names: Iterable[str]) -> None:
    """Raise PluginError where a model has a name that only one which is made of another may have, and is found by."""
    for name in names:
        if "+" in name:
            raise PluginError(f"a model is called {name!r}; expected {NAME_RULE}")


class _Clash(PluginError):
    """A claim of something that another plugin owns; `check` is the claim."""


def _refuse_clashes(new: Sequence[Owned[Any]], old: Sequence[Owned[Any]]) -> None:
    owners = {claim(owned.spec): owned.plugin.name for owned in old}
    for owned in new:
        what, claimant = claim(owned.spec), owned.plugin.name
        if what in owners:
            names = f"owned by plugin {owners[what]!r} and claimed by {claimant!r}"
            raise _Clash(f"{what} is {names} as well; rename one", check=what)
        owners[what] = claimant
    datasets = [owned for owned in (*old, *new) if isinstance(owned.spec, GeneratorDataset)]
    for suite in {owned.spec.suite for owned in datasets}:
        for reason in intrusions([owned for owned in datasets if owned.spec.suite == suite]):
            raise _Clash(reason, check=f"suite {suite}")


def _misspelt(message: str) -> str:
    """Return what is wrong with a plugin's hooks, in pluggy's words only where they are about something else."""
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("deeploc_")}
    if found := re.search(r"unknown hook '(\w+)'", message):
        return unknown("hook", found[1], hooks)
    if found := re.search(r"for hook '(\w+)'.*Argument\(s\) \{'(\w+)'", message, re.DOTALL):
        return unknown(f"argument of {found[1]}", found[2], inspect.signature(hooks[found[1]]).parameters)
    return " ".join(message.split())


def reason_with_place(error: BaseException) -> str:
    """Return what loading a plugin raised, in one line, with the line of code that raised it."""
    text = " ".join(str(error).split()) or "no reason given"
    if isinstance(error, DeeplocError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {text}"
