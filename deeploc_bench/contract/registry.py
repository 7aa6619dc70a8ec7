"""Who owns which name: everything that the loaded plugins offer."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pluggy

from deeploc_bench.contract.errors import DataError, DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.isolation import guarded, streams_kept
from deeploc_bench.contract.owned import Owned, Plugin, included, intrusions, owned_specs
from deeploc_bench.contract.specs import NAME_PATTERN, NAME_RULE, GeneratorDataset, Inclusion, Loss, Model

MOST_WITHIN = 4
"""How deep suites may include each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All that plugins offer; `findings` are of those left out, `contested` those of what another owns, by claim."""

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
        """Return a model, listed or of a family; raises UsageError if unknown, PluginError if its owner is broken."""
        if found := self.find_model(name):
            return found
        if is_description(name):
            raise UsageError(
                f"model {name}: no plugin finds a model in it; docs/detectors.md says how one is described"
            )
        finders = ", ".join(plugin.name for plugin in self.having("deeploc_find_model"))
        more = f" Plugins find more by name ({finders}): deeploc-bench list models tells how." if finders else ""
        raise UsageError(unknown("model", name, self.models) + more + self._left_out())

    def find_model(self, name: str) -> Owned[Model] | None:
        """Return a model as `model` does, or None where no plugin knows it."""
        self._refuse_contested("model", name)
        if name in self.models:
            return self.models[name]
        for plugin in self.plugins:
            inner: list[Owned[Model]] = []
            for spec in self._asked(plugin, "deeploc_find_model", name=name, find=partial(self._lent, inner)):
                found = Owned(spec=spec, plugin=plugin, inner=tuple(inner))
                self._refuse_misnamed(found, name)
                return found
        return None

    def _lent(self, inner: list[Owned[Model]], name: str) -> Model:
        """Return a model to a plugin that makes another of it, and note it."""
        inner.append(self.model(name))
        return inner[-1].spec

    def _refuse_misnamed(self, found: Owned[Model], name: str) -> None:
        """Raise PluginError where a model is not called as it was asked for, or a described one as another is."""
        spec, plugin = found.spec, found.plugin.name
        is_described = is_description(name) and isinstance(spec, Model)
        if not isinstance(spec, Model) or (spec.name != name and not is_described):
            raise PluginError(f"plugin {plugin}: deeploc_find_model({name!r}) returned {spec!r:.200}")
        if "+" in spec.name and not found.inner:
            raise PluginError(
                f"plugin {plugin}: model {spec.name!r} has a '+', and is made of no other that it asks for"
            )
        if is_described and (other := self.find_model(spec.name)):
            raise PluginError(f"{name}: {spec.name!r} is the name of {other.title}; give it another")

    def loss(self, name: str) -> Owned[Loss]:
        """Return the loss of that name; raises UsageError where no plugin knows it."""
        self._refuse_contested("loss", name)
        if name not in self.losses:
            raise UsageError(unknown("loss", name, self.losses) + self._left_out())
        return self.losses[name]

    def suite(self, name: str, within: int = 0) -> tuple[Owned[GeneratorDataset], ...]:
        """Return a suite's datasets, by name; raises UsageError if unknown, PluginError or DataError of its owner.

        `A+B` is a suite of two others, which is called `A-and-B`; `within` is how many include it.
        """
        if within > MOST_WITHIN:
            raise DataError(
                f"suite {name!r} includes itself, or suites include each other more than {MOST_WITHIN} deep"
            )
        if "+" in name and not Path(name).is_file():
            return tuple(sorted(self._joined(name.split("+"), within + 1), key=lambda owned: owned.spec.name))
        self._refuse_contested("suite", name)
        datasets = self._listed(name) or self._described(name, within)
        names = [owned.spec.name for owned in datasets]
        if len({owned.spec.suite for owned in datasets}) > 1 or len(set(names)) < len(names):
            owner = datasets[0].plugin.name
            raise PluginError(
                f"plugin {owner}: suite {name!r} must be one suite of different generators; it has {names}"
            )
        if not datasets:
            raise UsageError(unknown("suite", name, {owned.spec.suite for owned in self.datasets}) + self._left_out())
        for owned in datasets:
            self._refuse_contested("generator", f"{name}/{owned.spec.name}")
        return tuple(sorted(datasets, key=lambda owned: owned.spec.name))

    def _listed(self, suite: str) -> list[Owned[GeneratorDataset]]:
        return [owned for owned in self.datasets if owned.spec.suite == suite]

    def _described(self, name: str, within: int) -> list[Owned[GeneratorDataset]]:
        """Return the datasets of a suite that a plugin finds, and those that others add to it."""
        hook = "deeploc_find_suite"
        kinds = (GeneratorDataset, Inclusion)
        found = (
            list(owned_specs(hook, specs, kinds, plugin))
            for plugin in self.plugins
            for specs in self._asked(plugin, hook, name=name)
        )
        parts = next(found, [])
        datasets = [part for part in parts if not isinstance(part.spec, Inclusion)]
        others = [part.spec.name for part in parts if isinstance(part.spec, Inclusion)]
        if others:
            datasets += included(parts[0].spec.suite, [self.suite(one, within + 1) for one in others])
        # a file may describe another copy of a suite that its plugin lists: then it stands for that suite
        finders = {part.plugin.name for part in parts}
        suites = {owned.spec.suite for owned in datasets}
        added = [one for suite in suites for one in self._listed(suite) if one.plugin.name not in finders]
        for reason in intrusions([*added, *datasets]):
            raise PluginError(reason)
        return [*datasets, *added]

    def _joined(self, names: Sequence[str], within: int) -> list[Owned[GeneratorDataset]]:
        """Return the datasets of a suite that is made of others."""
        suites = [self.suite(name, within) for name in names]
        called = sorted(datasets[0].spec.suite for datasets in suites)
        joined = "-and-".join(called)
        if not re.fullmatch(NAME_PATTERN, joined):
            raise UsageError(
                f"{'+'.join(names)} would be called {joined!r}; expected {NAME_RULE}. Include them in one description "
                "of a shorter name (docs/suites.md)"
            )
        if self._listed(joined):
            raise UsageError(
                f"{'+'.join(names)} would be called {joined!r}, which is another suite; include them in one"
            )
        return included(joined, suites)

    def having(self, hook: str) -> list[Plugin]:
        """Return the plugins that implement a hook."""
        modules = [one.plugin for one in getattr(self.manager.hook, hook).get_hookimpls()]
        return [plugin for plugin in self.plugins if plugin.module in modules]

    def _asked(self, plugin: Plugin, hook: str, *, name: str, **more: object) -> list[Any]:
        """Return what a plugin finds under a name that nobody lists; an empty list where it finds nothing."""
        try:
            found = call(self.manager, plugin, hook, name=name, **more)
        except DeeplocError:
            raise
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
            raise PluginError(f"plugin {plugin.name}: {hook}({name!r}) raised {raised}") from error
        return [one for one in found if one is not None]

    def _refuse_contested(self, kind: str, name: str) -> None:
        if finding := self.contested.get(f"{kind} {name}"):
            raise PluginError(f"{kind} {name!r} cannot be used: {finding}. Switch one off with --plugin no:NAME")

    def _left_out(self) -> str:
        return "".join(f" ({finding})" for finding in self.findings)


def is_description(name: str) -> bool:
    """Tell whether what is asked for is a file that describes it."""
    return name.endswith(".toml")


def call(manager: pluggy.PluginManager, plugin: Plugin, hook: str, **arguments: object) -> list[Any]:
    """Return what a plugin's own implementation of a hook returns, in a list; an empty one where it has none.

    What a generator yields is gathered here. Raises PluginError where the hook would end the program.
    """
    own = [one for one in getattr(manager.hook, hook).get_hookimpls() if one.plugin is plugin.module]
    returned = []
    for one in own:
        with guarded(f"plugin {plugin.name}: {hook}"), streams_kept():
            value = one.function(*(arguments[name] for name in one.argnames))
            returned.append(list(value) if isinstance(value, Iterator) else value)
    return returned


def observe(registry: Registry, hook: str, **arguments: object) -> list[Finding]:
    """Call an observing hook of every plugin that has it, each with copies of the arguments of its own.

    An observer that raises becomes a finding, never a failure.
    """
    findings = []
    for plugin in registry.having(hook):
        try:
            call(registry.manager, plugin, hook, **copy.deepcopy(arguments))
        except Exception as error:
            message, where = f"{type(error).__name__}: {error}", f"observer {plugin.name}: {hook}"
            findings.append(Finding(check="observer", where=where, message=message, level="warning"))
    return findings
