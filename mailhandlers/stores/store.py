"""What every kind of store offers to those who read it.

Reading changes nothing and takes no lock. What is only half there is left out.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, BinaryIO, NamedTuple, Protocol

from ..disk.locks import LOCK_TIMEOUT
from ..formats import FormatError
from ..mail import Mail


class Effort(Enum):
    """How much it takes to write a message, which decides who does."""

    SMALL = auto()
    """An event loop may write it, as long as the disk is quick."""
    LARGE = auto()
    """The thread writes it, in its turn."""
    LONG = auto()
    """A thread of its own writes it, while others are written, where two may write at once."""


class Writable(Protocol):
    """How a store is written. One method at a time runs, in the writer, but for LONG ones."""

    path: str

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        """Store all *mails* or none. Raises OSError.

        It is :exc:`.locks.LockTimeoutError` where a lock isn't had in *patience* seconds. With
        0, whatever may take long is an error at once.
        """

    def clear(self) -> None:
        """Remove all messages. Raises OSError."""

    def tidy_up(self) -> None:
        """Do what no reply need wait for; raises nothing."""

    def rest(self) -> None:
        """Give up what is kept for the next message: none comes for a while. Raises nothing."""

    def effort(self, mail: Mail) -> Effort:
        """Tell how much it takes to write *mail*."""


class StoreError(ValueError):
    """The path holds something else than mail, or mail of which nothing can be read.

    The text says which file that is, and why.
    """


class GoneError(LookupError):
    """The entry was removed, or isn't whole yet: to a reader it isn't there."""


class Entry(NamedTuple):
    """One message in a store, read only when asked for."""

    key: Any
    """What tells it from the others of this store."""
    place: str
    """Where it stands, for people."""
    read: Callable[[], Mail]
    """Return what it holds; raises GoneError, or FormatError for what is no message."""


Seen = Any
"""What a store holds at some moment, for :meth:`Store.since`; None is nothing."""


def open_regular(path: str) -> BinaryIO:
    """Open the file *path*; never wait for somebody at the other end of a FIFO.

    Raises OSError, and FormatError where it is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FormatError("it is no regular file")
    return open(fd, "rb", buffering=0)


class Store(ABC):
    """One look at a store: a new look is a new object."""

    folders: list[str] = []  # noqa: RUF012 - none of its own is the default
    """The folders below the path in which messages arrive."""

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def newest_first(self) -> Iterator[Entry]:
        """Yield the entries, the latest by arrival first."""

    @abstractmethod
    def now(self) -> Seen:
        """Return what is there now, which is then not new to :meth:`since`."""

    @abstractmethod
    def since(self, seen: Seen) -> tuple[Iterator[Entry], Seen]:
        """Return the entries that arrived since, the first first, and what is there now.

        An entry that is not whole yet is for a later call. What another kind of store
        saw counts as None: the store was replaced.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove all messages, also under a running server."""

    def holding(self, octets: bytes) -> Iterator[Entry]:
        """Yield the entries that may hold *octets*, the latest first."""
        return self.newest_first()

    def oldest_first(self) -> Iterator[Entry]:
        """Yield the entries in order of arrival."""
        yield from reversed(list(self.newest_first()))


class NothingYet(Store):
    """A store that no message has made yet, or that somebody removed."""

    def newest_first(self) -> Iterator[Entry]:
        return iter(())

    def now(self) -> Seen:
        return None

    def since(self, seen: Seen) -> tuple[Iterator[Entry], Seen]:
        return iter(()), None

    def clear(self) -> None:
        pass
