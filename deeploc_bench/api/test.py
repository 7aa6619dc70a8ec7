"""`test`: finished trainings on other suites than theirs, and get the cells."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deeploc_bench.api import session
from deeploc_bench.api.results import Results
from deeploc_bench.api.run import data_of, names_of, placed, results_of, several
from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.registry import Registry
from deeploc_bench.data.included import data_by_suite
from deeploc_bench.plan.job import Job, Prepared
from deeploc_bench.plan.transfer import prepare_transfer
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import run_local
from deeploc_bench.training.workplace import Workplace


def test(
    trainings: Sequence[str | Path] | str | Path,
    *,
    suite: Sequence[str | Path] | str | Path,
    data: Mapping[str, str | Path] | str | Path | None = None,
    perturbations: Sequence[str] | str = (),
    plugins: Sequence[str | Path] | str | Path = (),
    device: str = "auto",
    runs: str | Path = "runs",
) -> Results:
    """Test finished trainings on other suites than theirs, and return the cells, as `deeploc-bench test` prints them.

    `suite` is one, or several. A training is its folder, or one that holds several; both also as they are called below
    `runs`. The baselines that lie beside them are tested, too. What was tested before is not tested again. Raises
    UsageError, StoreError, or DataError where one of a suite's test images was trained on.
    """
    session.device_named(device)
    job = Job(
        data=data_of(data),
        perturbations=names_of("perturbations", perturbations),
        plugins=session.requested([str(plugin) for plugin in several(plugins)]),
    )
    with session.quiet():
        registry = session.load(job.plugins)
        suites, names = [str(one) for one in several(suite)], [str(training) for training in several(trainings)]
        return tested(begun(job, suites, names, registry, runs=Path(runs), device=device))


test.__test__ = False  # type: ignore[attr-defined]  # or pytest takes it for a test where it is imported


def begun(
    job: Job,
    suites: Sequence[str],
    trainings: Sequence[str],
    registry: Registry,
    *,
    runs: Path,
    device: str,
    is_debug: bool = False,
) -> list[tuple[Prepared, Workplace]]:
    """Return the tests of some trainings on each suite as prepared, what to warn of told, and where they are done."""
    if not suites:
        raise UsageError("no suite to test on: name one, or several")
    datasets = {suite: registry.suite(suite) for suite in suites}
    called: dict[str, str] = {}
    for asked, own in datasets.items():
        if (other := called.setdefault(own[0].spec.suite, asked)) != asked:
            raise UsageError(f"{other} and {asked} are both suite {own[0].spec.suite!r}; name one of them")
    data, threads = data_by_suite(datasets, job.data), ranks.cores()
    jobs = [replace(job, suite=suite, data=folder) for suite, folder in data.items()]
    every = [prepare_transfer(one, trainings, runs, session.progress, registry, threads=threads) for one in jobs]
    return [(prepared, placed(prepared, runs=root, device=device, is_debug=is_debug)) for prepared, root in every]


def tested(every: Sequence[tuple[Prepared, Workplace]]) -> Results:
    """Do what is not done of the tests, and return the cells; each training that is asked for counts as reused."""
    found = [_tested(prepared, place) for prepared, place in every]
    return replace(
        found[-1],  # what lies beside is all that was done
        cells=tuple(cell for one in found for cell in one.cells),
        reused=min(one.reused for one in found),
        failed=tuple(failure for one in found for failure in one.failed),
    )


def _tested(prepared: Prepared, place: Workplace) -> Results:
    outcome = run_local(prepared, place)
    learned = [one.facts for one in prepared.plan.trainings.values() if one.facts.loss]
    outcome.reused += [facts.identity for facts in learned if facts.identity not in outcome.failed]
    return results_of(prepared, place.runs, outcome)
