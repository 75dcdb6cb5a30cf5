"""Waiting for mail, written once for threads and for event loops.

What waits is a generator that never sleeps. It yields how many seconds to pause, or a function
to call, which takes as long as reading a store, and whose result it is sent. Who drives it does
as it is told: :func:`wait` in a thread, :func:`wait_in_loop` in a task of an event loop.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from ..stores.memory import TICK

_PAUSE = 0.002
_STEADY_PAUSE = 0.012
_LONGEST_PAUSE = 0.25
_LOOK_SHARE = 0.2  # of a core, for looking while mail arrives
_POLL_SHARE = 0.004  # of a core, for polling many folders

_Status: TypeAlias = tuple[int, int, int, int]

_T = TypeVar("_T")

Steps: TypeAlias = Generator[float | Callable[[], object], Any, _T]
"""What to do until there is a result, which it returns."""


def checked_seconds(name: str, value: object) -> float:
    """Return *value*, which is the argument *name*, if it is a number of seconds to wait.

    Raises TypeError or ValueError: nan and None would make a wait without end.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is a number of seconds such as 0.5, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value} is no number of seconds: try {name}=0.5")
    return float(value)


class Watch:
    """A path, and the folders below it that matter, polled for what arrives."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._status: _Status | None = None
        self._folders: list[str] = []
        self._statuses: list[_Status | None] = []
        self._due = 0.0
        self._newest = 0
        self._pause = _PAUSE
        self._fixed_pause = 0.0

    def follow(self, folders: Sequence[str], pause: float = 0) -> None:
        """Take *folders* for those that the path has now.

        A *pause* says that none of them tells what is new: then each look is made, with so many
        seconds between two.
        """
        self._fixed_pause = pause
        if list(folders) != self._folders:
            self._folders = list(folders)
            self._due = 0

    def changed(self) -> bool:
        """Tell whether anything may have arrived since this was asked last."""
        if self._fixed_pause:
            return True
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
        if self._fixed_pause:
            return self._fixed_pause
        self._pause = min(self._pause * 1.05, _STEADY_PAUSE)
        return min(max(cost / _LOOK_SHARE, self._pause), _LONGEST_PAUSE)

    def _is_fresh(self) -> bool:
        now = time.time_ns()
        newest = self._status[3] if self._status else 0
        return abs(now - newest) < TICK or abs(now - self._newest) < TICK


def until_found(
    look: Callable[[], _T | None], watch: Watch, timeout: float | None
) -> Steps[_T | None]:
    """Look until *look* returns something else than None, or *timeout* seconds passed.

    None for *timeout* waits for ever. Between the first look and the last, which are always
    made, there is none unless *watch* saw a change.
    """

    def timed() -> tuple[_T | None, float]:
        started = time.monotonic()
        return look(), time.monotonic() - started

    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    is_first = True
    while True:
        found, cost = None, 0.0
        # Many folders are polled seldom: what came since is found by the last look.
        is_last = time.monotonic() >= deadline
        if watch.changed() or is_first or is_last:
            found, cost = yield timed
        if found is not None or is_last:
            return found
        is_first = False
        yield max(0, min(watch.pause(cost), deadline - time.monotonic()))


def wait(steps: Steps[_T]) -> _T:
    """Take the *steps*, and return their result; this thread sleeps meanwhile."""
    result: object = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if callable(step):
            result = step()
        else:
            time.sleep(step)


async def wait_in_loop(steps: Steps[_T]) -> _T:
    """Take the *steps*, and return their result; the event loop runs on meanwhile."""
    import asyncio  # who reads without a loop needs none

    result: object = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if callable(step):  # a long list or a large message would hold the loop up
            result = await asyncio.to_thread(step)
        else:
            await asyncio.sleep(step)


def loop_is_running() -> bool:
    """Tell whether an event loop runs in this thread, and stands still as long as we wait."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _status(path: str) -> _Status | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
