"""One training over several processes, as torchrun starts them: who leads, and how work and answers are shared.

One process alone is its own leader, and every function here is then the plain call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from deeploc_bench.contract.errors import DeeplocError, ProcessFailed, UsageError, reason_of

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""What torchrun sets beside ranks, and no other launcher or leftover of one does."""
LAUNCHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMPI_", "PMI_", "PMIX_", "MV2_", "MPI_")
"""How variables of launchers begin, which accelerate takes for its own."""
PATIENCE = timedelta(days=7)
"""How long the other ranks wait for a leader who waits for another process to finish the training."""


def processes() -> int:
    """Return the number of processes that share each training: those of torchrun, not of mpirun or SLURM."""
    return _of_torchrun("WORLD_SIZE", 1)


def rank() -> int:
    """Return this process's place among them; 0 leads: it alone locks, writes and prints."""
    return _of_torchrun("RANK", 0)


def processes_here() -> int:
    """Return how many of the processes run on this machine."""
    return _of_torchrun("LOCAL_WORLD_SIZE", 1)


def cores() -> int:
    """Return how many processors this process may use; the processes that torchrun starts share them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // processes_here())


def is_leader() -> bool:
    """Tell whether this process leads."""
    return rank() == 0


def _of_torchrun(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone)) if TORCHRUN in os.environ else alone


@contextmanager
def launchers_hidden() -> Iterator[None]:
    """Hide from accelerate, where one process is alone, what mpirun and the like have set for their own."""
    hidden = {} if processes() > 1 else {key: os.environ[key] for key in os.environ if key.startswith(LAUNCHERS)}
    for key in hidden:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group (NCCL on GPUs, Gloo on CPUs) while the trainings of a plan are done.

    Raises ProcessFailed where this process, or one that it waits for, cannot go on; the leader's own errors pass.
    """
    if processes() == 1:
        yield
        return
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
    try:
        yield
    except Exception as error:
        if isinstance(error, UsageError) or (isinstance(error, DeeplocError) and is_leader()):
            raise  # what all processes find, or nobody else tells
        raise ProcessFailed(
            f"process {rank() + 1} of {processes()} cannot go on: {reason_of(error):.500}. The others end with it; "
            "every finished epoch is saved. Run the same command again to go on."
        ) from error
    state.destroy_process_group()


def refuse_too_many(title: str, size: int, images: int) -> None:
    """Raise UsageError where a training's batches of `size`, or all its images, are no share for each process."""
    if processes() == 1:
        return
    cure = f"Start at most {max(1, min(size, images // 2))} (--nproc-per-node)"
    if size < processes():
        raise UsageError(
            f"batch_size={size} of {title} cannot be dealt to {processes()} processes, of which each needs an image. "
            f"{cure}, or --set batch_size={processes()}, which is another recipe."
        )
    if images < 2 * processes():
        raise UsageError(
            f"the {images} training images of {title} cannot be dealt to {processes()} processes, of which each needs "
            f"two. {cure}."
        )


def from_leader(ask: Callable[[], T]) -> T:
    """Return the leader's answer on every rank; none goes on before the leader has answered."""
    if processes() == 1:
        return ask()
    from torch.distributed import broadcast_object_list

    answer: list[Any] = [ask() if is_leader() else None]
    broadcast_object_list(answer)
    value: T = answer[0]
    return value


def map_over_ranks(do: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return `do(item)` of each item, in order, on every rank; the items are dealt to the ranks.

    The first error of any rank is raised on all.
    """
    if processes() == 1:
        return [do(item) for item in items]
    from torch.distributed import all_gather_object

    own: list[R] | Exception
    try:
        own = [do(item) for item in items[rank() :: processes()]]
    except Exception as error:
        own = error
    shares: list[Any] = [None] * processes()
    all_gather_object(shares, own)
    for share in shares:
        if isinstance(share, Exception):
            raise share
    return [shares[i % processes()][i // processes()] for i in range(len(items))]
