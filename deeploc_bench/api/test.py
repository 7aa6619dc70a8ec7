"""`test`: finished trainings on another suite than theirs, and get the cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deeploc_bench.api import session
from deeploc_bench.api.results import Results
from deeploc_bench.api.run import data_of, names_of, placed, results_of, several
from deeploc_bench.contract.registry import Registry
from deeploc_bench.plan.job import Job, Prepared
from deeploc_bench.plan.transfer import prepare_transfer
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import run_local
from deeploc_bench.training.workplace import Workplace


def test(
    trainings: Sequence[str | Path] | str | Path,
    *,
    suite: str | Path,
    data: Mapping[str, str | Path] | str | Path | None = None,
    perturbations: Sequence[str] | str = (),
    plugins: Sequence[str | Path] | str | Path = (),
    device: str = "auto",
    runs: str | Path = "runs",
) -> Results:
    """Test finished trainings on another suite than theirs, and return the cells, as `deeploc-bench test` prints them.

    A training is its folder, or one that holds several; both also as they are called below `runs`. The baselines that
    lie beside them are tested, too. What was tested before is not tested again. Raises UsageError, StoreError, or
    DataError where one of the suite's test images was trained on.
    """
    session.device_named(device)
    job = Job(
        suite=str(suite),
        data=data_of(data),
        perturbations=names_of("perturbations", perturbations),
        plugins=session.requested([str(plugin) for plugin in several(plugins)]),
    )
    with session.quiet():
        registry = session.load(job.plugins)
        names = [str(training) for training in several(trainings)]
        prepared, place = begun(job, names, registry, runs=Path(runs), device=device)
        return tested(prepared, place)


test.__test__ = False  # type: ignore[attr-defined]  # or pytest takes it for a test where it is imported


def begun(
    job: Job, trainings: Sequence[str], registry: Registry, *, runs: Path, device: str, is_debug: bool = False
) -> tuple[Prepared, Workplace]:
    """Return the tests of some trainings as prepared, what to warn of told, and the place where they are done."""
    prepared, root = prepare_transfer(job, trainings, runs, session.progress, registry, threads=ranks.cores())
    return prepared, placed(prepared, runs=root, device=device, is_debug=is_debug)


def tested(prepared: Prepared, place: Workplace) -> Results:
    """Do what is not done of the tests, and return the cells; each training that is asked for counts as reused."""
    outcome = run_local(prepared, place)
    learned = [one.facts for one in prepared.plan.trainings.values() if one.facts.loss]
    outcome.reused += [facts.identity for facts in learned if facts.identity not in outcome.failed]
    return results_of(prepared, place.runs, outcome)
