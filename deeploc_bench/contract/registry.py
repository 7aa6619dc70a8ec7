"""Who owns which name: everything that the loaded plugins offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from deeploc_bench.contract.errors import DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.specs import GeneratorDataset, Loss, Model, Spec

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
class Registry:
    """Everything the loaded plugins offer, by name.

    `findings` are of the plugins that were left out; `contested` are those among them that claim what another owns, by
    claim.
    """

    plugins: tuple[Plugin, ...]
    datasets: tuple[Owned[GeneratorDataset], ...]
    models: Mapping[str, Owned[Model]]
    losses: Mapping[str, Owned[Loss]]
    findings: tuple[Finding, ...]
    contested: Mapping[str, Finding]
    manager: pluggy.PluginManager

    @property
    def baselines(self) -> tuple[str, ...]:
        """Return the names of the models that are baselines, sorted."""
        return tuple(sorted(name for name, owned in self.models.items() if owned.spec.baseline))

    def model(self, name: str) -> Owned[Model]:
        """Return the model of that name, listed or found in a family.

        Raises UsageError where no plugin knows it, PluginError where its owner is broken.
        """
        self._refuse_contested("model", name)
        if name in self.models:
            return self.models[name]
        for plugin in self.plugins:
            spec = _find(self.manager, plugin, "deeploc_find_model", name)
            if spec is not None:
                if not isinstance(spec, Model) or spec.name != name:
                    raise PluginError(f"plugin {plugin.name}: deeploc_find_model({name!r}) returned {spec!r:.200}")
                return Owned(spec=spec, plugin=plugin)
        raise UsageError(unknown("model", name, self.models) + self._left_out())

    def loss(self, name: str) -> Owned[Loss]:
        """Return the loss of that name; raises UsageError where no plugin knows it."""
        self._refuse_contested("loss", name)
        if name not in self.losses:
            raise UsageError(unknown("loss", name, self.losses) + self._left_out())
        return self.losses[name]

    def suite(self, name: str) -> tuple[Owned[GeneratorDataset], ...]:
        """Return the generator datasets of a suite, listed or found, sorted by name.

        Raises UsageError where no plugin knows it, PluginError or DataError where its owner cannot give it.
        """
        self._refuse_contested("suite", name)
        datasets = [owned for owned in self.datasets if owned.spec.suite == name] or self._found_suite(name)
        if not datasets:
            raise UsageError(unknown("suite", name, {owned.spec.suite for owned in self.datasets}) + self._left_out())
        return tuple(sorted(datasets, key=lambda owned: owned.spec.name))

    def finders(self, hook: str) -> list[Plugin]:
        """Return the plugins that find what they do not list, by a hook such as `deeploc_find_model`."""
        modules = [one.plugin for one in getattr(self.manager.hook, hook).get_hookimpls()]
        return [plugin for plugin in self.plugins if plugin.module in modules]

    def _found_suite(self, name: str) -> list[Owned[GeneratorDataset]]:
        for plugin in self.plugins:
            specs = _find(self.manager, plugin, "deeploc_find_suite", name)
            if specs is not None:
                return list(owned_specs("deeploc_find_suite", specs, GeneratorDataset, plugin))
        return []

    def _refuse_contested(self, kind: str, name: str) -> None:
        finding = self.contested.get(f"{kind} {name}")
        if finding is not None:
            raise PluginError(f"{kind} {name!r} cannot be used: {finding}")

    def _left_out(self) -> str:
        return "".join(f" ({finding})" for finding in self.findings)


def call(manager: pluggy.PluginManager, plugin: Plugin, hook: str, **arguments: object) -> list[Any]:
    """Return what a plugin's own implementation of a hook returns, in a list; an empty one where it has none."""
    own = [one for one in getattr(manager.hook, hook).get_hookimpls() if one.plugin is plugin.module]
    return [one.function(*(arguments[name] for name in one.argnames)) for one in own]


def owned_specs(hook: str, specs: object, kind: type[Any], plugin: Plugin) -> Iterable[Owned[Any]]:
    """Yield the specs that a hook returned, each with its owner; raises PluginError where one is of another kind."""
    if not isinstance(specs, Iterable):
        raise PluginError(f"{hook} returned {type(specs).__name__}; expected a list of {kind.__name__}")
    for spec in specs:
        if not isinstance(spec, kind):
            raise PluginError(f"{hook} returned a {type(spec).__name__}; expected {kind.__name__}")
        yield Owned(spec=spec, plugin=plugin)


def claim(spec: Spec) -> str:
    """Return what a spec claims: its kind and name, for a generator dataset within its suite."""
    if isinstance(spec, GeneratorDataset):
        return f"generator {spec.suite}/{spec.name}"
    return f"{type(spec).__name__.lower()} {spec.name}"


def observe(registry: Registry, hook: str, **arguments: object) -> list[Finding]:
    """Call an observing hook of every plugin; an observer that raises becomes a finding, never a failure."""
    findings = []
    for plugin in registry.plugins:
        try:
            call(registry.manager, plugin, hook, **arguments)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            where = f"observer {plugin.name}: {hook}"
            findings.append(Finding(check="observer", where=where, message=message, level="warning"))
    return findings


def _find(manager: pluggy.PluginManager, plugin: Plugin, hook: str, name: str) -> Any:
    try:
        return next((found for found in call(manager, plugin, hook, name=name) if found is not None), None)
    except DeeplocError:
        raise
    except Exception as error:
        raise PluginError(f"plugin {plugin.name}: {hook}({name!r}) raised {type(error).__name__}: {error}") from error
