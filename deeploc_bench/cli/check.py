"""`deeploc-bench check`: do a plugin's models, losses and generator datasets hold what the contract says?"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from deeploc_bench.cli import common
from deeploc_bench.contract import findings
from deeploc_bench.contract.errors import DeeplocError, UsageError, unknown
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.registry import Owned, Plugin, Registry
from deeploc_bench.contract.specs import Loss, Model
from deeploc_bench.data.suites import load_suite
from deeploc_bench.data.survey import survey
from deeploc_bench.plan.job import DEFAULT_LOSS
from deeploc_bench.plan.losses import LossExpression, parse_loss

SIZES = ((64, 64), (33, 47), (96, 128))
"""Heights and widths in pixels that every model is tried at."""
Checks = Iterator[tuple[str, Callable[[], list[Finding]]]]


@click.command("check")
@click.argument("what", metavar="NAME|FILE.py|MODULE")
@common.data_option
@common.plugin_option
@common.json_option
def command(what: str, data: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Try a model, a loss or a suite, or all those of a plugin, on a few images; nothing is trained.

    Exit code 0 where nothing is wrong but warnings, else 1.
    """
    registry = common.load(plugins)
    known = {*registry.models, *registry.losses, *(owned.spec.suite for owned in registry.datasets)}
    if what not in known and (what.endswith(".py") or "." in what or Path(what).exists()):
        registry = common.load((*plugins, what))
        checks = _of_plugin(_plugin(registry, what), registry, data)
    else:
        checks = iter([_of_name(what, registry, data)])
    found = {}
    for name, check in checks:
        try:
            found[name] = check()
        except DeeplocError as error:
            found[name] = [Finding(check="build", message=str(error))]
    if as_json:
        common.print_json([{"name": name, "findings": findings.as_json(own)} for name, own in found.items()])
    else:
        for name, own in found.items():
            common.put("\n  ".join([f"{'FAILED' if _fails(own) else 'ok'}  {name}", *(one.line for one in own)]))
    sys.exit(1 if any(map(_fails, found.values())) else 0)


def _plugin(registry: Registry, what: str) -> Plugin:
    """Return the plugin of a file or a module that was loaded for it."""
    for plugin in registry.plugins:
        file = getattr(plugin.module, "__file__", None)
        if plugin.module.__name__ == what or (file and Path(file) == Path(what).resolve()):
            return plugin
    raise UsageError(f"{what}: {unknown('plugin', what, [plugin.name for plugin in registry.plugins])}")


def _of_plugin(plugin: Plugin, registry: Registry, data: str | None) -> Checks:
    offered = (registry.models.values(), registry.losses.values(), registry.datasets)
    own = [owned.spec for specs in offered for owned in specs if owned.plugin == plugin]
    if not own:
        raise UsageError(f"plugin {plugin.name!r} offers no model, no loss and no generator dataset to check")
    names = dict.fromkeys(spec.name if isinstance(spec, Model | Loss) else spec.suite for spec in own)
    return (_of_name(name, registry, data) for name in names)


def _of_name(name: str, registry: Registry, data: str | None) -> tuple[str, Callable[[], list[Finding]]]:
    if name in registry.losses:
        return f"loss {name}", lambda: _loss_findings(parse_loss(name, registry))
    if any(owned.spec.suite == name for owned in registry.datasets) or name.endswith(".toml"):
        datasets = registry.suite(name)
        return f"suite {name}", lambda: survey(load_suite(datasets, data=data, progress=common.progress))
    model = registry.model(name)
    return f"model {name}", lambda: _model_findings(model, parse_loss(DEFAULT_LOSS, registry))


def _loss_findings(expression: LossExpression) -> list[Finding]:
    from deeploc_bench.training.rehearsal import loss_findings

    return list(loss_findings(expression))


def _model_findings(model: Owned[Model], loss: LossExpression) -> list[Finding]:
    from deeploc_bench.training.rehearsal import gradient_findings, model_findings

    is_trained = model.spec.trainable and not model.spec.fits_itself
    size = model.spec.recipe.get("input_size")
    found = model_findings(model, "none", size, SIZES, is_trained=is_trained)
    return found if found or not is_trained else gradient_findings(model, "none", size, loss)


def _fails(found: list[Finding]) -> bool:
    return any(finding.is_error for finding in found)
