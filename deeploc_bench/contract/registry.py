"""Who owns which name: everything that the loaded plugins offer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from deeploc_bench.contract.errors import DataError, DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.isolation import guarded, streams_kept
from deeploc_bench.contract.specs import AUTHENTIC, GeneratorDataset, Inclusion, Loss, Model, Spec

DEFAULTS = ("default_model", "default_recipe")
MOST_WITHIN = 4
"""How deep suites may include each other."""
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
    """A spec and the plugin that returned it; `inner` are the models that a model is made of, of any plugin."""

    spec: S
    plugin: Plugin
    included: tuple[Owned[S], ...] = ()
    """The generator datasets of other suites that it is, where its suite includes them: several only of authentic."""
    inner: tuple[Owned[Model], ...] = ()

    @property
    def title(self) -> str:
        """Return the words by which messages name it, such as `model 'net' (plugin 'mine')`."""
        kind = type(self.spec).__name__.lower()
        return f"{kind} {self.spec.name!r} (plugin {self.plugin.name!r})"

    @property
    def parts(self) -> tuple[Owned[Any], ...]:
        """Return it and all that it is made of, however deep."""
        return (self, *(part for inner in self.inner for part in inner.parts))


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
        raise UsageError(unknown("model", name, self.models) + self._left_out())

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
            return tuple(sorted(self._joined(name.split("+")), key=lambda owned: owned.spec.name))
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

    def _joined(self, names: Sequence[str]) -> list[Owned[GeneratorDataset]]:
        """Return the datasets of a suite that is made of others."""
        suites = [self.suite(name) for name in names]
        called = sorted(datasets[0].spec.suite for datasets in suites)
        joined = "-and-".join(called)
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


def owned_specs(hook: str, specs: object, kinds: Sequence[type[Any]], plugin: Plugin) -> Iterable[Owned[Any]]:
    """Yield the specs that a hook returned, each with its owner; raises PluginError where one is of another kind."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    if not isinstance(specs, Iterable):
        raise PluginError(f"{hook} returned {type(specs).__name__}; expected a list of {expected}")
    for spec in specs:
        if not isinstance(spec, tuple(kinds)):
            raise PluginError(f"{hook} returned a {type(spec).__name__}; expected {expected}")
        yield Owned(spec=spec, plugin=plugin)


def claim(spec: Spec) -> str:
    """Return what a spec claims: its kind and name, for a generator dataset within its suite."""
    if isinstance(spec, GeneratorDataset):
        return f"generator {spec.suite}/{spec.name}"
    return f"{type(spec).__name__.lower()} {spec.name}"


def included(suite: str, others: Sequence[Sequence[Owned[GeneratorDataset]]]) -> list[Owned[GeneratorDataset]]:
    """Return the generator datasets of other suites as those of a suite that includes them, called `SUITE.GENERATOR`.

    Their authentic images are one dataset. What plugins add to the others is left out; a default of theirs stays one
    where they agree. Raises UsageError where one of them is included twice.
    """
    names = [datasets[0].spec.suite for datasets in others]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"suite {twice!r} stands twice in {suite!r}; name each suite once")
    parts = [owned for datasets in others for owned in datasets if owned not in additions(datasets)]
    untouched = tuple(owned for owned in parts if owned.spec.name == AUTHENTIC)
    edited = [(owned,) for owned in parts if owned.spec.name != AUTHENTIC]
    model, recipe = (_agreed(getattr(owned.spec, key) for owned in parts) for key in DEFAULTS)
    made = []
    for group in [*edited, *([untouched] if untouched else [])]:
        spec = group[0].spec
        is_edited = spec.name != AUTHENTIC
        name = f"{spec.suite}.{spec.name}" if is_edited else AUTHENTIC
        method = (spec.method or spec.name) if is_edited else None
        spec = replace(spec, suite=suite, name=name, method=method, default_model=model, default_recipe=recipe)
        made.append(Owned(spec=spec, plugin=group[0].plugin, included=group))
    return made


def _agreed(values: Iterable[str | None]) -> str | None:
    found = {value for value in values if value}
    return found.pop() if len(found) == 1 else None


def additions(datasets: Sequence[Owned[GeneratorDataset]]) -> list[Owned[GeneratorDataset]]:
    """Return the generator datasets of a suite that are not its owner's, the plugin of its first standard one."""
    own = [owned for owned in datasets if not owned.included]
    owner = next((owned.plugin for owned in own if owned.spec.role == "standard"), None)
    return [owned for owned in own if owner and owned.plugin is not owner]


def intrusions(datasets: Sequence[Owned[GeneratorDataset]]) -> Iterator[str]:
    """Yield why datasets that are no part of their owner's suite cannot be added to it, in the order of their loading.

    A test-only one is an addition, which changes nothing of the suite itself; a standard one would make it another
    suite, and authentic images would change its false alarms.
    """
    added = additions(datasets)
    for owned in added:
        spec, claimant = owned.spec, owned.plugin.name
        if spec.role == "standard":
            what, cure = f"the standard generator {spec.name!r}", "Say role='test-only'"
        elif spec.name == AUTHENTIC:
            what, cure = "authentic images", "Leave them out"
        else:
            continue
        owner = next(one.plugin.name for one in datasets if one not in added)
        yield (
            f"suite {spec.suite!r} is owned by plugin {owner!r}, and plugin {claimant!r} adds {what} to it; only "
            f"test-only generators with masks may be added. {cure}, or make a suite of another name that includes the "
            f"generators of {spec.suite!r} (docs/suites.md)"
        )


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
