"""Finding the messages of a store on disk: which kind it is, and its entries in order.

Reading changes nothing and takes no lock. What is only half there is left out: a mail
file and a file in a folder are whole by their rename or link, an entry in a growing file
when its octets number the envelope's ``size``.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import stat
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from . import foreign, formats, storage
from .envelope import Envelope
from .formats import FormatError
from .message import StoredMessage

_HEAD = 1 << 16
_ANCHOR = 1 << 12
# The blank line that ends an mbox entry, and how much of the next From line there may be.
_CLOSED = re.compile(rb"\n\n(?:F|Fr|Fro|From)?\Z")
_ARRIVAL = re.compile(r"(\d{9,11})\.")


class StoreError(ValueError):
    """The path holds something that none of the handlers wrote."""


class GoneError(LookupError):
    """The entry was removed, or isn't whole yet: to a reader it isn't there."""


class Raw(NamedTuple):
    """What an entry holds, before anybody interprets the content."""

    envelope: Envelope | None
    content: bytes

    def parsed(self) -> StoredMessage:
        """Return the message."""
        return StoredMessage.parse(self.content, self.envelope)


class Entry(NamedTuple):
    """One message in a store, read only when asked for."""

    key: Any
    """What tells it from the others of this store."""
    place: str
    """Where it stands, for people."""
    read: Callable[[], Raw]
    """Return what it holds; raises GoneError, or FormatError for what is no message."""


_Key = tuple[int, int, int]  # device, inode, offset
IsNew = Callable[[Any], bool]  # of an entry's key


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
    def mark(self) -> IsNew:
        """Return a test that tells the entries that come after this look."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all messages, also under a running server."""

    def oldest_first(self) -> Iterator[Entry]:
        """Yield the entries in order of arrival."""
        yield from reversed(list(self.newest_first()))

    def only(self, is_new: IsNew) -> Iterator[Entry]:
        """Yield the entries that come after a mark, the latest first."""
        return (entry for entry in self.newest_first() if is_new(entry.key))


class _Nothing(Store):
    """A store that no message has made yet, or that somebody removed."""

    def newest_first(self) -> Iterator[Entry]:
        return iter(())

    def mark(self) -> IsNew:
        return lambda key: True

    def clear(self) -> None:
        pass


class _OneMail(Store):
    """The one file of MailFile, or an .eml of another program's."""

    def __init__(self, path: str, status: os.stat_result, head: bytes) -> None:
        super().__init__(path)
        # A file system may give the next file the same inode at the same tick; the head
        # holds the envelope's id.
        self._key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, head)

    def newest_first(self) -> Iterator[Entry]:
        yield Entry(self._key, self.path, functools.partial(_read_mail, self.path))

    def mark(self) -> IsNew:
        return lambda key: key != self._key

    def clear(self) -> None:
        storage.remove([self.path])


class _Folder(Store):
    """A Maildir, the folders of PerRecipientDir, or one of these."""

    def __init__(self, path: str, folders: list[str], suffix: str = "") -> None:
        super().__init__(path)
        self.folders = folders
        self._suffix = suffix
        self._places = self._list()

    def newest_first(self) -> Iterator[Entry]:
        return self._entries(self._places)

    def mark(self) -> IsNew:
        old = self._places.keys()
        return lambda key: key not in old

    def only(self, is_new: IsNew) -> Iterator[Entry]:
        return self._entries(filter(is_new, self._places))

    def clear(self) -> None:
        storage.empty_folders(self.folders)

    def _list(self) -> dict[str, str]:
        """Return the path of each message by its name, which is without Maildir's flags."""
        places = {}
        for folder in self.folders:
            names = [n for n in _listed(folder) if n.endswith(self._suffix) and n[0] != "."]
            for name in names:
                # PerRecipientDir's link to one of the others.
                if name != "latest.eml" or len(names) == 1:
                    places[name.partition(":")[0]] = f"{folder}/{name}"
        return places

    def _entries(self, names: Iterable[str]) -> Iterator[Entry]:
        ordered = sorted(names, reverse=True)
        # Our names and those of the Maildir specification begin with the second.
        if ordered and not ordered[0][0].isdigit():
            ordered.sort(key=lambda name: not name[0].isdigit())
        for name in ordered:
            yield Entry(
                name,
                self._places[name],
                functools.partial(self._read, name, self._places[name]),
            )

    def _read(self, name: str, path: str) -> Raw:
        try:
            return _read_mail(path)
        except GoneError:  # or a mail client moved it or marked it just now
            return _read_mail(self._list().get(name, path))


class _Growing(Store):
    """A file that grows at its end, read from there."""

    mark_of_entry: bytes
    kind: Callable[[], storage.Appendable]

    @abstractmethod
    def parse(self, data: bytes, is_last: bool, written: float) -> Raw:
        """Return what the octets of an entry hold; raises GoneError or FormatError."""

    def newest_first(self) -> Iterator[Entry]:
        for status, start, end in self._spans():
            yield self._entry(status, start, end)

    def oldest_first(self) -> Iterator[Entry]:
        # The offsets are all that is kept of a large file.
        starts = array("q")
        status = None
        for status, start, _ in self._spans():  # noqa: B007
            starts.append(start)
        while starts and status:
            start = starts.pop()
            yield self._entry(status, start, starts[-1] if starts else status.st_size)

    def only(self, is_new: IsNew) -> Iterator[Entry]:
        return itertools.takewhile(lambda entry: is_new(entry.key), self.newest_first())

    def mark(self) -> IsNew:
        for status, start, end in self._spans():
            entry = self._entry(status, start, end)
            # An entry that is not whole yet counts as new when it is.
            with contextlib.suppress(GoneError, FormatError):
                entry.read()
                head = self._octets(start, min(end, start + _ANCHOR))
                return functools.partial(self._is_behind, entry.key, head)
        return lambda key: True

    def clear(self) -> None:
        storage.Disk().truncate(self.path, self.kind())

    def _spans(self) -> Iterator[tuple[os.stat_result, int, int]]:
        with contextlib.suppress(GoneError), self._open() as file:
            fd = file.fileno()
            status = os.fstat(fd)

            def read(start: int, end: int) -> bytes:
                return os.pread(fd, end - start, start)

            for start, end in formats.backwards(read, status.st_size, self.mark_of_entry):
                yield status, start, end

    def _entry(self, status: os.stat_result, start: int, end: int) -> Entry:
        return Entry(
            (status.st_dev, status.st_ino, start),
            f"{self.path}, octet {start}",
            functools.partial(self._read, status, start, end),
        )

    def _read(self, status: os.stat_result, start: int, end: int) -> Raw:
        with self._open() as file:
            data = os.pread(file.fileno(), end - start, start)
            now = os.fstat(file.fileno())
        if len(data) < end - start or not os.path.samestat(now, status):
            raise GoneError(self.path)
        try:
            return self.parse(data, end == status.st_size, status.st_mtime)
        except FormatError:
            if now.st_mtime_ns != status.st_mtime_ns:  # other octets than were found there
                raise GoneError(self.path) from None
            raise

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "rb", buffering=0)
        except FileNotFoundError:
            raise GoneError(self.path) from None

    def _octets(self, start: int, end: int) -> bytes:
        with self._open() as file:
            return os.pread(file.fileno(), end - start, start)

    def _is_behind(self, old: _Key, head: bytes, key: _Key) -> bool:
        """Tell whether *key* follows the entry that stood at *old*, if that is still there."""
        if key[:2] != old[:2] or key[2] > old[2]:
            return True
        # The file may have been emptied and have grown again.
        try:
            return self._octets(old[2], old[2] + len(head)) != head
        except GoneError:
            return True


class _Mbox(_Growing):
    """The file of MboxSink, or an mbox of another program's."""

    mark_of_entry = b"From "
    kind = staticmethod(storage.mbox)

    def parse(self, data: bytes, is_last: bool, written: float) -> Raw:
        try:
            raw = Raw(*formats.from_mbox(data))
        except FormatError:
            if is_last and formats.is_torn_mbox(data):
                raise GoneError(self.path) from None
            first, _, content = formats.unquote_from(data).partition(b"\n")
            if not first.startswith(b"From ") or formats.has_block(content):
                raise
        else:
            if is_last and not _CLOSED.search(data[-6:]):
                raise GoneError(self.path)
            return raw
        when = foreign.mbox_date(first)
        content = content.removesuffix(b"\n")
        envelope = foreign.envelope(content, self.path, written if when is None else when)
        return Raw(envelope, content)


class _JsonLines(_Growing):
    """The file of JsonLines."""

    mark_of_entry = b""
    kind = staticmethod(storage.json_lines)

    def parse(self, data: bytes, is_last: bool, written: float) -> Raw:
        if not data.strip() or (is_last and not data.endswith(b"\n")):
            raise GoneError(self.path)
        return Raw(*formats.from_json_line(data))


def find(path: str | os.PathLike[str], recipient: str | None = None) -> Store:
    """Return the store at *path*, whose kind is found from what is there.

    With a *recipient*, the folders of PerRecipientDir come down to one. Raises
    StoreError.
    """
    path = os.path.abspath(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return _find_folder(path, recipient)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no regular file and no folder")
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            head = file.read(_HEAD)
    except (FileNotFoundError, NotADirectoryError):
        return _Nothing(path)
    if not head:
        return _Nothing(path)
    if head.startswith(b"From ") or b"From ".startswith(head):
        return _Mbox(path)
    if head.startswith(b"{"):
        return _JsonLines(path)
    if formats.has_block(head) or foreign.is_mail(head):
        return _OneMail(path, status, head)
    # Other lines may stand above the first of ours.
    if b'\n{"id": "' in head:
        return _JsonLines(path)
    if b"\nFrom " in head:
        return _Mbox(path)
    raise StoreError(f"{path}, line 1: no mail file, mbox or JSON Lines begins like this")


def _find_folder(path: str, recipient: str | None) -> Store:
    folders: list[str] = []
    others: list[str] = []
    for entry in os.scandir(path):
        if entry.name[0] != ".":
            (folders if entry.is_dir() else others).append(entry.path)
    if any(name.endswith(".eml") for name in others):
        return _Folder(path, [path], ".eml")
    # A recipient may be called "new": the latest.eml in some folder tells.
    if not any(os.path.lexists(f"{folder}/latest.eml") for folder in folders):
        maildir = [f"{path}/{name}" for name in ("new", "cur") if f"{path}/{name}" in folders]
        if maildir:
            return _Folder(path, maildir)
        _check_people(path, others, folders)
    if recipient is not None:
        folders = [f"{path}/{formats.folder_name(recipient)}"]
    return _Folder(path, folders, ".eml")


def _check_people(path: str, others: list[str], folders: list[str]) -> None:
    """Raise StoreError for a folder of something else; one without any mail is a store."""
    for folder in folders:
        names = [name for name in _listed(folder) if name[0] != "."]
        if any(name.endswith(".eml") for name in names):
            return
        others += [f"{folder}/{name}" for name in names]
    if others:
        raise StoreError(f"{min(others)} belongs to no Maildir and to no recipient's mail")


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_mail(path: str) -> Raw:
    """Return what a file with one message holds. Raises GoneError or FormatError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
            written = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        raise GoneError(path) from None
    if formats.has_block(data):
        return Raw(*formats.from_mail(data))
    if not foreign.is_mail(data[:_HEAD]):
        raise FormatError("no message begins like this")
    name = os.path.basename(path)
    second = _ARRIVAL.match(name)
    when = float(second[1]) if second else written
    return Raw(foreign.envelope(data, name, when), data)
