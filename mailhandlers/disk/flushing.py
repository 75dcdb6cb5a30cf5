"""Wait until the disk has what was written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import system

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_SLOW_FLUSH = 0.001
_MOST_FLUSHES = 64
_NAME = "mailhandlers-flush"
_BATCHES_UNTIL_ASKED = 20


class Flusher:
    """Waits for many files at once where the disk is slow, and in turn where it is fast.

    Flushes that run at the same time are one to the drive. On a disk whose flush takes 3 ms,
    50 new files took 185 ms one after the other, 44 ms with the first alone and threads made
    for the others, and 29 ms with threads that were there and none alone. Where a flush takes
    0.1 ms, the threads cost more than they save.

    Any number of threads may use it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()  # held to make the pool and to give it up
        # The disk is slow as long as this is not 0. Every so often it is asked again.
        self._batches_at_once = 0

    def flush(self, fds: Sequence[int], fsync: Callable[[int], None] = system.fsync) -> None:
        """Wait until the disk has all files. Raises the first OSError of any."""
        others, done = fds, 0
        if fds and (len(fds) == 1 or not self._batches_at_once):
            first, *others = fds
            started = time.perf_counter()
            fsync(first)
            is_slow = time.perf_counter() - started > _SLOW_FLUSH
            self._batches_at_once = _BATCHES_UNTIL_ASKED if is_slow else 0
        if others and self._batches_at_once:
            self._batches_at_once -= 1
            done = self._flush_at_once(others, fsync)
        for fd in others[done:]:
            fsync(fd)

    def _flush_at_once(self, fds: Sequence[int], fsync: Callable[[int], None]) -> int:
        """Do as :meth:`flush` in threads, for as many files as these can be had; return it."""
        # It takes 8 ms to import, which only a slow disk need wait for.
        from concurrent.futures import ThreadPoolExecutor, wait

        with self._lock:
            pool = self._pool = self._pool or ThreadPoolExecutor(_MOST_FLUSHES, _NAME)
        flushes: list[Future[None]] = []
        # The system tells an error of a file once: whoever is told has to pass it on.
        errors: list[OSError] = []

        def flush(fd: int) -> None:
            try:
                fsync(fd)
            except OSError as error:
                errors.append(error)

        try:
            for fd in fds:
                flushes.append(pool.submit(flush, fd))
        except RuntimeError:  # at a limit of the system, while the program ends, or at rest
            self.rest()
        wait(flushes)  # all of them, also where one fails: the caller closes the files
        if errors:
            raise errors[0]
        return len(flushes)

    def rest(self) -> None:
        """End the threads, until they are needed again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
