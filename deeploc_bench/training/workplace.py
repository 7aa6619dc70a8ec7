"""Where trainings are done and how it is told, what is left to do, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deeploc_bench.data.suites import Progress
from deeploc_bench.plan.plan import Training
from deeploc_bench.plan.store import Tested


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where and how trainings are done: runs folder, device, threads, and how progress and messages are shown."""

    runs: Path
    device: str = "auto"
    threads: int = 1
    is_threads_asked: bool = True
    """Where it was not asked for a number of threads, the engine may choose it by the GPUs that there are."""
    per_gpu: int = 1
    """How many trainings share a GPU, where an engine does several at once."""
    progress: Progress
    say: Callable[[str], None]
    is_terminal: bool = True
    """Where progress cannot be seen, a line an epoch is said instead."""
    is_debug: bool = False
    """Whether the traceback of what failed is said too."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a plan: trainings done now and before, and the reasons of those that failed; by identity."""

    trained: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


Remaining = list[tuple[Training, list[Tested]]]
"""The trainings that are not finished, each with the test sets that it is yet to be tested on."""
