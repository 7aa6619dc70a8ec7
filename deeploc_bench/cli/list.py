"""`deeploc-bench list`: what the plugins offer."""

from collections.abc import Callable, Mapping
from typing import Any

import click
import msgspec
from tabulate import tabulate

from deeploc_bench.cli import common
from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.registry import Registry
from deeploc_bench.plan.protocols import PROTOCOLS
from deeploc_bench.plan.recipe import named_recipes

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
        {
            "name": name,
            "plugin": owned.plugin.name,
            "parameters": dict(owned.spec.parameters),
            "reference": owned.spec.reference,
        }
        for name, owned in sorted(registry.losses.items())
    ]


def _suites(registry: Registry) -> Entries:
    return [
        {
            "name": owned.spec.suite,
            "generator": owned.spec.name,
            "role": owned.spec.role,
            "plugin": owned.plugin.name,
            "regenerated": owned.spec.regenerated,
            "license": owned.spec.license,
            "reference": owned.spec.reference,
        }
        for owned in sorted(registry.datasets, key=lambda owned: (owned.spec.suite, owned.spec.name))
    ]


def _protocols(registry: Registry) -> Entries:
    return [
        {"name": name, "plugin": None, "what": (rule.__doc__ or "").partition("\n")[0]}
        for name, rule in PROTOCOLS.items()
    ]


def _recipes(registry: Registry) -> Entries:
    found = [msgspec.to_builtins(recipe) for recipe in named_recipes().values()]
    return [{"name": values.pop("name"), "plugin": None, **values} for values in found]


def _plugins(registry: Registry) -> Entries:
    found = [(plugin.name, plugin.distribution, plugin.version, None) for plugin in registry.plugins]
    broken = [(finding.where, None, None, finding.message) for finding in registry.findings]
    return [dict(zip(("name", "plugin", "version", "problem"), entry, strict=True)) for entry in (*found, *broken)]


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
    shown = [{key: _shown(value) for key, value in entry.items()} for entry in entries]
    parts = [tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True)]
    for plugin in registry.having(FINDERS[kind]) if kind in FINDERS else ():
        about = (plugin.module.__doc__ or "").partition("\n")[0]
        parts.append(f"Found by name too, by plugin {plugin.name}: {about}")
    common.show(entries, "\n\n".join(parts), as_json)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):  # parameters; one without a default is not set
        return ", ".join(name if default is None else f"{name}={default:g}" for name, default in value.items())
    return "" if value is None else str(value)
