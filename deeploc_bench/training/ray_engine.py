"""The Ray engine: each training is a task; what an epoch leaves comes to the driver, who alone writes the runs folder.

A stop, a killed worker or a lost node costs the epoch that runs: a task is never left to Ray to be tried again, which
would begin as the first time, but sent anew with the files that have come until then.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from deeploc_bench.contract.errors import DeeplocError, TrainingFailed, UsageError, reason_of
from deeploc_bench.contract.files import remove, write
from deeploc_bench.data.packing import Tick
from deeploc_bench.plan import store
from deeploc_bench.plan.job import Prepared
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks
from deeploc_bench.training.engines import left_of, record, recording_failures, rehearse_each, to_do
from deeploc_bench.training.ray_cluster import (
    LISTENING,
    Share,
    Stops,
    installed,
    is_started_here,
    joined,
    nodes,
    share_of,
    stops_noted,
)
from deeploc_bench.training.ray_parcels import Shipper
from deeploc_bench.training.ray_worker import Files, Word, do_remotely, files_of
from deeploc_bench.training.telling import tell, tell_done, tell_epoch, tell_reused
from deeploc_bench.training.workplace import Outcome, Remaining, Workplace

MOST_DEATHS = 3
"""How often a training's worker may die before another epoch is finished."""
GRACE = 2.0
"""Seconds that workers have to end, when the run ends before them."""
KEPT = 16
"""How many words wait for the driver at most, so that workers do not fill the memory of a slow one."""
PATIENCE = 300.0
"""Seconds in which a node must come back, where there is none left that can do a training."""
ORDER = ("training.json", "samples.json", "environment.json", "resume.safetensors", "epochs.csv", "model.safetensors")
"""The files that come first, in this order; of those that follow, tables are last: their existence means "done"."""


def run_ray(prepared: Prepared, place: Workplace) -> Outcome:
    """Do every unfinished training as a Ray task of its own; one whose worker dies goes on with another.

    Raises UsageError where Ray is not installed, or has nothing that a training needs; DeeplocError as the local engine
    does.
    """
    if ranks.processes() > 1:
        raise UsageError("--engine ray starts its own processes; start it without torchrun, or use --engine local")
    ray = installed()
    remaining, outcome = to_do(prepared, place)
    tell_reused(prepared, place, [training for training, _ in remaining])
    if not remaining:
        return outcome
    rehearse_each(remaining, place)
    is_own = is_started_here(ray)
    with stops_noted() as stops, joined(ray, stops):
        share = share_of(nodes(ray), place, _cuda_is_available if is_own else lambda: True)
        try:
            with _driver(ray, prepared, place, share, outcome) as driver:
                driver.run(remaining, stops)
        except ray.exceptions.RayError as error:
            reason = f"{reason_of(error):.300}"
            raise DeeplocError(
                f"Ray is lost: {reason}. Run the same command again; what is finished is kept."
            ) from error
    return outcome


def _cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()


@dataclass(slots=True, kw_only=True)
class Flight:
    """A training that was sent to a worker; its lock is held, and its bar shown, until it comes back."""

    training: Training
    folder: Path
    lock: BaseFileLock
    trial: int = 0
    deaths: int = 0
    is_started: bool = False
    bar: ExitStack = field(default_factory=ExitStack)
    tick: Tick = int


@contextmanager
def _driver(ray: Any, prepared: Prepared, place: Workplace, share: Share, outcome: Outcome) -> Iterator["Driver"]:
    """Yield a driver; whatever ends it, what workers have sent is written, and they are ended."""
    driver = Driver(ray, prepared, place, share, outcome)
    try:
        yield driver
    except BaseException:
        with suppress(Exception):  # what ends the run is told, not what comes of it
            driver.hear()
        raise
    finally:
        driver.end()


class Driver:
    """Sends trainings to workers, hears of them, and writes what they send."""

    def __init__(self, ray: Any, prepared: Prepared, place: Workplace, share: Share, outcome: Outcome) -> None:
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.prepared, self.place, self.share, self.outcome = ray, prepared, place, share, outcome
        self.shipper = Shipper(ray, prepared)
        self.flights: dict[Any, Flight] = {}
        # beside the driver, so that no other node's loss loses a word that has arrived
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.post = Queue(KEPT, actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.task = ray.remote(num_cpus=share.threads, num_gpus=share.gpus, max_retries=0)(do_remotely)
        self.last_fitting = time.monotonic()

    def run(self, remaining: Remaining, stops: Stops) -> None:
        """Do the remaining trainings; a signal ends it, as soon as it comes."""
        waiting = deque(training for training, _ in remaining)
        with self.place.progress("trainings on Ray", len(waiting)) as tick:
            while waiting or self.flights:
                stops.obey()
                self._send_some(waiting, tick)
                if not self.flights:  # other processes do what is left
                    time.sleep(LISTENING)
                    continue
                finished, _ = self.ray.wait(list(self.flights), timeout=LISTENING)
                self.hear()
                for task in finished:
                    if self._land(task):
                        tick()

    def _send_some(self, waiting: deque[Training], tick: Tick) -> None:
        """Send as many trainings as fit, and as many again, so that no worker waits for the driver."""
        most = 2 * sum(self.share.fitting(node) for node in nodes(self.ray))
        self._heed_losses(most)
        for _ in range(len(waiting)):
            if len(self.flights) >= most:
                return
            training = waiting.popleft()
            folder = self.place.runs / training.place
            lock = store.claimed(folder)
            if lock is None:
                waiting.append(training)
            elif left_of(self.prepared, training, folder) is None:  # another process did it meanwhile
                lock.release()
                record(self.outcome, training, False)
                tell_done(self.prepared, self.place, training, is_reused=True)
                tick()
            else:
                self._send(Flight(training=training, folder=folder, lock=lock))

    def _heed_losses(self, fitting: int) -> None:
        """Raise UsageError where no node that fits is up, and none has come back for some time."""
        now = time.monotonic()
        if fitting:
            self.last_fitting = now
        elif now - self.last_fitting > PATIENCE:
            raise UsageError(
                f"no node of the Ray cluster is left that has {_words(self.share)}, since {PATIENCE:.0f} s; every "
                "finished epoch is saved. Run the same command again when there is one."
            )

    def _send(self, flight: Flight) -> None:
        store.sweep(flight.folder)
        flight.trial += 1
        files, parcel = files_of(flight.folder), self.shipper.parcel(flight.training)
        self.flights[self.task.remote(parcel, self.share, files, self.post, flight.trial)] = flight

    def hear(self) -> None:
        """Write and tell all that workers have sent."""
        flights = {flight.training.facts.identity: flight for flight in self.flights.values()}
        for _ in range(self.post.qsize()):  # one by one, because each may hold a whole state
            word: Word = self.post.get_nowait()
            flight = flights.get(word.identity)
            if flight and flight.trial == word.trial:
                self._heard(flight, word)

    def _heard(self, flight: Flight, word: Word) -> None:
        training, place = flight.training, self.place
        if word.said is not None:
            for line in word.said.splitlines():
                place.say(f"{training.title}: {line}")
        elif word.epoch is not None:
            receive(flight.folder, word.files)
            flight.deaths = 0
            flight.tick()
            tell_epoch(self.prepared, place, training, word.epoch)
        elif not flight.is_started:
            flight.is_started = True
            if training.loss:
                show = place.progress(training.title, training.recipe.epochs)
                flight.tick = flight.bar.enter_context(show)
                for _ in range(store.finished_epochs(flight.folder)):
                    flight.tick()
            tell(self.prepared, place, training, "deeploc_training_started")

    def _land(self, task: Any) -> bool:
        """Take up a task that has ended; returns whether its training has, which else is sent again."""
        flight = self.flights[task]  # which is closed at the end, should what follows end the run
        is_again = False
        with recording_failures(self.outcome, flight.training, self.place):
            try:
                files, is_new = self.ray.get(task)
            except self.ray.exceptions.RayTaskError as error:
                raise (error.cause or TrainingFailed(reason_of(error))) from error
            except self.ray.exceptions.RayError as error:
                self._refuse_deaths(flight, error)
                is_again = True
            else:
                receive(flight.folder, files)
                record(self.outcome, flight.training, is_new)
                tell_done(self.prepared, self.place, flight.training)
        if is_again:
            self._send(flight)
        del self.flights[task]
        if not is_again:
            _close(flight)
        return not is_again

    def _refuse_deaths(self, flight: Flight, error: Exception) -> None:
        """Say that a worker died; raises TrainingFailed where that is not to be tried again."""
        flight.deaths += 1
        reason = f"{reason_of(error):.300}"
        if flight.deaths == MOST_DEATHS:
            raise TrainingFailed(f"its worker died {MOST_DEATHS} times before another epoch was finished: {reason}")
        epochs = store.finished_epochs(flight.folder)
        self.place.say(f"warning: {flight.training.title}: its worker died; it goes on after epoch {epochs} ({reason})")

    def end(self) -> None:
        """End the workers that are left, and let other processes have their trainings."""
        with suppress(self.ray.exceptions.RayError):
            for task in self.flights:
                self.ray.cancel(task)  # by force, a worker would leave its files, and may end Ray by a fault of its own
            if self.flights:
                self.ray.wait(list(self.flights), num_returns=len(self.flights), timeout=GRACE)
            self.post.shutdown(force=True)
        for flight in self.flights.values():
            _close(flight)


def _close(flight: Flight) -> None:
    flight.bar.close()
    flight.lock.release()


def receive(folder: Path, files: Files) -> None:
    """Write files that a worker sent, in the order in which the local engine does; the lock is held."""
    for name in files:
        if name.startswith("test-") and name.endswith(".csv"):
            remove(folder / name)  # an old table must not stand beside new histograms
    for name in sorted(files, key=_turn):
        write(folder / name, files[name].data)
    store.sweep(folder)


def _turn(name: str) -> tuple[int, bool, str]:
    first = ORDER.index(name) if name in ORDER else len(ORDER)
    return first, name.endswith(".csv"), name


def _words(share: Share) -> str:
    return f"{share.threads} CPUs" + (f" and {share.gpus:g} of a GPU" if share.gpus else "")
