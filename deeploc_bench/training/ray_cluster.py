"""A Ray cluster: joined or started, obeyed signals beside it, and what of a node each training gets."""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from deeploc_bench.contract.errors import UsageError, reason_of
from deeploc_bench.contract.settings import STOPS
from deeploc_bench.training import ranks
from deeploc_bench.training.workplace import Workplace

REACH = 5.0
"""Seconds in which a cluster's address must take a connection."""
PATIENCE = 60.0
"""Seconds in which a cluster must answer that took it."""
LISTENING = 0.1
"""Seconds after which a signal is obeyed at the latest, where Ray is waited for."""


@dataclass(slots=True, kw_only=True)
class Stops:
    """Signals that came while Ray was waited for, whose code swallows what their handlers raise."""

    before: Mapping[signal.Signals, Any]
    came: list[int] = field(default_factory=list)

    def listen(self) -> None:
        """Note signals from here on; again after Ray has set handlers of its own."""
        for stop, handler in self.before.items():
            if handler is not None:  # None was not set from Python, and cannot be set again from there
                signal.signal(stop, self._note if callable(handler) else handler)

    def obey(self) -> None:
        """Do what the first signal asked for, if one came."""
        if self.came:
            self.before[signal.Signals(self.came[0])](self.came[0], None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)


@contextmanager
def stops_noted() -> Iterator[Stops]:
    """Note the signals that stop the program, to be obeyed where it is safe; all further ones are then passed over."""
    is_main = threading.current_thread() is threading.main_thread()  # no other may set a handler, or gets signals
    stops = Stops(before={stop: signal.getsignal(stop) for stop in STOPS} if is_main else {})
    stops.listen()
    try:
        yield stops
    finally:
        for stop, handler in stops.before.items():
            if handler is not None:
                signal.signal(stop, handler)


def installed() -> Any:
    """Return Ray; raises UsageError where it is not installed."""
    # read when Ray is imported: no report of use is sent from a cluster that is started here
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'deeploc-bench[ray]', or use --engine local") from None
    return ray


def is_started_here(ray: Any) -> bool:
    """Tell whether Ray is to be started on this machine, because no cluster is named or joined already."""
    return not ray.is_initialized() and os.environ.get("RAY_ADDRESS", "local") in ("", "local")


@contextmanager
def joined(ray: Any, stops: Stops) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start one here, and leave it or end it; an open connection is kept.

    Raises UsageError where there is no such cluster.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    _refuse_unreachable(address)
    # In a thread of its own, Ray leaves Python's handlers of signals alone, and a signal can be waited for beside it.
    # What it starts ends with the thread that started it.
    ready, done, failures = threading.Event(), threading.Event(), list[BaseException]()
    own = {"num_cpus": ranks.cores(), "include_dashboard": False} if address == "local" else {}

    def connect() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", **own)
        except BaseException as error:
            failures.append(error)
        ready.set()
        done.wait()
        ray.shutdown()

    thread = threading.Thread(target=connect, daemon=True, name="ray")
    thread.start()
    try:
        _wait_for(ready, stops, address)
        if failures:
            raise UsageError(_unreached(address, reason_of(failures[0])))
        yield
    finally:
        done.set()
        end = time.monotonic() + PATIENCE
        while ready.is_set() and thread.is_alive() and time.monotonic() < end:
            thread.join(0.01)
            stops.listen()  # Ray takes its own handlers away, and Python's with them


def _wait_for(ready: threading.Event, stops: Stops, address: str) -> None:
    """Wait until Ray is connected; its handler of SIGTERM, which no Python sees, is replaced as soon as it is set."""
    end = math.inf if address == "local" else time.monotonic() + PATIENCE
    while not ready.wait(LISTENING):
        stops.listen()
        stops.obey()
        if time.monotonic() > end:
            raise UsageError(_unreached(address, f"it did not answer within {PATIENCE:.0f} s"))
    stops.listen()


def _refuse_unreachable(address: str) -> None:
    """Raise UsageError where nothing listens at a cluster's address; Ray itself would try for minutes."""
    if address in ("local", "auto"):
        return
    if address.startswith("ray://"):
        raise UsageError(
            f"RAY_ADDRESS={address}: Ray Client is not supported. Start this command on a machine of the cluster, with "
            "RAY_ADDRESS=auto, or submit it there by ray job submit."
        )
    host, _, port = address.rpartition(":")
    try:
        if not host or not port.isdecimal():
            raise UsageError(f"RAY_ADDRESS={address}: that is no address. Allowed: auto, local, HOST:PORT.")
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, OverflowError) as error:
        raise UsageError(_unreached(address, reason_of(error))) from None


def _unreached(address: str, reason: str) -> str:
    if address == "local":
        return f"Ray cannot be started on this machine: {reason:.300}. Use --engine local, or mend that."
    return (
        f"RAY_ADDRESS={address}: no Ray cluster can be joined there: {reason:.300}. Start one by ray start --head, or "
        "unset RAY_ADDRESS to have one started on this machine alone."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What each training gets of a node: its device, CPU threads, and the share of a GPU."""

    device: str
    threads: int
    gpus: float = 0.0

    def fitting(self, node: Mapping[str, float]) -> int:
        """Return how many trainings a node of these resources does at once."""
        fits = int(node.get("CPU", 0) // self.threads)
        return min(fits, math.floor(node.get("GPU", 0) / self.gpus + 1e-3)) if self.gpus else fits


def nodes(ray: Any) -> list[Mapping[str, float]]:
    """Return the resources of every node that is up."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def share_of(found: list[Mapping[str, float]], place: Workplace, has_cuda: Callable[[], bool]) -> Share:
    """Return what each training gets; `has_cuda` tells whether a GPU that Ray found can be used.

    Raises UsageError where no node has as much, which would be waited for without an end.
    """
    if place.device.startswith("cuda:"):
        raise UsageError(
            f"--device {place.device}: Ray gives each training its GPU. Use --device cuda; CUDA_VISIBLE_DEVICES "
            "chooses among those of this machine."
        )
    with_gpu = [node for node in found if node.get("GPU", 0) >= 1]
    if place.device == "cuda" and not with_gpu:
        raise UsageError("--device cuda: no node of the Ray cluster has a GPU. Use --device cpu, or add one that has.")
    if place.device == "cpu" or not with_gpu or (place.device == "auto" and not has_cuda()):
        if place.per_gpu > 1:
            raise UsageError(f"--per-gpu {place.per_gpu}: these trainings run on the CPU, not on a GPU. Leave it out.")
        return _fitting(found, Share(device="cpu", threads=place.threads), "")
    threads = place.threads
    if not place.is_threads_asked:  # all cores would be one training at a time, however many GPUs there are
        threads = max(1, int(min(node.get("CPU", 1) / (node["GPU"] * place.per_gpu) for node in with_gpu)))
    # rounded down as Ray counts, in ten-thousandths, so that as many as asked fit on one
    share = Share(device="cuda", threads=threads, gpus=math.floor(10**4 / place.per_gpu) / 10**4)
    return _fitting(with_gpu, share, " with a GPU")


def _fitting(found: list[Mapping[str, float]], share: Share, kind: str) -> Share:
    if any(share.fitting(node) for node in found):
        return share
    most = int(max((node.get("CPU", 0) for node in found), default=0))
    raise UsageError(
        f"--threads {share.threads}: no node{kind} of the Ray cluster has so many CPUs; the largest has {most}. "
        f"Use --threads {most or 1}, or add a node."
    )
