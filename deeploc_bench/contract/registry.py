"""Finds plugins, loads each inside its own try, and knows who owns which name."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from deeploc_bench.contract import hookspecs
from deeploc_bench.contract.errors import DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model, Spec

GROUP = "deeploc_bench"
LISTING_HOOKS: Mapping[str, type[Spec]] = {
    "deeploc_datasets": GeneratorDataset,
    "deeploc_models": Model,
    "deeploc_losses": Loss,
}
S = TypeVar("S", GeneratorDataset, Model, Loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A loaded plugin and the distribution it came in (None for a lone file)."""

    name: str
    distribution: str | None
    version: str | None
    module: ModuleType


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned(Generic[S]):
    """A spec and the plugin that returned it."""

    spec: S
    plugin: Plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A plugin that was left out: why, and the names it would have owned."""

    plugin: str
    reason: str
    names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"plugin {self.plugin} left out: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Everything the loaded plugins offer, by name."""

    plugins: tuple[Plugin, ...]
    datasets: tuple[Owned[GeneratorDataset], ...]
    models: Mapping[str, Owned[Model]]
    losses: Mapping[str, Owned[Loss]]
    problems: tuple[Problem, ...]
    manager: pluggy.PluginManager

    def model(self, name: str) -> Owned[Model]:
        """Return the model of that name, listed or found in a family.

        Raises UsageError where no plugin knows it, PluginError where its owner is broken.
        """
        self._refuse_contested("model", name)
        if name in self.models:
            return self.models[name]
        for plugin in self.plugins:
            spec = _call(self.manager, plugin, "deeploc_find_model", name=name)
            if spec is not None:
                return Owned(spec=_checked_find(spec, name, plugin), plugin=plugin)
        raise UsageError(unknown("model", name, self.models) + self._left_out())

    def loss(self, name: str) -> Owned[Loss]:
        """Return the loss of that name; raises UsageError where no plugin knows it."""
        self._refuse_contested("loss", name)
        if name not in self.losses:
            raise UsageError(unknown("loss", name, self.losses) + self._left_out())
        return self.losses[name]

    def suite(self, name: str) -> tuple[Owned[GeneratorDataset], ...]:
        """Return the generator datasets of a suite; raises UsageError where there is none."""
        self._refuse_contested("suite", name)
        found = tuple(owned for owned in self.datasets if owned.spec.suite == name)
        if not found:
            raise UsageError(unknown("suite", name, {owned.spec.suite for owned in self.datasets}) + self._left_out())
        return found

    def _refuse_contested(self, kind: str, name: str) -> None:
        for problem in self.problems:
            if f"{kind} {name}" in problem.names:
                raise PluginError(f"{kind} {name!r} cannot be used: {problem}")

    def _left_out(self) -> str:
        return "".join(f" ({problem})" for problem in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    name: str
    label: str
    distribution: str | None
    version: str | None
    load: Callable[[], ModuleType]
    is_named: bool


def load_plugins(requests: Sequence[str] = ()) -> Registry:
    """Load installed plugins, then the requested ones: `MODULE`, `FILE.py`, or `no:NAME` to switch one off.

    A broken plugin becomes a problem of the registry; a broken plugin that was requested raises PluginError.
    Raises UsageError for a request that names nothing.
    """
    candidates = _candidates(requests)
    manager = pluggy.PluginManager("deeploc_bench")
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    specs: list[Owned[Any]] = []
    problems: list[Problem] = []
    for candidate in candidates:
        try:
            plugin = _register(manager, candidate)
        except (Exception, SystemExit) as error:
            problems.append(_problem(candidate, error))
            continue
        try:
            new = list(_collect(manager, plugin))
            _refuse_clashes(new, specs)
        except Exception as error:
            manager.unregister(plugin.module)
            problems.append(_problem(candidate, error))
            continue
        plugins.append(plugin)
        specs += new
    return Registry(
        plugins=tuple(plugins),
        datasets=tuple(owned for owned in specs if isinstance(owned.spec, GeneratorDataset)),
        models={owned.spec.name: owned for owned in specs if isinstance(owned.spec, Model)},
        losses={owned.spec.name: owned for owned in specs if isinstance(owned.spec, Loss)},
        problems=tuple(problems),
        manager=manager,
    )


def source_hash(owned: Owned[Any]) -> str:
    """Return the hash (16 hex) of the source files that build a spec: the plugin's own, and that of `build`."""
    files = {_source_file(owned.plugin.module), _source_file(_unwrapped(owned.spec.build))} - {None}
    digest = hashlib.sha256()
    for content in sorted(Path(file).read_bytes() for file in files if file):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def origin(owned: Owned[Any]) -> dict[str, str | None]:
    """Return what identifies the code behind a spec: name, distribution, version and source hash."""
    plugin = owned.plugin
    return {
        "name": owned.spec.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": source_hash(owned),
    }


def observe(registry: Registry, hook: str, **arguments: object) -> list[Problem]:
    """Call an observing hook of every plugin; an observer that raises becomes a problem, never a failure."""
    problems = []
    for plugin in registry.plugins:
        try:
            _call(registry.manager, plugin, hook, **arguments)
        except Exception as error:
            problems.append(Problem(plugin=plugin.name, reason=f"{hook}: {_reason(error)}"))
    return problems


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
        load, name = partial(_load_file, path), path.stem
        distribution, version = None, None
    else:
        load, name = partial(importlib.import_module, request), request
        distribution, version = _distribution_of(request)
    label = f"{request} ({distribution} {version})" if distribution else request
    return _Candidate(name=name, label=label, distribution=distribution, version=version, load=load, is_named=True)


def _load_file(path: Path) -> ModuleType:
    name = f"deeploc_bench_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("cannot be read as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling and inspect look a function's module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _distribution_of(module: str) -> tuple[str | None, str | None]:
    names = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    return (names[0], importlib.metadata.version(names[0])) if names else (None, None)


def _register(manager: pluggy.PluginManager, candidate: _Candidate) -> Plugin:
    module = candidate.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"the entry point gives {type(module).__name__}; expected a module")
    try:
        manager.register(module, candidate.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        manager.unregister(module)
        raise PluginError(_misspelt(str(error))) from None
    return Plugin(name=candidate.name, distribution=candidate.distribution, version=candidate.version, module=module)


def _misspelt(message: str) -> str:
    hook = message.partition("unknown hook '")[2].partition("'")[0]
    known = [name for name in vars(hookspecs) if name.startswith("deeploc_")]
    return unknown("hook", hook, known) if hook else " ".join(message.split())


def _call(manager: pluggy.PluginManager, plugin: Plugin, hook: str, **arguments: object) -> Any:
    others = [module for module in manager.get_plugins() if module is not plugin.module]
    return manager.subset_hook_caller(hook, others)(**arguments)


def _collect(manager: pluggy.PluginManager, plugin: Plugin) -> Iterable[Owned[Any]]:
    for hook, kind in LISTING_HOOKS.items():
        for result in _call(manager, plugin, hook):
            if not isinstance(result, Iterable):
                raise PluginError(f"{hook} returned {type(result).__name__}; expected a list of {kind.__name__}")
            for spec in result:
                if not isinstance(spec, kind):
                    raise PluginError(f"{hook} returned a {type(spec).__name__}; expected {kind.__name__}")
                yield Owned(spec=spec, plugin=plugin)


def _refuse_clashes(new: Sequence[Owned[Any]], old: Sequence[Owned[Any]]) -> None:
    owners = {claim(owned.spec): owned.plugin for owned in old}
    for owned in new:
        key = claim(owned.spec)
        if key in owners:
            raise _Clash(key, owners[key].name, owned.plugin.name)
        owners[key] = owned.plugin


class _Clash(PluginError):
    def __init__(self, key: str, owner: str, claimant: str) -> None:
        super().__init__(f"{key} is owned by plugin {owner!r} and claimed by {claimant!r} as well; rename one")
        self.key = key


def claim(spec: Spec) -> str:
    """Return what a spec claims: its kind and name, for a generator dataset within its suite."""
    if isinstance(spec, GeneratorDataset):
        return f"generator {spec.suite}/{spec.name}"
    return f"{type(spec).__name__.lower()} {spec.name}"


def _problem(candidate: _Candidate, error: BaseException) -> Problem:
    names = frozenset({error.key}) if isinstance(error, _Clash) else frozenset()
    problem = Problem(plugin=candidate.label, reason=_reason(error), names=names)
    if candidate.is_named:
        raise PluginError(f"--plugin {candidate.label}: {problem.reason}") from error
    return problem


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no reason given"
    if isinstance(error, DeeplocError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {text}"


def _checked_find(spec: object, name: str, plugin: Plugin) -> Model:
    if not isinstance(spec, Model) or spec.name != name:
        raise PluginError(f"plugin {plugin.name}: deeploc_find_model({name!r}) returned {spec!r}; expected that Model")
    return spec


def _unwrapped(build: Any) -> Any:
    while isinstance(build, partial):
        build = build.func
    return inspect.unwrap(build) if inspect.isroutine(build) or inspect.isclass(build) else type(build)


def _source_file(thing: Any) -> str | None:
    try:
        return inspect.getsourcefile(thing)
    except TypeError:
        return None
