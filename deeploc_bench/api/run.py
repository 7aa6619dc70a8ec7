"""`run`: train and test by a protocol, and get the cells."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeploc_bench.api import session
from deeploc_bench.api.results import Failure, Results
from deeploc_bench.contract.errors import StoreError, UsageError, unknown
from deeploc_bench.contract.registry import Registry
from deeploc_bench.plan.job import DEFAULT_SUITE, Job, Prepared, prepare
from deeploc_bench.results.cells import Cell, planned_cells, read_cells
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import run_local
from deeploc_bench.training.ray_engine import run_ray
from deeploc_bench.training.workplace import Outcome, Workplace

ENGINES: Mapping[str, Callable[[Prepared, Workplace], Outcome]] = {"local": run_local, "ray": run_ray}
MOST_SEED, MOST_THREADS, MOST_PER_GPU = 2**31 - 1, 1024, 64


def run(
    suite: Sequence[str | Path] | str | Path = DEFAULT_SUITE,
    *,
    data: Mapping[str, str | Path] | str | Path | None = None,
    protocols: Sequence[str] | str = ("loo",),
    budget: str = "full",
    models: Sequence[str] | str = (),
    losses: Sequence[str] | str = (),
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | int = (0,),
    perturbations: Sequence[str] | str = (),
    plugins: Sequence[str | Path] | str | Path = (),
    device: str = "auto",
    threads: int | None = None,
    engine: str = "local",
    per_gpu: int = 1,
    runs: str | Path = "runs",
) -> Results:
    """Train and test by some protocols, and return the cells, as `deeploc-bench run` prints them.

    What is left out takes the default of the suite: its model, `jaccard`, its recipe. `settings` changes keys of the
    recipe, such as `{"epochs": 2}`. Several suites are one of them all, whose `data` may be a mapping. A loss is a name
    or a weighted sum, `"0.5*dice+0.5*focal"`; a perturbation such as `"jpeg:75"`. `plugins` are modules, files, or
    `no:NAME`. Trainings that are finished are never repeated. Progress goes to stderr. A training that fails stops no
    other, and stands in `failed` with its reason. Raises UsageError, PluginError or DataError before anything is
    trained.
    """
    session.device_named(device)
    threads = None if threads is None else _whole("threads", threads, 1, MOST_THREADS)
    check_engine(engine, _whole("per_gpu", per_gpu, 1, MOST_PER_GPU))
    job = Job(
        suite="+".join(map(str, several(suite))),
        data=data_of(data),
        protocols=names_of("protocols", protocols),
        budget=budget,
        models=names_of("models", models),
        losses=names_of("losses", losses),
        recipe=str(recipe) if recipe else None,
        settings=_settings(settings or {}),
        seeds=_seeds(seeds),
        perturbations=names_of("perturbations", perturbations),
        plugins=session.requested([str(plugin) for plugin in several(plugins)]),
    )
    with session.quiet():
        registry = session.load(job.plugins)
        prepared, place = begun(job, registry, runs=Path(runs), device=device, threads=threads, per_gpu=per_gpu)
        return results_of(prepared, place.runs, ENGINES[engine](prepared, place))


def check_engine(engine: str, per_gpu: int) -> None:
    """Raise UsageError where there is no such engine, or it does one training at a time and several are asked for."""
    if engine not in ENGINES:
        raise UsageError(unknown("engine", engine, ENGINES))
    if per_gpu > 1 and engine != "ray":
        raise UsageError(
            f"--per-gpu {per_gpu}: the engine {engine!r} does one training at a time. Add --engine ray, or leave "
            "it out."
        )


def begun(
    job: Job,
    registry: Registry,
    *,
    runs: Path,
    device: str,
    threads: int | None,
    per_gpu: int = 1,
    is_debug: bool = False,
) -> tuple[Prepared, Workplace]:
    """Return a job as prepared, what to warn of told, and the place where it is done; no `threads` are all cores."""
    prepared = prepare(job, session.progress, registry, threads=threads or ranks.cores())
    place = placed(prepared, runs=runs, device=device, threads=threads, per_gpu=per_gpu, is_debug=is_debug)
    return prepared, place


def placed(
    prepared: Prepared,
    *,
    runs: Path,
    device: str,
    threads: int | None = None,
    per_gpu: int = 1,
    is_debug: bool = False,
) -> Workplace:
    """Tell what to warn of, and return the place where what is prepared is done; no `threads` are all cores."""
    for line in prepared.warnings:
        session.say(line)
    return Workplace(
        runs=runs,
        device=device,
        threads=threads or ranks.cores(),
        is_threads_asked=threads is not None,
        per_gpu=per_gpu,
        progress=session.progress,
        say=session.say,
        is_terminal=sys.stderr.isatty(),
        is_debug=is_debug,
    )


def results_of(prepared: Prepared, runs: Path, outcome: Outcome) -> Results:
    """Return the cells of a plan that is done, with the trainings that failed."""
    return Results(
        # of several processes the leader writes, and the others may not see all of it yet
        cells=tuple(planned_cells(runs, prepared.plan)) if ranks.is_leader() else (),
        trained=len(outcome.trained),
        reused=len(outcome.reused),
        failed=tuple(_failures(prepared, outcome.failed)),
        beside=tuple(_beside(runs)) if ranks.is_leader() else (),
    )


def _beside(runs: Path) -> list[Cell]:
    """Return all cells of the runs folder, so that intervals are those that `results` prints of it."""
    try:
        return read_cells(runs)
    except StoreError as error:  # of a training that was not asked for
        session.say(f"warning: intervals are over what was asked for alone: {error}")
        return []


def _failures(prepared: Prepared, failed: Mapping[str, str]) -> list[Failure]:
    cells = [(cell, prepared.plan.trainings[cell.identity].facts) for cell in prepared.plan.cells]
    return [
        Failure(
            protocol=cell.protocol,
            model=facts.model.name,
            loss=facts.loss_expression,
            seed=facts.seed,
            train_generators=cell.pair.train_generators,
            test_generator=cell.pair.test_generator,
            reason=failed[cell.identity],
        )
        for cell, facts in cells
        if cell.identity in failed
    ]


def data_of(data: Mapping[str, str | Path] | str | Path | None) -> str | None:
    """Return where the data lie, as `--data` says it; a mapping is of suites to folders."""
    if isinstance(data, Mapping):
        return session.data_said([f"{suite}={path}" for suite, path in data.items()])
    return str(data) if data else None


def several(values: object) -> list[Any]:
    """Return a list of what came in one, or of the one that came alone."""
    if values is None:
        return []
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]


def names_of(what: str, values: object) -> list[str]:
    """Return the names that came in a list or alone; raises UsageError where one is no name."""
    names = several(values)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(
                f"{what}: {name!r:.80} is of type {type(name).__name__}; expected a name. What no plugin offers yet, a "
                "file registers: plugins=['my_model.py'], models=['my-model']"
            )
    return names


def _seeds(values: object) -> list[int]:
    return [_whole("seeds", seed, 0, MOST_SEED) for seed in several(values)]


def _whole(what: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{what}: {value!r:.80} is not a whole number from {least} to {most}")
    return value


def _settings(settings: object) -> list[str]:
    if not isinstance(settings, Mapping):
        raise UsageError(f"settings: {settings!r:.80}; expected keys of the recipe and values, such as {{'epochs': 2}}")
    values = {key: str(value).lower() if isinstance(value, bool) else value for key, value in settings.items()}
    return [f"{key}={value}" for key, value in values.items()]
