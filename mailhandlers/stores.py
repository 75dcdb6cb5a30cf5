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
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from email.utils import getaddresses, mktime_tz, parsedate_tz
from typing import Any, NamedTuple

from . import formats, storage
from .envelope import Envelope
from .formats import FormatError
from .message import StoredMessage

_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
_ARRIVAL = re.compile(r"(\d{9,11})\.")


State = tuple[tuple[int, int, int, int], ...]


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


class Store(ABC):
    """One kind of store, looked at anew for each question."""

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def newest_first(self) -> Iterator[Entry]:
        """Yield the entries, the latest by arrival first."""

    @abstractmethod
    def mark(self) -> Callable[[Entry], bool]:
        """Return a test that tells the entries that come after this moment."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all messages, also under a running server."""

    def oldest_first(self) -> Iterator[Entry]:
        """Yield the entries in order of arrival."""
        yield from reversed(list(self.newest_first()))

    def only(self, is_new: Callable[[Entry], bool]) -> Iterator[Entry]:
        """Yield the entries that come after a mark, the latest first."""
        return filter(is_new, self.newest_first())


class _Nothing(Store):
    """A store that no message has made yet, or that somebody removed."""

    def newest_first(self) -> Iterator[Entry]:
        return iter(())

    def mark(self) -> Callable[[Entry], bool]:
        return lambda entry: True

    def clear(self) -> None:
        pass


class _OneMail(Store):
    """The one file of MailFile, or an .eml of another program's."""

    def newest_first(self) -> Iterator[Entry]:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(self.path)
            key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            yield Entry(key, self.path, lambda: _read_mail(self.path))

    def mark(self) -> Callable[[Entry], bool]:
        old = [(entry.key, _id(entry)) for entry in self.newest_first()]
        # A file system may give the next file the same inode at the same tick.
        return lambda entry: (entry.key, _id(entry)) not in old

    def clear(self) -> None:
        storage.remove([self.path])


class _Folder(Store):
    """A Maildir, the folders of PerRecipientDir, or one of these."""

    def __init__(self, path: str, folders: list[str], suffix: str = "") -> None:
        super().__init__(path)
        self._folders = folders
        self._suffix = suffix

    def newest_first(self) -> Iterator[Entry]:
        places = self._places()
        # Our names and those of the Maildir specification begin with the second.
        names = sorted(places, key=lambda name: (name[0].isdigit(), name), reverse=True)
        for name in names:
            yield Entry(name, places[name], functools.partial(self._read, places[name]))

    def mark(self) -> Callable[[Entry], bool]:
        old = set(self._places())
        return lambda entry: entry.key not in old

    def clear(self) -> None:
        storage.empty_folders(self._folders)

    def _places(self) -> dict[str, str]:
        """Return the path of each message by its name, which is without Maildir's flags."""
        places = {}
        for folder in self._folders:
            for name in _listed(folder):
                if name[0] != "." and name.endswith(self._suffix) and name != "latest.eml":
                    places[name.partition(":")[0]] = f"{folder}/{name}"
        return places

    def _read(self, path: str) -> Raw:
        try:
            return _read_mail(path)
        except GoneError:  # or a mail client moved it or marked it just now
            name = os.path.basename(path).partition(":")[0]
            return _read_mail(self._places().get(name, path))


class _Growing(Store):
    """A file that grows at its end, read from there."""

    mark_of_entry: bytes
    kind: Callable[[], storage.Appendable]

    @abstractmethod
    def parse(self, data: bytes, is_last: bool) -> Raw:
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

    def only(self, is_new: Callable[[Entry], bool]) -> Iterator[Entry]:
        return itertools.takewhile(is_new, self.newest_first())

    def _spans(self) -> Iterator[tuple[os.stat_result, int, int]]:
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            status = os.fstat(fd)

            def read(start: int, end: int) -> bytes:
                return os.pread(fd, end - start, start)

            for start, end in formats.backwards(read, status.st_size, self.mark_of_entry):
                yield status, start, end

    def _entry(self, status: os.stat_result, start: int, end: int) -> Entry:
        return Entry(
            (status.st_dev, status.st_ino, start),
            f"{self.path}, octet {start}",
            functools.partial(self._read, start, end, end == status.st_size),
        )

    def mark(self) -> Callable[[Entry], bool]:
        for entry in self.newest_first():
            with contextlib.suppress(GoneError, FormatError):
                entry.read()
                return functools.partial(self._is_behind, entry.key, self._anchor(entry))
        return lambda entry: True

    def clear(self) -> None:
        storage.Disk().truncate(self.path, self.kind())

    def _read(self, start: int, end: int, is_last: bool) -> Raw:
        data = self._octets(start, end - start)
        if len(data) < end - start:
            raise GoneError(self.path)
        return self.parse(data, is_last)

    def _octets(self, start: int, length: int) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, start)
        except FileNotFoundError:
            raise GoneError(self.path) from None

    def _anchor(self, entry: Entry) -> bytes:
        return self._octets(entry.key[2], 4096).partition(b"\n\n")[0]

    def _is_behind(self, key: Any, anchor: bytes, entry: Entry) -> bool:
        """Tell whether *entry* follows the one that stood at *key*, if that is still there."""
        if entry.key[:2] != key[:2] or entry.key[2] > key[2]:
            return True
        # The file may have been emptied and have grown again.
        return self._octets(key[2], len(anchor)) != anchor


class _Mbox(_Growing):
    """The file of MboxSink, or an mbox of another program's."""

    mark_of_entry = b"From "
    kind = staticmethod(lambda: storage.Mbox(b"From ", formats.mend_mbox))

    def parse(self, data: bytes, is_last: bool) -> Raw:
        try:
            return Raw(*formats.from_mbox(data))
        except FormatError:
            if is_last and formats.is_torn_mbox(data):
                raise GoneError(self.path) from None
            first, _, content = formats.unquote_from(data).partition(b"\n")
            if not first.startswith(b"From ") or formats.has_block(content):
                raise
        date = parsedate_tz(" ".join(first.decode("ascii", "replace").split()[2:]))
        when = mktime_tz(date) if date else os.path.getmtime(self.path)
        return _foreign(content.removesuffix(b"\n"), self.path, when)


class _JsonLines(_Growing):
    """The file of JsonLines."""

    mark_of_entry = b""
    kind = staticmethod(lambda: storage.Appendable(b"", formats.mend_json_lines))

    def parse(self, data: bytes, is_last: bool) -> Raw:
        try:
            return Raw(*formats.from_json_line(data))
        except FormatError:
            if not data.strip() or (is_last and not data.endswith(b"\n")):
                raise GoneError(self.path) from None
            raise


def find(path: str | os.PathLike[str], recipient: str | None = None) -> Store:
    """Return the store at *path*, whose kind is found from what is there.

    With a *recipient*, the folders of PerRecipientDir come down to one. Raises
    StoreError.
    """
    path = os.path.abspath(path)
    try:
        if os.path.isdir(path):
            return _find_folder(path, recipient)
        if not os.path.isfile(path) and os.path.lexists(path):
            raise StoreError(f"{path} is no regular file and no folder")
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except FileNotFoundError:
        return _Nothing(path)
    if not head:
        return _Nothing(path)
    if head.startswith(b"From ") or b"From ".startswith(head):
        return _Mbox(path)
    if head.startswith(b"{"):
        return _JsonLines(path)
    if _HEADER.match(head):
        return _OneMail(path)
    # Other lines may stand above the first of ours.
    if b'\n{"id": "' in head:
        return _JsonLines(path)
    if b"\nFrom " in head:
        return _Mbox(path)
    raise StoreError(f"{path}, line 1: no mail file, mbox or JSON Lines begins like this")


def state(path: str) -> State:
    """Return what changes whenever a message arrives, cheaply."""
    try:
        status = os.stat(path)
        folders = (
            [e for e in os.scandir(path) if e.is_dir()] if stat.S_ISDIR(status.st_mode) else []
        )
        found = [status, *(os.stat(folder) for folder in folders)]
    except FileNotFoundError:  # as a whole or in part: look again
        return ()
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in found)


def is_fresh(state: State) -> bool:
    """Tell whether more may have come since without a trace: a clock's tick is long."""
    recently = time.time_ns() - 100_000_000
    return any(modified > recently for _, _, _, modified in state)


def _find_folder(path: str, recipient: str | None) -> Store:
    entries = list(os.scandir(path))
    folders = [entry.path for entry in entries if entry.is_dir() and entry.name[0] != "."]
    maildir = [f"{path}/{name}" for name in ("new", "cur") if f"{path}/{name}" in folders]
    # A recipient may be called "new": the latest.eml in its folder tells.
    if maildir and not any(os.path.lexists(f"{folder}/latest.eml") for folder in maildir):
        return _Folder(path, maildir)
    if any(entry.name.endswith(".eml") for entry in entries):
        return _Folder(path, [path], ".eml")
    if entries and not folders:
        raise StoreError(f"{path} holds {entries[0].name!r}, and no Maildir or recipients")
    if recipient is not None:
        folders = [f"{path}/{formats.folder_name(recipient)}"]
    return _Folder(path, folders, ".eml")


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _id(entry: Entry) -> str | None:
    with contextlib.suppress(GoneError, FormatError):
        if envelope := entry.read().envelope:
            return envelope.id
    return None


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
    name = os.path.basename(path)
    second = _ARRIVAL.match(name)
    return _foreign(data, name, float(second[1]) if second else written)


def _foreign(content: bytes, name: str, when: float) -> Raw:
    """Return a message of another program's, with the envelope that its headers give."""
    message = StoredMessage.parse(content)
    sender = message["X-MailFrom"] or message["Return-Path"]
    named = message.get_all("X-RcptTo") or message.get_all("Delivered-To") or []
    if sender is None and not named:
        return Raw(None, content)
    envelope = Envelope(
        id=name,
        received=datetime.fromtimestamp(when, timezone.utc),
        peer=str(message["X-Peer"] or ""),
        helo="",
        protocol="",
        tls=None,
        auth=None,
        mail_from=str(sender or "").strip(" <>"),
        mail_options=[],
        rcpt_tos=[address for _, address in getaddresses(map(str, named)) if address],
        size=len(content),
    )
    return Raw(envelope, content)
