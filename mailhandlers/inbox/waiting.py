"""Waiting for mail: one wait that never sleeps, and the two drivers that do.

A wait is told to look, and tells how long to pause before the next look. Who drives it
sleeps: a thread as :func:`wait`, an event loop's task as :func:`wait_in_loop`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_PAUSE = 0.002
_STEADY_PAUSE = 0.012
_LONGEST_PAUSE = 0.25
_LOOK_SHARE = 0.2  # of a core, for looking while mail arrives
_POLL_SHARE = 0.004  # of a core, for polling many folders
# Two messages within one tick of a file system's clock leave one trace.
_TICK = 100_000_000

Status = tuple[int, int, int, int]


_T = TypeVar("_T")


class Watch:
    """A path, and the folders below it that matter, polled for what arrives."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._status: Status | None = None
        self._folders: list[str] = []
        self._statuses: list[Status | None] = []
        self._due = 0.0
        self._newest = 0
        self._pause = _PAUSE

    def follow(self, folders: Sequence[str]) -> None:
        """Take *folders* for those that the path has now."""
        if list(folders) != self._folders:
            self._folders = list(folders)
            self._due = 0

    def changed(self) -> bool:
        """Tell whether anything may have arrived since this was asked last."""
        before = self._status, self._statuses
        self._status = _status(self._path)
        started = time.monotonic()
        if started >= self._due:
            self._statuses = [_status(folder) for folder in self._folders]
            self._newest = max((s[3] for s in self._statuses if s is not None), default=0)
            self._due = started + (time.monotonic() - started) / _POLL_SHARE
        return (self._status, self._statuses) != before or self._is_fresh()

    def pause(self, cost: float) -> float:
        """Return how long to pause, in seconds, after a look that took *cost* seconds."""
        self._pause = min(self._pause * 1.05, _STEADY_PAUSE)
        return min(max(cost / _LOOK_SHARE, self._pause), _LONGEST_PAUSE)

    def _is_fresh(self) -> bool:
        now = time.time_ns()
        newest = self._status[3] if self._status else 0
        return abs(now - newest) < _TICK or abs(now - self._newest) < _TICK


class Wait(Generic[_T]):
    """A wait for what *look* returns, until that is not None, or *timeout* seconds passed.

    None for *timeout* waits for ever. Nothing is looked at unless *watch* saw a change.
    """

    def __init__(
        self, look: Callable[[], _T | None], watch: Watch, timeout: float | None
    ) -> None:
        self._look = look
        self._watch = watch
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._is_first = True
        self._cost = 0.0
        self.result: _T | None = None
        """What was found, or None."""

    def has_news(self) -> bool:
        """Tell whether a look may find anything: this takes microseconds."""
        is_first, self._is_first = self._is_first, False
        return self._watch.changed() or is_first

    def look(self) -> None:
        """Look: this takes as long as reading what is new."""
        started = time.monotonic()
        self.result = self._look()
        self._cost = time.monotonic() - started

    def pause(self) -> float | None:
        """Return how many seconds to pause before the next look, or None at the end."""
        if self.result is not None:
            return None
        left = float("inf") if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            return None
        cost, self._cost = self._cost, 0.0
        return min(self._watch.pause(cost), left)


def wait(waiting: Wait[_T]) -> _T | None:
    """Return what *waiting* finds, or None; this thread sleeps meanwhile."""
    while True:
        if waiting.has_news():
            waiting.look()
        pause = waiting.pause()
        if pause is None:
            return waiting.result
        time.sleep(pause)


async def wait_in_loop(waiting: Wait[_T]) -> _T | None:
    """Return what *waiting* finds, or None; the event loop runs on meanwhile."""
    import asyncio  # who reads without a loop needs none

    while True:
        if waiting.has_news():
            # A long list or a large message would hold the loop up.
            await asyncio.to_thread(waiting.look)
        pause = waiting.pause()
        if pause is None:
            return waiting.result
        await asyncio.sleep(pause)


def loop_is_running() -> bool:
    """Tell whether an event loop runs in this thread, and stands still as long as we wait."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _status(path: str) -> Status | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
