"""When to look again at a store: soon after a message landed, and for next to no work."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

_PAUSE = 0.002
_STEADY_PAUSE = 0.012
_LONGEST_PAUSE = 0.25
_LOOK_SHARE = 0.2  # of a core, for looking while mail arrives
_POLL_SHARE = 0.004  # of a core, for polling many folders
# Two messages within one tick of a file system's clock leave one trace.
_TICK = 100_000_000

Status = tuple[int, int, int, int]


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


def _status(path: str) -> Status | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
