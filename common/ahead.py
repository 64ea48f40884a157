"""Files in threads while the device works: read ahead of it, written behind it. Order and errors are those of
doing it in place.

These threads keep off torch's operators: a second thread that calls them has OpenMP threads of its own, and
where there are more of those than cores, each operator of the first waits longer for its own (a fifth of an
attack on two cores).
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from common import memory

S, T = TypeVar("S"), TypeVar("T")
THREADS = min(8, os.cpu_count() or 1)  # that read or write the files of one batch
FEWEST = 8  # files that are worth the threads' attention
TIDY = 16  # batches after which freed memory is returned
DEPTH = 2  # batches that are read ahead of the device, and that may wait to be written behind it


@functools.cache
def _pool():
    return ThreadPoolExecutor(THREADS, "files")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay with the parent


def parts(items: Sequence[S], size: int) -> list[Sequence[S]]:
    """Slices of `size` items, the last of what is left."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def each(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """[work(item)] in the order of items, in threads where they pay: for work that waits for files, or that
    compresses outside Python's lock."""
    if THREADS == 1 or len(items) < FEWEST:
        return [work(item) for item in items]
    shares = parts(items, -(-len(items) // THREADS))
    return [made for share in _pool().map(lambda share: [work(i) for i in share], shares) for made in share]


def ahead(items: Iterable[S], work: Callable[[S], T], depth: int = DEPTH) -> Iterator[T]:
    """work(item) of each in turn; a thread is up to `depth` items ahead of who reads.  An error is raised in
    the place of its item."""
    pool, waiting = ThreadPoolExecutor(1, "ahead"), deque()
    try:
        for number, item in enumerate(items):
            if number and number % TIDY == 0:
                memory.give_back()
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Behind:
    """`with Behind() as behind: behind(work, *args)`: a thread does the work in the order it was given; at
    most `depth` pieces wait. Leaving waits for what was given and raises the first error."""

    def __init__(self, depth: int = DEPTH):
        self.depth = depth

    def __enter__(self) -> Self:
        self._pool, self._waiting = ThreadPoolExecutor(1, "behind"), deque()
        return self

    def __call__(self, work: Callable[..., object], *args: object) -> None:
        """Raises what an earlier piece raised, which is then lost as this one is."""
        self._waiting.append(self._pool.submit(work, *args))
        while len(self._waiting) > self.depth:
            self._waiting.popleft().result()

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown()
        if error is None:
            for piece in self._waiting:
                piece.result()
