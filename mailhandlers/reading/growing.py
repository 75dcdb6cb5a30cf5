"""A file that grows at its end, read from there."""

from __future__ import annotations

import contextlib
import functools
import os
from abc import abstractmethod
from array import array
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ..formats import FormatError
from ..formats.growing import backwards
from ..mail import Mail
from .held import HeldFile
from .store import Entry, GoneError, Seen, Store, open_regular

_ANCHOR = 1 << 12


class _Seen(NamedTuple):
    """The last entry that was seen: where it begins, and its first octets."""

    device: int
    inode: int
    start: int
    head: bytes


class GrowingStore(Store):
    """A file that grows at its end, read from there."""

    entry_start: bytes

    def __init__(self, path: str, held: HeldFile | None = None) -> None:
        """Read the file at *path*, or the one that is *held* and was there."""
        super().__init__(path)
        self._held = held

    @abstractmethod
    def parse(self, data: bytes, start: int, status: os.stat_result) -> Mail:
        """Return what the octets of an entry, from *start* on, hold.

        *status* is that of the file. Raises GoneError or FormatError.
        """

    def newest_first(self) -> Iterator[Entry]:
        for status, start, end in self._spans():
            yield self._entry(status, start, end)

    def holding(self, octets: bytes) -> Iterator[Entry]:
        # Of 100,000 messages, a search takes 0.3 s, and reading all of them 4 s.
        with contextlib.suppress(GoneError), self._open() as file:
            for status, start, end in self._spans():
                if octets in os.pread(file.fileno(), end - start, start):
                    yield self._entry(status, start, end)

    def oldest_first(self) -> Iterator[Entry]:
        status, starts = self._starts()
        return self._entries(status, starts, status.st_size) if status else iter(())

    def now(self) -> Seen:
        for span in self._spans():
            if (seen := self._seen_if_whole(*span)) is not None:
                return seen
        return None

    def since(self, seen: Seen) -> tuple[Iterator[Entry], Seen]:
        if not (isinstance(seen, _Seen) and self._holds(seen)):
            seen = None
        status, starts = self._starts(seen)
        end = status.st_size if status else 0
        # Only the last entry may be not whole yet.
        while status and starts:
            last = self._seen_if_whole(status, starts[0], end)
            if last is not None:
                return self._entries(status, starts, end), last
            end = starts.pop(0)
        return iter(()), seen

    def _starts(self, seen: _Seen | None = None) -> tuple[os.stat_result | None, array[int]]:
        """Return where the entries behind the one that was *seen* begin, the last first."""
        starts = array("q")  # all that is kept of a large file
        status = None
        for status, start, _ in self._spans():  # noqa: B007
            if seen is not None and start <= seen.start:
                break
            starts.append(start)
        return status, starts

    def _entries(self, status: os.stat_result, starts: array[int], end: int) -> Iterator[Entry]:
        while starts:
            start = starts.pop()
            yield self._entry(status, start, starts[-1] if starts else end)

    def _seen_if_whole(self, status: os.stat_result, start: int, end: int) -> _Seen | None:
        try:
            with contextlib.suppress(FormatError):  # whole, but no message
                self._entry(status, start, end).read()
            head = self._octets(start, min(end, start + _ANCHOR))
        except GoneError:
            return None
        return _Seen(status.st_dev, status.st_ino, start, head)

    def _holds(self, seen: _Seen) -> bool:
        """Tell whether *seen* is still there: the file may be emptied and grow again."""
        try:
            with self._open() as file:
                status = os.fstat(file.fileno())
                head = os.pread(file.fileno(), len(seen.head), seen.start)
        except GoneError:
            return False
        return (status.st_dev, status.st_ino, head) == (seen.device, seen.inode, seen.head)

    def _spans(self) -> Iterator[tuple[os.stat_result, int, int]]:
        with contextlib.suppress(GoneError), self._open() as file:
            fd = file.fileno()
            status = os.fstat(fd)

            def read(start: int, end: int) -> bytes:
                return os.pread(fd, end - start, start)

            for start, end in backwards(read, status.st_size, self.entry_start):
                yield status, start, end

    def _entry(self, status: os.stat_result, start: int, end: int) -> Entry:
        return Entry(
            (status.st_dev, status.st_ino, start),
            f"{self.path}, octet {start}",
            functools.partial(self._read, status, start, end),
        )

    def _read(self, status: os.stat_result, start: int, end: int) -> Mail:
        with self._open() as file:
            data = os.pread(file.fileno(), end - start, start)
            now = os.fstat(file.fileno())
        if len(data) < end - start or not os.path.samestat(now, status):
            raise GoneError(self.path)
        try:
            return self.parse(data, start, status)
        except FormatError:
            if now.st_mtime_ns != status.st_mtime_ns:  # other octets than were found there
                raise GoneError(self.path) from None
            raise

    def _open(self) -> BinaryIO:
        if self._held is not None:
            return self._held.open()
        try:
            return open_regular(self.path)
        except FileNotFoundError:
            raise GoneError(self.path) from None

    def _octets(self, start: int, end: int) -> bytes:
        with self._open() as file:
            return os.pread(file.fileno(), end - start, start)
