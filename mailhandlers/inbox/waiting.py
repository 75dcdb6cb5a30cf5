"""Waiting for mail: one wait that never sleeps, and the two drivers that do.

A wait is told to look, and tells how long to pause before the next look. Who drives it
sleeps: a thread as :func:`wait`, an event loop's task as :func:`wait_in_loop`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from .watch import Watch

_T = TypeVar("_T")


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
