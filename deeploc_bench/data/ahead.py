"""Makes what will be needed next in threads, while what is there is in use; in order, whatever the threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(make: Callable[[T], R], items: Iterable[T], threads: int = 1) -> Iterator[R]:
    """Yield `make(item)` of each item, in order; at most two for each thread are made or wait, so that memory holds."""
    with ThreadPoolExecutor(threads) as pool:
        coming = deque[Future[R]]()
        for item in items:
            coming.append(pool.submit(make, item))
            if len(coming) > 2 * threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
