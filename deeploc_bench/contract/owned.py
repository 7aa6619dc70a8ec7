"""Specs and their plugins, and suites of several: what others add to a suite, and suites that include others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Generic, TypeVar

from deeploc_bench.contract.errors import PluginError, UsageError
from deeploc_bench.contract.specs import AUTHENTIC, GeneratorDataset, Loss, Model, Spec

DEFAULTS = ("default_model", "default_recipe")
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
    where they agree. Raises UsageError where one of them is included twice, or two generators would share a name.
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
    called = [owned.spec.name for owned in made]
    if alike := next((name for name in called if called.count(name) > 1), None):
        raise UsageError(f"two generators of {suite!r} would both be called {alike!r}; rename one, or its suite")
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
