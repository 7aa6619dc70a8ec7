"""The Ray engine: each training is a task that gets its folder's files and returns them, so that no disk is shared."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deeploc_bench.contract.errors import UsageError
from deeploc_bench.contract.files import write
from deeploc_bench.data.suites import silent
from deeploc_bench.plan import store
from deeploc_bench.plan.facts import Epoch
from deeploc_bench.plan.job import Job, Prepared, portable, prepare
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import (
    Outcome,
    Workplace,
    record,
    recording_failures,
    rehearsed,
    tell,
    tell_done,
    tell_epoch,
    tell_reused,
    to_do,
    train_and_test,
)

LISTENING = 1.0
"""Seconds after which the driver hears what workers say."""


def run_ray(prepared: Prepared, place: Workplace) -> Outcome:
    """Do every unfinished training as a Ray task of its own; a task whose worker dies is tried again.

    Raises UsageError where Ray is not installed, DeeplocError as the local engine does.
    """
    if ranks.processes() > 1:
        raise UsageError("--engine ray starts its own processes; start it without torchrun, or use --engine local")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'deeploc-bench[ray]', or use --engine local") from None
    from ray.util.queue import Queue

    remaining, outcome = to_do(prepared, place)
    tell_reused(prepared, place, remaining)
    if not remaining:
        return outcome
    device = rehearsed(remaining, place)
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    task = ray.remote(num_cpus=place.threads, num_gpus=1 if device.type == "cuda" else 0, max_retries=3)(_remote)
    job = portable(prepared.job)
    events = Queue(actor_options={"num_cpus": 0})
    hear = _hearer(prepared, place)
    pending = {}
    for training, _ in remaining:
        identity, files = training.facts.identity, _files(place.runs / training.place)
        pending[task.remote(job, identity, device.type, place.threads, files, events)] = training
    with place.progress("trainings on Ray", len(pending)) as tick:
        while pending:
            finished, _ = ray.wait(list(pending), timeout=LISTENING)
            for event in events.get_nowait_batch(events.qsize()):
                hear(*event)
            for done in finished:
                training = pending.pop(done)
                folder = place.runs / training.place
                with recording_failures(outcome, training, place):
                    files, is_new = _result(ray, done)
                    with store.locked(folder):
                        _receive(folder, files)
                    record(outcome, training, is_new)
                    tell_done(prepared, place, training)
                tick()
    return outcome


def _hearer(prepared: Prepared, place: Workplace) -> Callable[[str, Epoch | None], None]:
    """Return what tells observers of a worker's events, each once: a worker that died begins again."""
    heard = set[tuple[str, int]]()

    def hear(identity: str, epoch: Epoch | None) -> None:
        event, training = (identity, epoch.epoch if epoch else 0), prepared.plan.trainings[identity]
        if event in heard:
            return
        heard.add(event)
        if epoch:
            tell_epoch(prepared, place, training, epoch)
        else:
            tell(prepared, place, training, "deeploc_training_started")

    return hear


def _result(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def _remote(
    job: Job, identity: str, device: str, threads: int, files: Mapping[str, bytes], events: Any
) -> tuple[dict[str, bytes], bool]:
    """Do one training in a scratch folder that starts as the driver's; return what is new, and if it was trained.

    The driver hears through a queue that it starts (None), and of each epoch, and tells the observers there.
    """
    import torch

    torch.set_num_threads(threads)  # before the first operation: another number gives other bits
    prepared = prepare(job, silent, threads=threads)
    training = prepared.plan.trainings[identity]
    with tempfile.TemporaryDirectory() as scratch:
        place = Workplace(runs=Path(scratch), device=device, threads=threads, progress=silent, say=_silently)
        folder = Path(scratch) / training.place
        for name, content in files.items():
            write(folder / name, content)
        events.put((identity, None))
        is_new = train_and_test(
            prepared, training, place, torch.device(device), lambda epoch: events.put((identity, epoch))
        )
        return {name: found for name, found in _files(folder).items() if files.get(name) != found}, is_new


def _receive(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a worker; the model and the csv files, whose existence means "done", come last."""
    for name in sorted(files, key=lambda name: (name == "model.safetensors", name.endswith(".csv"), name)):
        write(folder / name, files[name])
    (folder / "resume.safetensors").unlink(missing_ok=True)


def _silently(message: str) -> None:
    return None
