"""Checks what is named: a model, a loss or a suite of any plugin, or all those of one file or module."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from deeploc_bench.contract import hookspecs
from deeploc_bench.contract.errors import DeeplocError, PluginError, UsageError, unknown
from deeploc_bench.contract.findings import DATA_ERRORS, DATA_NOTES, DATA_WARNINGS, Finding
from deeploc_bench.contract.loading import load_plugins, refuse_joined
from deeploc_bench.contract.owned import Owned, Plugin
from deeploc_bench.contract.registry import Registry, is_description
from deeploc_bench.contract.specs import OWN, GeneratorDataset, Loss, Model, Spec
from deeploc_bench.data.reread import reread_findings
from deeploc_bench.data.suites import Progress, load_suite, silent
from deeploc_bench.data.survey import survey
from deeploc_bench.plan.job import DEFAULT_LOSS
from deeploc_bench.plan.losses import LossExpression, parse_loss

if TYPE_CHECKING:
    from deeploc_bench.training.trial import ModelTrial

SIZES = ((33, 47), (96, 64), (128, 128))
"""Heights and widths in pixels that every model is tried at beside 64 x 64: odd, not square, twice as large."""


SUM = "(*+"
"""What stands in loss expressions, and not in names."""
SHOWN = 5
"""The most findings of one check that are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one check: its name, what it does, and what it found."""

    check: str
    does: str
    findings: tuple[Finding, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Tell whether there are no errors among its findings."""
        return not any(finding.is_error for finding in self.findings)

    @property
    def level(self) -> str:
        """Return `error`, `warning` or `ok`: the worst of its findings."""
        levels = [finding.level for finding in self.findings]
        return next((level for level in ("error", "warning") if level in levels), "ok")

    @property
    def lines(self) -> list[str]:
        """Return a line for each finding, or one that says what was done where there are none."""
        said = [("FAILED" if one.is_error else str(one.level), str(one)) for one in self.findings[:SHOWN]]
        if len(self.findings) > SHOWN:
            said.append(("", f"and {len(self.findings) - SHOWN} more, which --json lists"))
        said = said or [("ok", self.does)]
        return [f"{level:<8}{self.check:<13}{text}" for level, text in said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A model, loss or suite, by kind and name, and what came of each check."""

    name: str
    results: tuple[Result, ...]

    @property
    def is_ok(self) -> bool:
        """Tell whether no check failed."""
        return all(result.is_ok for result in self.results)

    @property
    def text(self) -> str:
        """Return a heading and a line for each check."""
        lines = [line for result in self.results for line in result.lines]
        return "\n  ".join([f"{self.name}: {'ok' if self.is_ok else 'FAILED'}", *lines])


def check(
    what: str | Spec,
    *,
    plugins: Sequence[str] = (),
    data: str | None = None,
    registry: Registry | None = None,
    progress: Progress = silent,
) -> Iterator[Checked]:
    """Yield what came of the checks of a model, a loss or a suite, by name or spec, or of all in a plugin's file.

    Raises UsageError where nothing is called so, PluginError where a plugin that was asked for is broken.
    """
    if not isinstance(what, str):
        registry = registry or load_plugins(plugins)
        if not any(what is owned.spec for owned in registry.datasets):
            registry = with_specs(registry, [what])
        what = what.suite if isinstance(what, GeneratorDataset) else what.name
    registry = registry or load_plugins(plugins)
    known = {*registry.models, *registry.losses, *(owned.spec.suite for owned in registry.datasets)}
    is_named = what in known or is_description(what) or any(sign in what for sign in SUM)
    if what.endswith(".py") or not is_named and ("." in what or Path(what).exists()):
        registry = load_plugins((*plugins, what))
        plugin = _plugin(registry, what)
        yield _loaded(plugin, registry)
        names = _names_of(plugin, registry)
    else:
        names = [what]
    for name in names:
        yield _checked(name, registry, data, progress)


def with_specs(registry: Registry, specs: Iterable[Spec]) -> Registry:
    """Return a registry that offers some specs beside what plugins do, as a plugin named `here`.

    Their code is the module that builds them, such as a test. Raises PluginError where a name is taken.
    """
    owned: list[Owned[Any]] = [Owned(spec=spec, plugin=_here(spec)) for spec in specs]
    models = {one.spec.name: one for one in owned if isinstance(one.spec, Model)}
    losses = {one.spec.name: one for one in owned if isinstance(one.spec, Loss)}
    refuse_joined(models)
    taken = sorted((models.keys() & registry.models.keys()) | (losses.keys() & registry.losses.keys()))
    if taken:
        raise PluginError(f"{taken[0]!r} is the name of an installed plugin's model or loss; choose another")
    return replace(
        registry,
        plugins=(*registry.plugins, *(one.plugin for one in owned)),
        datasets=(*registry.datasets, *(one for one in owned if isinstance(one.spec, GeneratorDataset))),
        models={**registry.models, **models},
        losses={**registry.losses, **losses},
    )


def _here(spec: Spec) -> Plugin:
    module = ModuleType("here")
    built_in = sys.modules.get(getattr(spec.build, "__module__", ""))
    module.__file__ = getattr(built_in, "__file__", None) or __file__  # a notebook has no file
    return Plugin(name="here", distribution=None, version=None, module=module)


def _plugin(registry: Registry, what: str) -> Plugin:
    """Return the plugin of a file or a module that was loaded for it."""
    for plugin in registry.plugins:
        file = getattr(plugin.module, "__file__", None)
        if plugin.module.__name__ == what or (file and Path(file) == Path(what).resolve()):
            return plugin
    raise UsageError(f"{what}: {unknown('plugin', what, [plugin.name for plugin in registry.plugins])}")


def _loaded(plugin: Plugin, registry: Registry) -> Checked:
    """Return the check of a plugin that was loaded: which hooks it has."""
    hooks = [name for name in vars(hookspecs) if name.startswith("deeploc_") and plugin in registry.having(name)]
    message = "it has no hook, and does nothing; write one of those in docs/hooks.md, marked @hookimpl"
    findings = () if hooks else (Finding(check="hooks", message=message),)
    result = Result(check="hooks", does=f"loads, and has {', '.join(hooks)}", findings=findings)
    return Checked(name=f"plugin {plugin.name}", results=(result,))


def _names_of(plugin: Plugin, registry: Registry) -> list[str]:
    offered = (registry.models.values(), registry.losses.values(), registry.datasets)
    own = [owned.spec for specs in offered for owned in specs if owned.plugin == plugin]
    return list(dict.fromkeys(spec.name if isinstance(spec, Model | Loss) else spec.suite for spec in own))


def _checked(name: str, registry: Registry, data: str | None, progress: Progress) -> Checked:
    if "+" in name or is_description(name):
        model = registry.find_model(name)  # made of another, or described; else a sum of losses, or a suite
        if model:
            return Checked(name=f"model {model.spec.name}", results=tuple(_model_results(model, registry)))
    if name in registry.losses or any(sign in name for sign in SUM):
        loss = parse_loss(name, registry)
        if len(loss.losses) < len(loss.terms):
            raise UsageError(f"loss {name!r}: {OWN!r} is a model's own; check the model, by its name or file")
        return Checked(name=f"loss {loss.text}", results=tuple(_loss_results(loss)))
    if any(owned.spec.suite == name for owned in registry.datasets) or is_description(name):
        results = _suite_results(registry.suite(name), data, progress)
        return Checked(name=f"suite {name}", results=tuple(results))
    return Checked(name=f"model {name}", results=tuple(_model_results(registry.model(name), registry)))


def _model_results(model: Owned[Model], registry: Registry) -> Iterator[Result]:
    from deeploc_bench.conformance.models import MODEL_CHECKS, TRAINED_CHECKS
    from deeploc_bench.conformance.surroundings import SURROUNDINGS
    from deeploc_bench.training.step_checks import Step
    from deeploc_bench.training.trial import ModelTrial

    is_trained = model.spec.trainable and not model.spec.fits_itself
    trial = ModelTrial(model=model, input_size=model.spec.recipe.get("input_size"), sizes=SIZES)
    if is_trained:
        trial = replace(trial, loss=parse_loss(_loss_for(trial), registry))
    results = list(_results((*MODEL_CHECKS, SURROUNDINGS), trial))
    yield from results
    if is_trained and all(result.is_ok for result in results):
        yield from _results(TRAINED_CHECKS, Step(trial))


def _loss_for(trial: "ModelTrial") -> str:
    """Return the loss that a model is tried with: its own, where it brings one."""
    import torch

    with torch.random.fork_rng(devices=[]), suppress(DeeplocError):  # the first check tells why it cannot be built
        if hasattr(trial.module, "training_loss"):
            return OWN
    return DEFAULT_LOSS


def _loss_results(loss: LossExpression) -> Iterator[Result]:
    from deeploc_bench.training.loss_checks import SUM_CHECKS, TERM_CHECKS
    from deeploc_bench.training.trial import LossTrial

    yield from _results((*TERM_CHECKS, *SUM_CHECKS), LossTrial(terms=loss.terms))


def _suite_results(
    datasets: Sequence[Owned[GeneratorDataset]], data: str | None, progress: Progress
) -> Iterator[Result]:
    try:
        suite = load_suite(datasets, data=data, progress=progress)
        findings = [*survey(suite), *reread_findings(datasets, data)]
    except DeeplocError as error:
        yield Result(check="dataset", does="read", findings=(Finding(check="dataset", message=str(error)),))
        return
    found = list(dict.fromkeys(findings))  # a sample that raises is found each time that it is read
    for name, title in (DATA_ERRORS | DATA_WARNINGS | DATA_NOTES).items():
        own = tuple(one for one in found if one.check == name)
        if own or name not in DATA_NOTES:
            yield Result(check=name, does=f"0 {title}", findings=own)


def _results(checks: Iterable[Any], subject: Any) -> Iterator[Result]:
    """Make checks one by one; what raises is the last check's finding."""
    from deeploc_bench.training.trial import made

    for one in checks:
        try:
            for _, found in made([one], subject):
                yield Result(check=one.name, does=one.does, findings=tuple(found))
                if one.gate and any(finding.is_error for finding in found):
                    return
        except DeeplocError as error:
            yield Result(check=one.name, does=one.does, findings=(Finding(check=one.name, message=str(error)),))
            return
