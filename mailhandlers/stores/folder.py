"""What the stores have in common that keep each message in a file of its own, and ``keep=``."""

from __future__ import annotations

import errno
import functools
import os
import re
import threading
import time
from abc import abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from ..disk import log, system
from ..disk.files import Disk, empty_folders, is_shown
from ..disk.links import folder_status, remove_target
from ..disk.locks import LOCK_TIMEOUT, LockTimeoutError, deadline
from ..mail import Mail, go_on_after, is_id
from .latest import read_mail
from .store import Effort, Entry, GoneError, Seen, Store, check_parent

_MOST_CLASHES = 10
_LONG = 1 << 20

_DAY = 24 * 60 * 60
_DAYS = re.compile(r"([1-9]\d{0,4})d", re.ASCII)
# To list a folder takes 1 us a name. So many more messages than wanted may be there, that
# each message pays for 20 names.
_EXCESS = 20
# For age, all folders are listed so often while the time passes that is kept.
_ROUNDS = 100


class _Keys(Seen):
    """The messages of a folder, by their keys."""

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = keys


class Place(NamedTuple):
    """Folders that hold the messages of one recipient, or of all."""

    folders: tuple[str, ...]
    link: str = ""
    """What points to the latest message, if anything does."""


class FolderStore(Store):
    """A folder, with folders in which each message is a file of its own."""

    suffix = ""
    """What the names of messages end with."""

    def __init__(self, path: str, disk: Disk | None = None, keep: Keep | None = None) -> None:
        super().__init__(path, disk)
        self._retention = None if keep is None else _Retention(self, keep)

    @abstractmethod
    def places(self) -> Iterable[Place]:
        """Return where there are messages, now. Raises OSError."""

    @abstractmethod
    def add_files(self, mails: Sequence[Mail], patience: float) -> Iterable[Place]:
        """Store all *mails* or none; return where, once for each message.

        Raises OSError, FileExistsError where a name is taken.
        """

    @property
    @abstractmethod
    def folders(self) -> list[str]:
        """The folders in which messages arrive."""

    @abstractmethod
    def keys(self, folder: str, names: Sequence[str]) -> Iterable[tuple[str, str]]:
        """Yield what tells each message of *folder* from others, and its name.

        *names* are all that are there, but for hidden ones and those without the suffix. One
        message may be in several folders, or move to another meanwhile.
        """

    def read_file(self, path: str) -> Mail:
        """Return the message in a file. Raises GoneError and FormatError."""
        return read_mail(path)

    def check(self) -> None:
        check_parent(self.path)
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise ValueError(
                f"{self.path} is no folder, and this handler keeps one: choose another"
            )

    def prepare(self) -> None:
        if self._retention is not None:
            self._retention.begin()
            self._retention.remove()

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        if self._retention is not None and self._retention.begin():
            mails = [mail.renamed() for mail in mails]
        places = self._add_unique(mails, patience)
        if self._retention is not None:
            self._retention.stored(places)

    def _add_unique(self, mails: Sequence[Mail], patience: float) -> Iterable[Place]:
        """Add *mails*, under new identities as long as one of them is taken."""
        for _ in range(_MOST_CLASHES):
            try:
                return self.add_files(mails, patience)
            except FileExistsError:
                mails = [mail.renamed() for mail in mails]
        return self.add_files(mails, patience)

    def clear(self) -> None:
        empty_folders(self.folders, self.suffix)

    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        names = {str(entry.key) for entry in wanted()}
        # A mail client may move one, or mark it, between the look and the removal: look again.
        for _ in range(_MOST_CLASHES):
            found = [self._remove_from(place, names) for place in self.places()]
            if not any(found):
                return
        raise OSError(errno.EAGAIN, "another program moves messages each time", self.path)

    def _remove_from(self, place: Place, names: set[str]) -> bool:
        """Remove the messages of these *names*; tell whether there was any."""
        for folder in place.folders:
            with suppress(FileNotFoundError):
                folder_status(folder)
        paths = self._paths_in(place.folders)
        found = sorted(names & paths.keys())  # the link follows once, at the last
        for name in found:
            with suppress(FileNotFoundError):
                remove_target(paths[name], place.link, deadline())
        return bool(found)

    def effort(self, mail: Mail) -> Effort:
        if len(mail.content) > _LONG:
            return Effort.LONG
        return Effort.LARGE if self._retention is not None else super().effort(mail)

    def tidy_up(self) -> None:
        if self._retention is not None:
            self._retention.remove()

    def newest_first(self) -> Iterator[Entry]:
        paths = self._paths()
        return self._entries(paths, paths)

    def now(self) -> Seen:
        return _Keys(self._paths().keys())

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen]:
        paths = self._paths()
        new = paths.keys() - seen.keys if isinstance(seen, _Keys) else paths
        return reversed([*self._entries(paths, new)]), _Keys(paths.keys())

    def _paths(self) -> dict[str, str]:
        """Return the path of each message by its key."""
        return self._paths_in(self.folders)

    def _paths_in(self, folders: Iterable[str]) -> dict[str, str]:
        paths = {}
        for folder in folders:
            names = [name for name in listed(folder) if is_shown(name, self.suffix)]
            for key, name in self.keys(folder, names):
                paths[key] = f"{folder}/{name}"
        return paths

    def _entries(self, paths: dict[str, str], keys: Iterable[str]) -> Iterator[Entry]:
        # A key may have the name behind that of a folder.
        ordered = sorted(((key.rpartition("/")[2], key) for key in keys), reverse=True)
        # Our names and those of the Maildir specification begin with the second.
        if ordered and not ordered[0][0][0].isdigit():
            ordered.sort(key=lambda named: not named[0][0].isdigit())
        for _, key in ordered:
            path = paths[key]
            yield Entry(key, path, functools.partial(self._read, key, path))

    def _read(self, key: str, path: str) -> Mail:
        try:
            return self.read_file(path)
        except GoneError:  # or a mail client moved it or marked it just now
            return self.read_file(self._paths().get(key, path))


def listed(folder: str) -> list[str]:
    """Return the names in *folder*; none where there is no such folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether *entry* is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


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


class _Retention:
    """Removes the oldest messages of a store, after others were stored.

    A message is as old as its name says. Files that have no name of ours belong to somebody
    else and stay. What other servers store is seen when a folder is listed: after each
    twentieth of the messages that are kept.
    """

    def __init__(self, store: FolderStore, keep: Keep) -> None:
        self._store = store
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
            self._store.path,
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
            self._next_round = time.monotonic() + self._keep.seconds / _ROUNDS
        try:
            self._to_list.update(dict.fromkeys(self._store.places()))
        except OSError as error:
            self._tell(error)

    def _clean(self, place: Place) -> None:
        """Remove what is too old from *place*."""
        self._room[place] = (self._keep.most or 0) // _EXCESS
        paths = self._paths(place)
        for name in self._keep.too_old(paths, time.time()):
            self._remove(paths[name], place.link)

    def _paths(self, place: Place) -> dict[str, str]:
        """Return the path of each message in *place* that has a name of ours."""
        paths = {}
        suffix = self._store.suffix
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
                error.filename or self._store.path,
                error.strerror,
            )
