"""In which order trainings are done where several runs share a runs folder: first those that no other run is at."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from deeploc_bench.plan import store
from deeploc_bench.plan.plan import Training
from deeploc_bench.training import ranks


def free_first(trainings: Sequence[Training], runs: Path) -> Iterator[Training]:
    """Yield each training once: the first whose lock nobody holds by then, or where all are held, the first."""
    waiting = list(trainings)
    while waiting:
        yield waiting.pop(ranks.from_leader(lambda: _first_free(waiting, runs)))


def _first_free(trainings: Sequence[Training], runs: Path) -> int:
    return next((place for place, one in enumerate(trainings) if not store.is_locked(runs / one.place)), 0)
