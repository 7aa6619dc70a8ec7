"""Which errors are one training's alone, so that the others go on."""

from collections.abc import Iterator
from contextlib import contextmanager

from deeploc_bench.contract.errors import DeeplocError, DeviceError, StoreError, TrainingFailed, UsageError, reason_of
from deeploc_bench.training import ranks


@contextmanager
def failing_alone() -> Iterator[None]:
    """Raise TrainingFailed for what only this training meets: its plugins are at fault, or it takes too much memory.

    A folder that cannot be written, or a GPU that answers no more, is met by all. Of several processes the others wait
    for this one, and all end.
    """
    try:
        yield
    except (StoreError, UsageError, DeviceError):
        raise
    except (DeeplocError, MemoryError) as error:
        if ranks.processes() > 1:
            raise
        raise TrainingFailed(str(error) if isinstance(error, DeeplocError) else reason_of(error)) from error
