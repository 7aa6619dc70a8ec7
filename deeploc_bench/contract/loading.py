"""Finds plugins, and loads each inside its own try: a broken one costs a line, unless it was asked for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from deeploc_bench.contract import hookspecs
from deeploc_bench.contract.errors import DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.registry import Owned, Plugin, Registry, call, claim, owned_specs
from deeploc_bench.contract.source import reached
from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model, Spec

GROUP = "deeploc_bench"
LISTING_HOOKS: Mapping[str, type[Spec]] = {
    "deeploc_datasets": GeneratorDataset,
    "deeploc_models": Model,
    "deeploc_losses": Loss,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A plugin that may be loaded; `is_named` where the user asked for it."""

    name: str
    label: str
    distribution: str | None
    version: str | None
    load: Callable[[], ModuleType]
    is_named: bool


def load_plugins(requests: Sequence[str] = ()) -> Registry:
    """Load installed plugins, then the requested ones: `MODULE`, `FILE.py`, or `no:NAME` to switch one off.

    A broken plugin becomes a finding of the registry; a broken plugin that was requested raises PluginError.
    Raises UsageError for a request that names nothing.
    """
    manager = pluggy.PluginManager("deeploc_bench")
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    specs: list[Owned[Any]] = []
    findings: list[Finding] = []
    contested: dict[str, Finding] = {}
    for candidate in _candidates(requests):
        try:
            plugin, new = _loaded(manager, candidate, specs)
        except (Exception, SystemExit) as error:  # a plugin that exits at import is a broken plugin
            findings.append(_left_out(candidate, error))
            if isinstance(error, _Clash):
                contested[error.claim] = findings[-1]
        else:
            plugins.append(plugin)
            specs += new
    return Registry(
        plugins=tuple(plugins),
        datasets=tuple(owned for owned in specs if isinstance(owned.spec, GeneratorDataset)),
        models={owned.spec.name: owned for owned in specs if isinstance(owned.spec, Model)},
        losses={owned.spec.name: owned for owned in specs if isinstance(owned.spec, Loss)},
        findings=tuple(findings),
        contested=contested,
        manager=manager,
    )


def _candidates(requests: Sequence[str]) -> list[_Candidate]:
    installed = [_installed(point) for point in _entry_points()]
    switched_off = {request[3:] for request in requests if request.startswith("no:")}
    missing = switched_off - {candidate.name for candidate in installed}
    if missing:
        raise UsageError(unknown("plugin", min(missing), (candidate.name for candidate in installed)))
    wanted = dict.fromkeys(request for request in requests if not request.startswith("no:"))
    return [c for c in installed if c.name not in switched_off] + [_requested(request) for request in wanted]


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    points = {(point.name, point.value): point for point in importlib.metadata.entry_points(group=GROUP)}
    return [points[key] for key in sorted(points)]


def _installed(point: importlib.metadata.EntryPoint) -> _Candidate:
    distribution = point.dist.name if point.dist else None
    version = point.dist.version if point.dist else None
    return _Candidate(
        name=point.name,
        label=f"{point.name} ({distribution} {version})",
        distribution=distribution,
        version=version,
        load=point.load,
        is_named=False,
    )


def _requested(request: str) -> _Candidate:
    if request.endswith(".py"):
        path = Path(request)
        if not path.is_file():
            raise UsageError(f"--plugin {request}: there is no such file. Give a Python file or an importable module.")
        load, name = partial(_load_file, path.absolute()), path.stem
        distribution, version = None, None
    else:
        load, name = partial(importlib.import_module, request), request
        distribution, version = _distribution_of(request)
    label = f"{request} ({distribution} {version})" if distribution else request
    return _Candidate(name=name, label=label, distribution=distribution, version=version, load=load, is_named=True)


def _load_file(path: Path) -> ModuleType:
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
            if not origin or path.parent not in Path(origin).absolute().parents:
                raise PluginError(f"import {top} gives {origin}, not {file}, the file beside the plugin; rename that")


def _distribution_of(module: str) -> tuple[str | None, str | None]:
    names = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    return (names[0], importlib.metadata.version(names[0])) if names else (None, None)


def _loaded(
    manager: pluggy.PluginManager, candidate: _Candidate, specs: Sequence[Owned[Any]]
) -> tuple[Plugin, list[Owned[Any]]]:
    """Return a plugin and what it offers, registered; or raise, and leave the manager as it was."""
    name = candidate.name
    if manager.has_plugin(name):
        raise PluginError(f"another plugin is called {name!r}; rename one, or switch an installed one off (no:{name})")
    module = candidate.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"the entry point gives {type(module).__name__}; expected a module")
    plugin = Plugin(name=candidate.name, distribution=candidate.distribution, version=candidate.version, module=module)
    try:
        manager.register(module, candidate.name)
        manager.check_pending()
        new = [
            owned
            for hook, kind in LISTING_HOOKS.items()
            for offered in call(manager, plugin, hook)
            for owned in owned_specs(hook, offered, kind, plugin)
        ]
        _refuse_clashes(new, specs)
    except pluggy.PluginValidationError as error:
        manager.unregister(module)
        raise PluginError(_misspelt(str(error))) from None
    except (Exception, SystemExit):
        manager.unregister(module)
        raise
    return plugin, new


class _Clash(PluginError):
    """A claim of something that another plugin owns."""

    def __init__(self, claim: str, owner: Plugin, claimant: Plugin) -> None:
        names = f"owned by plugin {owner.name!r} and claimed by {claimant.name!r}"
        super().__init__(f"{claim} is {names} as well; rename one")
        self.claim = claim


def _refuse_clashes(new: Sequence[Owned[Any]], old: Sequence[Owned[Any]]) -> None:
    owners = {claim(owned.spec): owned.plugin for owned in old}
    for owned in new:
        owner = owners.setdefault(claim(owned.spec), owned.plugin)
        if owner is not owned.plugin or [claim(one.spec) for one in new].count(claim(owned.spec)) > 1:
            raise _Clash(claim(owned.spec), owner, owned.plugin)


def _misspelt(message: str) -> str:
    hook = message.partition("unknown hook '")[2].partition("'")[0]
    known = [name for name in vars(hookspecs) if name.startswith("deeploc_")]
    return unknown("hook", hook, known) if hook else " ".join(message.split())


def _left_out(candidate: _Candidate, error: BaseException) -> Finding:
    if candidate.is_named:
        raise PluginError(f"--plugin {candidate.label}: {_reason(error)}") from error
    return Finding(check="plugin", where=f"plugin {candidate.label} left out", message=_reason(error), level="warning")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no reason given"
    if isinstance(error, DeeplocError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {text}"
