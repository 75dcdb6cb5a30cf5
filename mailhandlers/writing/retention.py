"""How many messages a folder keeps, and for how long: the oldest go.

A message is as old as its name says. Files that have no name of ours belong to somebody else
and stay.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from .. import identity
from .pointers import remove_target

_log = logging.getLogger("mailhandlers")

_DAY = 24 * 60 * 60
_DAYS = re.compile(r"([1-9]\d{0,4})d", re.ASCII)

# A message that was stored a moment ago may still wait for its 250, from another writer or
# another server: it stays for the next turn.
_JUST_NOW = 1.0
# To list a folder takes 1 us a name. So many more messages than wanted may be there, that
# each message pays for 20 names.
_EXCESS = 20
# Nobody waits for what is removed, except the next batch.
_TURN_SECONDS = 0.01


class Keep(NamedTuple):
    """What is kept: the newest *most* messages of a folder, or those of so many *seconds*."""

    most: int | None
    seconds: int | None

    @classmethod
    def of(cls, value: int | str) -> Keep:
        """Return what 1000 means, or ``7d``. Raises ValueError for what means nothing."""
        if isinstance(value, int) and value > 0:
            return cls(value, None)
        days = _DAYS.fullmatch(str(value))
        if days is None:
            raise ValueError(f"{value!r} is neither a number of messages nor of days")
        return cls(None, int(days[1]) * _DAY)


class Place(NamedTuple):
    """Folders that hold the messages of one recipient, or of all."""

    folders: tuple[str, ...]
    suffix: str = ""
    """What the names of messages end with."""
    link: str = ""
    """What points to the latest message, if anything does."""


def too_old(names: Iterable[str], keep: Keep, now: float) -> list[str]:
    """Return those of *names* that go, the oldest first; *now* is in seconds."""
    ordered = sorted(names)
    if keep.most is not None:
        return ordered[: max(0, len(ordered) - keep.most)]
    assert keep.seconds is not None
    first = f"{max(0, int(now) - keep.seconds):010d}."
    return ordered[: bisect_left(ordered, first)]


class Retention:
    """Removes the oldest messages of a store, in turns, after others were stored.

    Each writer of a store has one: the thread, the child, and those of other servers. What
    the others store is seen when a folder is listed, so that a folder may for a while hold a
    twentieth more than wanted for each of them.
    """

    def __init__(self, path: str, keep: Keep, places: Callable[[], Iterable[Place]]) -> None:
        self._path = path
        self._keep = keep
        self._places = places
        # How many messages a place may still be given before it is listed.
        self._room: dict[Place, int] = {}
        self._to_list: dict[Place, None] = {}  # in order, each once
        self._later: dict[Place, None] = {}  # to be listed in the next turn
        self._to_remove: deque[tuple[Place, str]] = deque()
        self._newest = ""
        self._next_round = 0.0  # for age: all places are listed now and then
        self._failed = False
        # Two threads of a server may write; one of them removes.
        self._turn = threading.Lock()

    def sweep(self) -> None:
        """Remove all that is too old; for a server that has no clients yet.

        The newest message may be from before the clock was set back. To give later ones an
        earlier name would make them the first to go: names go on after it.
        """
        self._begin_round()
        self._work(float("inf"))
        if self._newest and identity.go_on_after(self._newest):
            _log.warning(
                "%s: its newest message is from %s, and the clock was set back: the next "
                "messages get times after that",
                self._path,
                time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(self._newest[:10]))),
            )

    def stored(self, places: Iterable[Place]) -> None:
        """Note that a message was added to each of *places*."""
        if self._keep.most is None:
            return
        for place in places:
            self._room[place] = room = self._room.get(place, 0) - 1
            if room < 0:
                self._to_list[place] = None

    def tidy_up(self) -> None:
        """Remove some of what is too old, for 10 ms at most; raises nothing."""
        if self._keep.seconds is not None and time.monotonic() > self._next_round:
            self._begin_round()
        self._to_list.update(self._later)
        self._later.clear()
        if (self._to_list or self._to_remove) and self._turn.acquire(blocking=False):
            try:
                self._work(time.monotonic() + _TURN_SECONDS)
            finally:
                self._turn.release()

    def _begin_round(self) -> None:
        if self._keep.seconds is not None:
            self._next_round = time.monotonic() + self._keep.seconds / 100
        with suppress(OSError):
            self._to_list.update(dict.fromkeys(self._places()))

    def _work(self, until: float) -> None:
        try:
            while self._to_list or self._to_remove:
                if self._to_remove:
                    self._remove(*self._to_remove.popleft())
                else:
                    place = next(iter(self._to_list))
                    del self._to_list[place]
                    self._list(place)
                if time.monotonic() > until:
                    break
            self._failed = False
        except OSError as error:
            if not self._failed:  # once, not at each message
                _log.error(
                    "%s: %s; old messages stay", error.filename or self._path, error.strerror
                )
            self._failed = True

    def _list(self, place: Place) -> None:
        """Note what is to be removed from *place*."""
        paths = {}
        for folder in place.folders:
            with suppress(FileNotFoundError):
                for name in os.listdir(folder):
                    # A mail client puts flags behind the name.
                    own = name.removesuffix(place.suffix).partition(":")[0]
                    if name.endswith(place.suffix) and identity.is_id(own):
                        paths[own] = f"{folder}/{name}"
        names = too_old(paths, self._keep, time.time())
        self._newest = max(self._newest, max(paths, default=""))
        self._to_remove.extend((place, paths[name]) for name in names)
        if self._keep.most is not None:
            kept = len(paths) - len(names)
            self._room[place] = self._keep.most + self._keep.most // _EXCESS - kept

    def _remove(self, place: Place, path: str) -> None:
        with suppress(FileNotFoundError):  # removed, or moved by a mail client
            if 0 <= time.time() - os.lstat(path).st_ctime < _JUST_NOW:
                self._later[place] = None
            else:
                remove_target(path, place.link)
