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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from ..disk.links import folder_status, remove_target
from ..mail import go_on_after, is_id

_log = logging.getLogger("mailhandlers")

_DAY = 24 * 60 * 60
_DAYS = re.compile(r"([1-9]\d{0,4})d", re.ASCII)

# A message that another writer or another server stored a moment ago may not have its 250
# yet, and may be taken back. It isn't removed, and no older one is removed for it.
_SETTLED_SECONDS = 5.0
# To list a folder takes 1 us a name. So many more messages than wanted may be there, that
# each message pays for 20 names.
_EXCESS = 20
# For age, all folders are listed so often while the time passes that is kept.
_ROUNDS = 100
# Nobody waits for what is removed, except the next batch.
_TURN_SECONDS = 0.01
_PAUSE_SECONDS = 0.1


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
    if keep.seconds is not None:
        return ordered[: bisect_left(ordered, _first_of(now - keep.seconds))]
    assert keep.most is not None
    # A message of this moment counts for nobody yet; one from the future is no such.
    start = bisect_left(ordered, _first_of(now - _SETTLED_SECONDS))
    end = bisect_left(ordered, _first_of(now + 1))
    settled = ordered[:start] + ordered[end:]
    return settled[: max(0, len(settled) - keep.most)]


def _first_of(second: float) -> str:
    """Return what sorts before all names of a *second*, and behind those before it."""
    return f"{max(0, int(second)):010d}."


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
        self._most = (keep.most or 0) + (keep.most or 0) // _EXCESS
        # Two threads of a server may write: this guards what they tell, for microseconds.
        self._lock = threading.Lock()
        # How many messages a place may still be given before it is listed.
        self._room: dict[Place, int] = {}
        self._to_list: dict[Place, None] = {}  # in order, each once
        self._later: dict[Place, float] = {}  # places that are listed after that moment
        self._next_round = 0.0  # for age: all places are listed now and then
        self._newest = ""
        self._has_begun = False
        self._told: set[int | None] = set()
        # One of the threads removes; a turn goes on where the last one ended.
        self._turn = threading.Lock()
        self._steps: Iterator[None] = iter(())
        self._timer: threading.Timer | None = None

    def sweep(self) -> None:
        """Remove all that is too old; for a server that has no clients yet."""
        self._has_begun = True
        self._begin_round()
        self._take_turn(float("inf"))
        self._name_later()

    def begin(self) -> bool:
        """Look at the store before the first message, for a server that did no sweep.

        Returns whether the messages to be stored need later names.
        """
        if self._has_begun or self._keep.most is None:
            return False
        self._has_begun = True
        with suppress(OSError):
            for place in self._places():
                with suppress(OSError):
                    self._newest = max([self._newest, *(own for own, _ in _messages(place))])
        return self._name_later()

    def _name_later(self) -> bool:
        """Let names go on behind the newest one; tell whether the clock is behind that.

        The newest message may be from before the clock was set back. To give later ones an
        earlier name would make them the first to go.
        """
        if self._keep.most is None or not self._newest:
            return False
        is_ahead = go_on_after(self._newest)
        if is_ahead:
            _log.warning(
                "%s: its newest message is from %s, and the clock was set back: the next "
                "messages get times after that",
                self._path,
                time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(self._newest[:10]))),
            )
        return is_ahead

    def stored(self, places: Iterable[Place]) -> None:
        """Note that a message was added to each of *places*."""
        if self._keep.most is None:
            return
        with self._lock:
            for place in places:
                self._room[place] = room = self._room.get(place, 0) - 1
                if room < 0 and place not in self._later:
                    self._to_list[place] = None

    def tidy_up(self) -> None:
        """Remove some of what is too old, for 10 ms; the rest in a while. Raises nothing."""
        if self._keep.seconds is not None and time.monotonic() > self._next_round:
            self._begin_round()
        if self._to_list or (self._later and self._timer is None):
            self._take_turn(time.monotonic() + _TURN_SECONDS)
            self._set_timer()

    def close(self) -> None:
        """Leave the rest to the next message, or the next start."""
        while (timer := self._timer) is not None:
            timer.cancel()
            timer.join()
            if timer is self._timer:  # it had not begun
                self._timer = None

    def _set_timer(self) -> None:
        """Go on by ourselves: the next message may come tomorrow."""
        with self._lock, suppress(RuntimeError):  # no thread can be had: then tomorrow
            due = min(self._later.values(), default=None)
            if self._timer is None and (self._to_list or due is not None):
                pause = _PAUSE_SECONDS
                if not self._to_list and due is not None:
                    pause = max(pause, due - time.monotonic())
                timer = threading.Timer(pause, self._go_on)
                timer.daemon = True
                timer.start()
                self._timer = timer

    def _go_on(self) -> None:
        self._take_turn(time.monotonic() + _TURN_SECONDS)
        self._timer = None
        self._set_timer()

    def _begin_round(self) -> None:
        if self._keep.seconds is not None:
            self._next_round = time.monotonic() + self._keep.seconds / _ROUNDS
        try:
            places = dict.fromkeys(self._places())
        except OSError as error:
            self._tell(error)
        else:
            with self._lock:
                self._to_list.update(places)

    def _take_turn(self, until: float) -> None:
        if not self._turn.acquire(blocking=False):
            return
        try:
            with self._lock:
                now = time.monotonic()
                for place in [place for place, due in self._later.items() if due <= now]:
                    del self._later[place]
                    self._to_list[place] = None
            while True:
                for _ in self._steps:
                    if time.monotonic() > until:
                        return
                with self._lock:
                    following = next(iter(self._to_list), None)
                if following is None:
                    return
                self._steps = self._clean(following)
        finally:
            self._turn.release()

    def _clean(self, place: Place) -> Iterator[None]:
        """Remove what is too old from *place*, step by step."""
        with self._lock:
            self._room[place] = self._most
        paths = {}
        try:
            for number, (own, path) in enumerate(_messages(place)):
                paths[own] = path
                if number % 100 == 0:
                    yield
        except OSError as error:
            self._tell(error)
        self._newest = max(self._newest, max(paths, default=""))
        left = len(paths)
        for own in too_old(paths, self._keep, time.time()):
            yield
            left -= self._remove(place, paths[own])
        with self._lock:
            del self._to_list[place]
            self._room[place] -= left
            if self._keep.most is not None and left > self._most:
                self._later[place] = time.monotonic() + _SETTLED_SECONDS + 1

    def _remove(self, place: Place, path: str) -> bool:
        """Remove one message; tell whether it is gone."""
        try:
            # A name from the past may be a moment old. The time of the content is the one
            # that stays where the message goes from the folder of another recipient.
            if 0 <= time.time() - os.lstat(path).st_mtime < _SETTLED_SECONDS:
                return False
            return remove_target(path, place.link)
        except FileNotFoundError:  # removed, or moved by a mail client
            return True
        except OSError as error:
            self._tell(error)
            return False

    def _tell(self, error: OSError) -> None:
        if error.errno not in self._told:  # once, not at each message
            self._told.add(error.errno)
            _log.error(
                "%s: %s; old messages stay", error.filename or self._path, error.strerror
            )


def _messages(place: Place) -> Iterator[tuple[str, str]]:
    """Yield the name and the path of each message in *place*. Raises OSError."""
    for folder in place.folders:
        with suppress(FileNotFoundError):
            folder_status(folder)
            for name in os.listdir(folder):
                # A mail client puts flags behind the name.
                own = name.removesuffix(place.suffix) if place.suffix else name.split(":")[0]
                if is_id(own) and name.endswith(place.suffix):
                    yield own, f"{folder}/{name}"
