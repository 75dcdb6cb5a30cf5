"""``keep=``: which messages of a folder are too old, and how they go."""

from __future__ import annotations

import os
import re
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..disk import log, system
from ..disk.links import folder_status, remove_target
from ..disk.locks import LockTimeoutError
from ..mail import go_on_after, is_id

_DAY = 24 * 60 * 60
_DAYS = re.compile(r"([1-9]\d{0,4})d", re.ASCII)

EXCESS = 20
"""To list a folder takes 1 us a name. A twentieth more than wanted may be there, so that each
message pays for 20 names."""

ROUNDS = 100
"""For age, all folders are listed so often while the time passes that is kept."""


class Place(NamedTuple):
    """Folders that hold the messages of one recipient, or of all."""

    folders: tuple[str, ...]
    link: str = ""
    """What points to the latest message, if anything does."""


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

    def too_old(self, names: Iterable[str], now: float) -> list[str]:
        """Return those of *names* that go, the oldest first; *now* is in seconds."""
        ordered = sorted(names)
        if self.most is not None:
            return ordered[: -self.most]
        assert self.seconds is not None
        first = f"{max(0, int(now) - self.seconds):010d}."
        return ordered[: bisect_left(ordered, first)]


class Retention:
    """Removes the oldest messages of a store, after others were stored.

    A message is as old as its name says. Files that have no name of ours belong to somebody
    else and stay. What other servers store is seen when a folder is listed: after each
    twentieth of the messages that are kept.
    """

    def __init__(
        self, keep: Keep, path: str, suffix: str, places: Callable[[], Iterable[Place]]
    ) -> None:
        """*places* returns where there are messages now, whose names end with *suffix*."""
        self._path = path
        self._suffix = suffix
        self._places = places
        self._keep = keep
        self._has_begun = False
        # Two threads of a server may store; one at a time looks and removes.
        self._removing = threading.Lock()
        self._stored: deque[Place] = deque()
        self._room: dict[Place, int] = {}  # how many may be stored before it is listed
        self._to_list: dict[Place, None] = {}
        self._next_round = 0.0  # for age: all places are listed now and then
        self._told: set[int | None] = set()

    def begin(self) -> bool:
        """Look at the store before the first message; tell whether that needs a later name.

        The newest message may be from before the clock was set back. To give later ones an
        earlier name would make them the first to go.
        """
        if self._has_begun:
            return False
        with self._removing:
            newest = "" if self._has_begun else self._newest()
            self._has_begun = True
        if not newest or not go_on_after(newest):
            return False
        log().warning(
            "%s: its newest message is from %s, and the clock was set back: the next "
            "messages get times after that",
            self._path,
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(newest[:10]))),
        )
        return True

    def _newest(self) -> str:
        """Return the name of the newest message where that counts, or an empty text."""
        self._list_all()
        if self._keep.most is None:
            return ""
        return max((name for place in self._to_list for name in self._paths(place)), default="")

    def stored(self, places: Iterable[Place]) -> None:
        """Note that a message was added to each of *places*."""
        if self._keep.most is not None:
            self._stored.extend(places)

    def remove(self) -> None:
        """Remove what is too old. Raises nothing."""
        with self._removing:
            if self._keep.seconds is not None and time.monotonic() > self._next_round:
                self._list_all()
            while self._stored:
                place = self._stored.popleft()
                self._room[place] = room = self._room.get(place, 0) - 1
                if room < 0:
                    self._to_list[place] = None
            while self._to_list:
                place, _ = self._to_list.popitem()
                self._clean(place)

    def _list_all(self) -> None:
        if self._keep.seconds is not None:
            self._next_round = time.monotonic() + self._keep.seconds / ROUNDS
        try:
            self._to_list.update(dict.fromkeys(self._places()))
        except OSError as error:
            self._tell(error)

    def _clean(self, place: Place) -> None:
        """Remove what is too old from *place*."""
        self._room[place] = (self._keep.most or 0) // EXCESS
        paths = self._paths(place)
        for name in self._keep.too_old(paths, time.time()):
            self._remove(paths[name], place.link)

    def _paths(self, place: Place) -> dict[str, str]:
        """Return the path of each message in *place* that has a name of ours."""
        paths = {}
        suffix = self._suffix
        for folder in place.folders:
            try:
                folder_status(folder)
                for name in os.listdir(folder):
                    # A mail client puts flags behind the name.
                    own = name.removesuffix(suffix) if suffix else system.without_flags(name)
                    if name.endswith(suffix) and is_id(own):
                        paths[own] = f"{folder}/{name}"
            except FileNotFoundError:
                pass
            except OSError as error:
                self._tell(error)
        return paths

    def _remove(self, path: str, link: str) -> None:
        try:
            remove_target(path, link)
        except FileNotFoundError:  # removed, or moved by a mail client
            pass
        except LockTimeoutError:  # a message is being stored: at the next look
            pass
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if error.errno not in self._told:  # once, not at each message
            self._told.add(error.errno)
            log().error(
                "%s: %s; old messages stay",
                error.filename or self._path,
                error.strerror,
            )
