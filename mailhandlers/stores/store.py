"""What every store offers: to those who write it, and to those who read it.

Reading changes nothing and takes no lock. What is only half there is left out.
"""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, BinaryIO, ClassVar, NamedTuple, TypeAlias

from ..block import FormatError
from ..disk import system
from ..disk.files import Disk
from ..disk.links import open_own
from ..disk.locks import LOCK_TIMEOUT
from ..mail import Mail
from ..message.addresses import comparable

HEAD = 1 << 16
"""How many octets of a file are looked at, to tell what it is."""

_SMALL = 1 << 16
_ADDRESS = re.compile(r"(s3|gs|az):/+(?=[^/])")


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a store; the address of a bucket is what it is."""
    path = os.fspath(path)
    if not is_address(path):
        return os.path.abspath(path)
    # pathlib makes one slash of two.
    return _ADDRESS.sub(r"\1://", path, count=1).rstrip("/")


def is_address(path: str | os.PathLike[str]) -> bool:
    """Tell whether a store is in a bucket, and *path* its address."""
    return _ADDRESS.match(os.fspath(path)) is not None


def exists(path: str | os.PathLike[str]) -> bool:
    """Tell whether anything is at *path*; of a bucket nobody has asked."""
    return is_address(path) or os.path.exists(path)


class StoreError(ValueError):
    """The path holds something else than mail, or mail of which nothing can be read.

    The text says which file that is, and why.
    """


class GoneError(LookupError):
    """The entry was removed, or isn't whole yet: to a reader it isn't there."""


class Effort(Enum):
    """How much it takes to write a message, which decides who does."""

    SMALL = auto()
    """An event loop may write it, as long as the disk is quick."""
    LARGE = auto()
    """The thread writes it, in its turn."""
    LONG = auto()
    """A thread of its own writes it, while others are written, where two may write at once."""


class Entry(NamedTuple):
    """One message in a store, read only when asked for."""

    key: object
    """What tells it from the others of this store."""
    file: str
    """The file in which it stands."""
    read: Callable[[], Mail]
    """Return what it holds; raises GoneError, or FormatError for what can't be read as one."""
    start: int | None = None
    """Where in its file it begins, where that may hold others."""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return self.file if self.start is None else f"{self.file}, octet {self.start}"


Getter: TypeAlias = Callable[[], Entry]
"""Returns an entry: for many messages it takes less than the entries themselves."""


class Seen:
    """What was in a store at some moment, for :meth:`Store.since`: each store has its own."""


class Store(ABC):
    """The messages at a path."""

    grows: ClassVar[bool] = False
    """Whether it is a file that is appended to, and may be renamed the moment after that."""
    instead_of_keep: ClassVar[str] = ""
    """What to do where ``keep=`` isn't taken; empty where it is."""
    pause: ClassVar[float] = 0
    """Seconds between two looks of who waits, where no file's time tells what is new."""

    def __init__(self, path: str, disk: Disk | None = None) -> None:
        """*disk* says how it is written; who only reads needs none."""
        self.path = path
        self._disk = disk or Disk()

    # Writing. One method at a time runs, in the writer, but for the messages that are LONG.

    @abstractmethod
    def check(self) -> None:
        """Raise ValueError, in a sentence for the user, where something else is at the path.

        Nothing is written to a file that holds something else.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Make the store where there is none, and mend what a crash left. Raises OSError."""

    @abstractmethod
    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        """Store all *mails* or none. Raises OSError.

        It is :exc:`.locks.LockTimeoutError` where a lock isn't had in *patience* seconds. With
        0, whatever may take long is an error at once.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove all messages, also under a running server. Raises OSError."""

    @abstractmethod
    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        """Remove the entries that *wanted* yields, also under a running server.

        It reads each of them before it yields it, and is called again where another program
        has changed the store meanwhile. Raises OSError; then one file with all messages is as
        it was, and of files with one message each the first ones may be gone.
        """

    def effort(self, mail: Mail) -> Effort:
        """Tell how much it takes to write *mail*."""
        return Effort.SMALL if len(mail.content) <= _SMALL else Effort.LARGE

    def tidy_up(self) -> None:
        """Do what no reply need wait for; raises nothing."""
        self._disk.free_replaced()

    def rest(self) -> None:
        """Give up what is kept for the next message: none comes for a while. Raises nothing."""
        self._disk.rest()

    # Reading.

    @property
    def folders(self) -> list[str]:
        """The folders below the path in which messages arrive."""
        return []

    def part(self, recipient: str) -> Store:
        """Return the part of this store that holds all mail to *recipient*; often all of it."""
        return self

    def recent(self, count: int) -> Store:
        """Return the part of this store that holds about the *count* latest; often all of it.

        It is for people, who are told what came: one that came late may be missing.
        """
        return self

    def rank(self, entry: Entry) -> Any:
        """Return what sorts entries as they arrived."""
        return entry.key

    def is_as_found(self) -> bool:
        """Tell whether it still is such a store, where its path hasn't changed."""
        return True

    @abstractmethod
    def newest_first(self) -> Iterator[Entry]:
        """Yield the entries, the latest by arrival first."""

    def oldest_first(self) -> Iterator[Entry]:
        """Yield the entries in order of arrival."""
        yield from reversed(list(self.newest_first()))

    def memory(self) -> Memory:
        """Return a memory of this store, in which it is as it is now."""
        return Memory(self)

    def holding(self, octets: bytes) -> Iterator[Entry]:
        """Yield the entries that may hold *octets*, the latest first."""
        return self.newest_first()

    @abstractmethod
    def now(self) -> Seen | None:
        """Return what is there now, which is then not new to :meth:`since`; None is nothing."""

    @abstractmethod
    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen | None]:
        """Return the entries that arrived since, the first first, and what is there now.

        An entry that is not whole yet is for a later call. What another kind of store
        saw counts as None: the store was replaced.
        """


class NothingYet(Store):
    """A store that no message has made yet, or that somebody removed: nobody knows which."""

    grows: ClassVar[bool] = True

    def check(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        raise NotImplementedError

    def clear(self) -> None:
        pass

    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        for _ in wanted():  # which may say that it isn't there
            pass

    def newest_first(self) -> Iterator[Entry]:
        return iter(())

    def now(self) -> Seen | None:
        return None

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen | None]:
        return iter(()), None


class Sought(NamedTuple):
    """Whom the messages are to or from that somebody looks for; None is anybody."""

    to: str | None = None
    mail_from: str | None = None


ANY = Sought()


class Memory:
    """What is known of the messages in a store. This one knows nothing, and reads *store*."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def is_of(self, store: Store) -> bool:
        """Tell whether *store* is of the same kind and at the same path."""
        return type(store) is type(self.store) and store.path == self.store.path

    def renewed(self, store: Store) -> Memory:
        """Return what is known now of *store*, which :meth:`is_of` takes for the same."""
        return store.memory()

    def seen(self) -> Seen | None:
        """Return what is there now, for :meth:`Store.since`."""
        return self.store.now()

    def newest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        """Yield the entries that may be *sought*, the latest first."""
        return self.store.newest_first()

    def oldest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        """Yield the entries that may be *sought*, in order of arrival."""
        return self.store.oldest_first()

    def named(self, name: str) -> Iterator[Entry]:
        """Yield the entries among which is the message with this id, if there is one."""
        return self.store.holding(name.encode())

    def holds_mail(self) -> bool:
        """Tell whether a message was seen, sought or not."""
        return False

    def count(self) -> tuple[int, Iterator[Entry]]:
        """Return how many messages there are for sure, and what has to be read to be sure."""
        return 0, self.store.newest_first()

    def by_recipient(self, read: Callable[[Entry], Iterable[Mail]]) -> dict[str, list[Getter]]:
        """Return what gets the messages to each recipient, in order of arrival.

        *read* returns what can be read of an entry.
        """
        found = Recipients()
        for entry in self.store.oldest_first():
            for mail in read(entry):
                found.add(mail.envelope.rcpt_tos, lambda entry=entry: entry)  # type: ignore[misc]
        return found.getters


class Recipients:
    """Messages by recipient: each recipient once, as it was written first."""

    def __init__(self) -> None:
        self.getters: dict[str, list[Getter]] = {}
        self._spelled: dict[str, str] = {}

    def add(self, recipients: Iterable[str], getter: Getter) -> None:
        """Add a message to *recipients*."""
        for key, address in {comparable(address): address for address in recipients}.items():
            self.getters.setdefault(self._spelled.setdefault(key, address), []).append(getter)


def open_regular(path: str) -> BinaryIO:
    """Open the file *path* to read it; never wait for somebody at the other end of a FIFO.

    Raises OSError, and FormatError where it is no regular file.
    """
    try:
        fd = system.open_to_read(path)
    except IsADirectoryError:  # Windows says it sooner
        raise FormatError("it is no regular file") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FormatError("it is no regular file")
    return open(fd, "rb", buffering=0)


def check_parent(path: str) -> None:
    """Raise ValueError where the folder that is to hold *path* is missing."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise ValueError(f"there is no folder {parent}: create it first")


def check_file(
    path: str,
    what: str,
    is_one: Callable[[bytes, os.stat_result], bool],
    *,
    beside: str = "",
    may_have_names: bool = False,
) -> None:
    """Raise ValueError where *path* can't be the file of a store, which holds *what*.

    *is_one* is given the beginning and the status of the file that is there. A second file
    has the same name with what *beside* says behind it.
    """
    check_parent(path)
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a file in it, or another path")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is no regular file: choose another path")
    longest = system.longest_name(os.path.dirname(path)) - len(beside)
    if len(os.fsencode(os.path.basename(path))) > longest:
        raise ValueError(f"the name of {path} is too long: take one of {longest} octets")
    try:
        fd = open_own(path, os.O_RDONLY, may_have_names=may_have_names)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path} can't be a store: {error.strerror}") from None
    try:
        if not is_one(os.read(fd, HEAD), os.fstat(fd)):
            raise ValueError(
                f"{path} holds something else than {what}, and stays as it is: choose another"
            )
    finally:
        os.close(fd)
