"""A run as asked for, and as prepared: registry, suite and plan. Torch-free, and the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeploc_bench.contract.errors import UsageError, unknown
from deeploc_bench.contract.findings import refuse, summary
from deeploc_bench.contract.registry import Registry, load_plugins
from deeploc_bench.data.perturb import parse_perturbation
from deeploc_bench.data.suites import Progress, Suite, load_suite
from deeploc_bench.data.survey import survey
from deeploc_bench.plan.plan import BASELINES, Plan, Request, make_plan
from deeploc_bench.plan.protocols import BUDGETS, PROTOCOLS
from deeploc_bench.plan.recipe import load_recipe, parse_loss, parse_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What `deeploc-bench run` was asked for, in the words of its flags."""

    suite: str = "photos"
    data: str | None = None
    protocols: Sequence[str] = ()
    budget: str = "full"
    models: Sequence[str] = ()
    losses: Sequence[str] = ()
    recipe: str | None = None
    settings: Sequence[str] = ()
    seeds: Sequence[int] = ()
    perturbations: Sequence[str] = ()
    plugins: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job with its plugins loaded, its data packed and checked, its plan made, and what to warn of."""

    job: Job
    registry: Registry
    suite: Suite
    plan: Plan
    warnings: tuple[str, ...] = ()


def prepare(job: Job, progress: Progress, registry: Registry | None = None) -> Prepared:
    """Load, pack, check and plan a job; raises UsageError, PluginError or DataError before anything is trained."""
    registry = registry or load_plugins(job.plugins)
    if not job.suite.endswith(".toml"):
        registry.suite(job.suite)
    request = _request(job, registry)
    suite = load_suite(registry, job.suite, data=Path(job.data) if job.data else None, progress=progress)
    findings = survey(suite)
    refuse(f"suite {suite.name!r}", findings)
    return Prepared(
        job=job, registry=registry, suite=suite, plan=make_plan(suite, request), warnings=tuple(summary(findings))
    )


def _request(job: Job, registry: Registry) -> Request:
    is_embedded = job.suite == "photos"
    for protocol in job.protocols:
        if protocol not in PROTOCOLS:
            raise UsageError(unknown("protocol", protocol, PROTOCOLS))
    if job.budget not in BUDGETS:
        raise UsageError(unknown("budget", job.budget, BUDGETS))
    names = job.models or ("residual-unet" if is_embedded else "unetplusplus-resnet50",)
    baselines = [name for name in BASELINES if name in registry.models]
    return Request(
        protocols=tuple(dict.fromkeys(job.protocols or ("loo",))),
        budget=job.budget,
        models=[registry.model(name) for name in dict.fromkeys([*names, *baselines])],
        losses=[parse_loss(text, registry) for text in dict.fromkeys(job.losses or ("jaccard",))],
        recipe=load_recipe(job.recipe or ("quick" if is_embedded else "poster")),
        settings=parse_settings(job.settings),
        seeds=tuple(dict.fromkeys(job.seeds or (0,))),
        perturbations=tuple(dict.fromkeys(parse_perturbation(text) for text in job.perturbations)),
    )
