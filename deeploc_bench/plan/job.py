"""A run as asked for, and as prepared: registry, suite and plan. Torch-free, and the same in every process."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from deeploc_bench.contract.errors import RecipeError, UsageError, unknown
from deeploc_bench.contract.findings import summary
from deeploc_bench.contract.loading import load_plugins
from deeploc_bench.contract.owned import Owned, additions
from deeploc_bench.contract.registry import Registry
from deeploc_bench.contract.specs import GeneratorDataset, Model
from deeploc_bench.data.perturb import parse_perturbation
from deeploc_bench.data.suites import Progress, Suite
from deeploc_bench.data.survey import load_sound
from deeploc_bench.plan.losses import parse_loss
from deeploc_bench.plan.plan import Plan, Request, make_plan, make_test_plan
from deeploc_bench.plan.protocols import BUDGETS, PROTOCOLS, Pair, all_but
from deeploc_bench.plan.recipe import NO_FILE, load_recipe, parse_settings

DEFAULT_SUITE = "photos"
DEFAULT_MODEL, DEFAULT_LOSS, DEFAULT_RECIPE = "unetplusplus-resnet50", "jaccard", "poster"
"""What a run takes where neither its flags nor its suite say anything else: the poster's best model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What `deeploc-bench run` was asked for, in the words of its flags; what is empty takes its default."""

    suite: str = DEFAULT_SUITE
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


def prepare(job: Job, progress: Progress, registry: Registry | None = None, *, threads: int = 1) -> Prepared:
    """Load, pack, check and plan a job; raises UsageError, PluginError or DataError before anything is trained."""
    registry = registry or load_plugins(job.plugins)
    datasets = registry.suite(job.suite)
    request = _request(job, registry, datasets)
    if not any(owned.spec.role == "standard" for owned in datasets):
        _refuse_untrainable(job, [one.spec for one in request.models])
    suite, findings = load_sound(datasets, data=job.data, progress=progress, threads=threads)
    return Prepared(
        job=replace(job, data=str(suite.data) if suite.data else None),
        registry=registry,
        suite=suite,
        plan=make_plan(suite, request),
        warnings=(*summary(findings), *_strange_names(request.models, suite)),
    )


def _refuse_untrainable(job: Job, models: Sequence[Model]) -> None:
    """Raise UsageError where a model is to be trained on a suite that has nothing to train on."""
    where = f"suite {job.suite!r} is tested only: it has no standard generator to train on."
    if any(model.trainable and (model.name in job.models or not model.baseline) for model in models):
        raise UsageError(
            f"{where} Test another suite's training on it with deeploc-bench test TRAINING --suite {job.suite}, run a "
            "--model that is trained already, or score predictions with deeploc-bench score"
        )
    if job.protocols or job.budget != "full":
        raise UsageError(f"{where} --protocol and --budget say what is trained on; leave them out")


def _strange_names(models: Iterable[Owned[Model]], suite: Suite) -> Iterator[str]:
    """Yield warnings of detectors that were trained on what is nearly called like a generator of the suite."""
    known = {*suite.generators, *suite.methods.values()}
    for owned in models:
        for name in sorted({*(owned.spec.trained_on or ())} - known):
            if near := get_close_matches(name, known, n=1, cutoff=0.8):
                meant = f"no generator of this suite; is {near[0]!r} meant?"
                yield f"warning: {owned.title} was trained on {name!r}, {meant}"


def prepare_baselines(job: Job, registry: Registry, suite: Suite, pairs: Iterable[Pair]) -> Prepared:
    """Prepare the tests of the baselines on what each pair tests, fitted on what it says was trained on.

    Where it says nothing, they are fitted on all standard generators but the tested one. Raises as `prepare` does.
    """
    fitted = [
        replace(pair, train_generators=pair.train_generators or all_but(pair.test_generator, suite.standard))
        for pair in pairs
    ]
    request = _request(replace(job, models=registry.baselines or job.models), registry, registry.suite(job.suite))
    return Prepared(job=job, registry=registry, suite=suite, plan=make_test_plan(suite, request, fitted))


def _request(job: Job, registry: Registry, datasets: Sequence[Owned[GeneratorDataset]]) -> Request:
    for protocol in job.protocols:
        if protocol not in PROTOCOLS:
            raise UsageError(unknown("protocol", protocol, PROTOCOLS))
    if job.budget not in BUDGETS:
        raise UsageError(unknown("budget", job.budget, BUDGETS))
    added = additions(datasets)
    own = [owned.spec for owned in datasets if owned not in added]
    names = job.models or [_first((spec.default_model for spec in own), DEFAULT_MODEL)]
    models = [registry.model(name) for name in dict.fromkeys(names)]
    _refuse_namesakes(names, models)
    settings = parse_settings(job.settings)
    _refuse_unused_weights(models, settings)
    baselines = [registry.models[name] for name in registry.baselines if name not in names]
    recipe = job.recipe or _first((spec.default_recipe for spec in own), DEFAULT_RECIPE)
    return Request(
        protocols=tuple(dict.fromkeys(job.protocols or ("loo",))),
        budget=job.budget,
        models=[*models, *baselines],
        losses=[parse_loss(text, registry) for text in dict.fromkeys(job.losses or (DEFAULT_LOSS,))],
        recipe=load_recipe(recipe),
        settings=settings,
        seeds=tuple(dict.fromkeys(job.seeds or (0,))),
        perturbations=tuple(dict.fromkeys(parse_perturbation(text) for text in job.perturbations)),
    )


def _first(values: Iterable[str | None], default: str) -> str:
    return next((value for value in values if value), default)


def _refuse_namesakes(names: Sequence[str], models: Sequence[Owned[Model]]) -> None:
    """Two files may describe models of one name, which would share records."""
    asked: dict[str, str] = {}
    for name, owned in zip(dict.fromkeys(names), models, strict=True):
        other = asked.setdefault(owned.spec.name, name)
        if other != name:
            raise UsageError(f"{other} and {name} both describe a model {owned.spec.name!r}; rename one, or drop it")


def _refuse_unused_weights(models: Sequence[Owned[Model]], settings: Mapping[str, object]) -> None:
    """A weights file that no model takes is a mistake; where one does, the others are trained without it."""
    weights = settings.get("weights", "none")
    without = [one.spec for one in models if one.spec.pretraining == "none" or one.spec.baseline or one.spec.weights]
    if weights not in NO_FILE and len(without) == len(models):
        names = ", ".join(repr(owned.spec.name) for owned in models)
        raise RecipeError(
            f"weights={weights!r}: {names} takes no weights file. Leave --set weights out, or name a --model that does."
        )
