"""Engines: where the trainings of a plan are done, one after the other here or fanned out over Ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeploc_bench.contract.errors import DeeplocError, StoreError, TrainingFailed, UsageError
from deeploc_bench.contract.registry import observe
from deeploc_bench.data.packs import Pack
from deeploc_bench.data.suites import Progress
from deeploc_bench.plan import store
from deeploc_bench.plan.job import Job, Prepared, prepare
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks

if TYPE_CHECKING:
    import torch

EXAMPLES = 3
"""Test images of each generator kept as pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where and how trainings are done: runs folder, device, threads, and whom to tell."""

    runs: Path
    device: str = "auto"
    threads: int = 1
    progress: Progress
    say: Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a plan: places of trainings done now and done before, and the reasons of those that failed."""

    trained: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def to_do(prepared: Prepared, runs: Path) -> dict[Training, list[str]]:
    """Return the trainings that are not finished, each with the generators it is yet to be tested on."""
    missing = {training: _untested(prepared, training, runs / training.place) for training in prepared.plan.tests}
    return {
        training: tests
        for training, tests in missing.items()
        if tests or (training.loss and not store.is_trained(runs / training.place))
    }


def run_local(prepared: Prepared, site: Site) -> Outcome:
    """Do every unfinished training here; one that fails does not stop the others.

    Raises DeeplocError for what must stop them all: a broken plugin, missing weights, a full disk.
    """
    outcome = Outcome(reused=_finished(prepared, site.runs))
    remaining = to_do(prepared, site.runs)
    if not remaining:
        return outcome
    device = _rehearsed(remaining, site)
    with ranks.joined(device):
        for training in remaining:
            with _counted(outcome, training):
                _do(prepared, training, site, device, outcome)
    return outcome


def run_ray(prepared: Prepared, site: Site) -> Outcome:
    """Do every unfinished training as a Ray task of its own; a task whose worker dies is tried again.

    Raises UsageError where Ray is not installed, DeeplocError as `run_local` does.
    """
    if ranks.processes() > 1:
        raise UsageError("--engine ray starts its own processes; start it without torchrun, or use --engine local")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'deeploc-bench[ray]', or use --engine local") from None
    outcome = Outcome(reused=_finished(prepared, site.runs))
    remaining = to_do(prepared, site.runs)
    if not remaining:
        return outcome
    device = _rehearsed(remaining, site)
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    task = ray.remote(num_cpus=site.threads, num_gpus=1 if device.type == "cuda" else 0, max_retries=3)(_remote)
    job = _anywhere(prepared.job)
    pending = {
        task.remote(job, training.identity, tests, device.type, site.threads, _files(site.runs, training)): (training)
        for training, tests in remaining.items()
    }
    with site.progress("trainings on Ray", len(pending)) as tick:
        while pending:
            (done,), _ = ray.wait(list(pending))
            training = pending.pop(done)
            with _counted(outcome, training), store.locked(site.runs / training.place):
                _receive(site.runs / training.place, _result(ray, done))
                if training.loss:
                    outcome.trained.append(training.place)
            tick()
    return outcome


ENGINES: Mapping[str, Callable[[Prepared, Site], Outcome]] = {"local": run_local, "ray": run_ray}


def _finished(prepared: Prepared, runs: Path) -> list[str]:
    return [
        training.place for training in prepared.plan.tests if training.loss and store.is_trained(runs / training.place)
    ]


def _untested(prepared: Prepared, training: Training, folder: Path) -> list[str]:
    return [test for test in prepared.plan.tests[training] if _records(prepared, folder, test) is None]


def _records(prepared: Prepared, folder: Path, test: str) -> Any:
    return store.read_records(folder, test, _tested(prepared, test).fingerprint)


def _tested(prepared: Prepared, test: str) -> Pack:
    return prepared.suite.generators[test.partition("@")[0]].splits["test"]


def _rehearsed(remaining: Mapping[Training, list[str]], site: Site) -> torch.device:
    from deeploc_bench.training.build import rehearse
    from deeploc_bench.training.fit import resolve_device

    device = resolve_device(site.device)
    seen = set()
    for training in remaining:
        key = (training.model.spec.name, training.recipe.weights, training.loss and training.loss.text)
        if key not in seen:
            rehearse(training)
            seen.add(key)
    return device


@contextmanager
def _counted(outcome: Outcome, training: Training) -> Iterator[None]:
    try:
        yield
    except TrainingFailed as error:
        outcome.failed[training.place] = str(error)
    except (DeeplocError, MemoryError):
        raise
    except Exception as error:
        if ranks.processes() > 1:
            raise  # the other processes wait for this one
        text = " ".join(str(error).split())
        outcome.failed[training.place] = f"{type(error).__name__}: {text}"


def _do(prepared: Prepared, training: Training, site: Site, device: torch.device, outcome: Outcome) -> None:
    from deeploc_bench.training.fit import fit, load_localizer

    folder = site.runs / training.place
    with store.locked(folder) if ranks.is_leader() else nullcontext(False) as waited:
        if ranks.is_leader():
            store.sweep(folder)
            _refuse_other(training, folder)
            store.write_json(folder / "training.json", training.inputs)
        if training.loss and not ranks.told(lambda: store.is_trained(folder)):
            fit(
                training,
                folder,
                device=device,
                threads=site.threads,
                progress=site.progress,
                on_epoch=lambda row: _tell(prepared, site, "deeploc_epoch_finished", training, epoch=row),
            )
            outcome.trained.append(training.place)
        elif waited and training.loss:
            outcome.reused.append(training.place)
        tests = ranks.told(lambda: _untested(prepared, training, folder))
        localizer = load_localizer(training, folder, device=device, threads=site.threads)
        for test in tests:
            _test(prepared, localizer, folder, test)
    if ranks.is_leader():
        records = {test: _records(prepared, folder, test) for test in prepared.plan.tests[training]}
        _tell(prepared, site, "deeploc_training_finished", training, records=records)


def _test(prepared: Prepared, localizer: Any, folder: Path, test: str) -> None:
    from deeploc_bench.training.evaluate import evaluate
    from deeploc_bench.training.pictures import write_examples

    packed = _tested(prepared, test)
    records = evaluate(localizer, packed, test.partition("@")[2])
    if not ranks.is_leader():
        return
    store.write_records(folder, test, records, packed.fingerprint)
    if "@" not in test:
        write_examples(localizer, packed, folder / "examples", test, EXAMPLES)


def _tell(prepared: Prepared, site: Site, hook: str, training: Training, **what: object) -> None:
    for problem in observe(prepared.registry, hook, training=training.inputs, **what):
        site.say(f"warning: observer {problem.plugin}: {problem.reason}")


def _refuse_other(training: Training, folder: Path) -> None:
    found = store.read_json(folder / "training.json")
    if found is not None and found.get("identity") != training.identity:
        raise StoreError(f"{folder / 'training.json'} is of another training; move that folder away and run again")


def _anywhere(job: Job) -> Job:
    """Return the job with absolute paths, for workers that run in another folder."""
    plugins = [str(Path(name).resolve()) if name.endswith(".py") else name for name in job.plugins]
    settings = [_absolute(setting) for setting in job.settings]
    recipe = str(Path(job.recipe).resolve()) if job.recipe and job.recipe.endswith(".toml") else job.recipe
    data = str(Path(job.data).resolve()) if job.data else None
    suite = str(Path(job.suite).resolve()) if job.suite.endswith(".toml") else job.suite
    return replace(job, suite=suite, plugins=plugins, settings=settings, recipe=recipe, data=data)


def _absolute(setting: str) -> str:
    key, _, value = setting.partition("=")
    return f"{key}={Path(value).resolve()}" if key == "weights" and Path(value).is_file() else setting


def _result(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _files(runs: Path, training: Training) -> dict[str, bytes]:
    folder = runs / training.place
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def _remote(
    job: Job, identity: str, tests: list[str], device: str, threads: int, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Do one training in a scratch folder that starts as the driver's, and return its files."""
    import torch

    torch.set_num_threads(threads)
    prepared = prepare(job, silent)
    training = next(training for training in prepared.plan.tests if training.identity == identity)
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(runs=Path(scratch), device=device, threads=threads, progress=silent, say=_silently)
        for name, content in files.items():
            store.write(Path(scratch) / training.place / name, content)
        _do(prepared, training, site, torch.device(device), Outcome())
        return _files(Path(scratch), training)


def _receive(folder: Path, files: Mapping[str, bytes]) -> None:
    for name in sorted(files, key=lambda name: (name == "model.safetensors", name.endswith(".csv"), name)):
        store.write(folder / name, files[name])
    (folder / "resume.safetensors").unlink(missing_ok=True)


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[], object]]:
    """Make progress without a bar."""
    yield lambda: None


def _silently(message: str) -> None:
    return None
