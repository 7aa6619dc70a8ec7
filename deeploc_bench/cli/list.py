"""`deeploc-bench list`: what the plugins offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from tabulate import tabulate

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.registry import Registry

Entries = list[dict[str, Any]]


def _models(registry: Registry) -> Entries:
    return [
        {
            "name": name,
            "plugin": owned.plugin.name,
            "pretraining": owned.spec.pretraining,
            "trained": owned.spec.trainable,
            "baseline": owned.spec.baseline,
            "license": owned.spec.license,
            "reference": owned.spec.reference,
        }
        for name, owned in sorted(registry.models.items())
    ]


def _losses(registry: Registry) -> Entries:
    return [
        {"name": name, "plugin": owned.plugin.name, "reference": owned.spec.reference}
        for name, owned in sorted(registry.losses.items())
    ]


def _suites(registry: Registry) -> Entries:
    return [
        {
            "name": owned.spec.suite,
            "generator": owned.spec.name,
            "role": owned.spec.role,
            "plugin": owned.plugin.name,
            "license": owned.spec.license,
        }
        for owned in sorted(registry.datasets, key=lambda owned: (owned.spec.suite, owned.spec.name))
    ]


def _protocols(registry: Registry) -> Entries:
    from deeploc_bench.plan.protocols import PROTOCOLS

    return [{"name": name, "plugin": None, "what": (rule.__doc__ or "")} for name, rule in PROTOCOLS.items()]


def _recipes(registry: Registry) -> Entries:
    import msgspec

    from deeploc_bench.plan.recipe import named_recipes

    found = [msgspec.to_builtins(recipe) for recipe in named_recipes().values()]
    return [{"name": values.pop("name"), "plugin": None, **values} for values in found]


def _plugins(registry: Registry) -> Entries:
    loaded = [
        {"name": plugin.name, "plugin": plugin.distribution, "version": plugin.version, "problem": None}
        for plugin in registry.plugins
    ]
    broken = [
        {"name": finding.where, "plugin": None, "version": None, "problem": finding.message}
        for finding in registry.findings
    ]
    return loaded + broken


KINDS: Mapping[str, Callable[[Registry], Entries]] = {
    "models": _models,
    "losses": _losses,
    "suites": _suites,
    "protocols": _protocols,
    "recipes": _recipes,
    "plugins": _plugins,
}


FINDERS = {"models": "deeploc_find_model", "suites": "deeploc_find_suite"}
"""The hooks by which plugins find what they do not list."""


@click.command("list")
@click.argument("kind", metavar="|".join(KINDS))
@common.plugin_option
@common.json_option
def command(kind: str, plugins: tuple[str, ...], as_json: bool) -> None:
    """List models, losses, suites, protocols, recipes or plugins."""
    if kind not in KINDS:
        raise UsageError(unknown("kind", kind, KINDS))
    registry = common.load(plugins)
    entries = KINDS[kind](registry)
    if as_json:
        common.print_json(entries)
        return
    print(tabulate([_shown(entry) for entry in entries], headers="keys", tablefmt="github", disable_numparse=True))
    for plugin in registry.finders(FINDERS[kind]) if kind in FINDERS else ():
        print(f"\nFound by name too, by plugin {plugin.name}: {(plugin.module.__doc__ or '').partition(chr(10))[0]}")


def _shown(entry: Mapping[str, Any]) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in entry.items()}
