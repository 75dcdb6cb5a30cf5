"""A file that grows at its end, read from there."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO

from ..formats import FormatError
from ..formats.growing import backwards
from ..mail import Mail
from ..writing.appending import GrowingFile
from .store import Entry, GoneError, IsNew, Store, open_regular

_ANCHOR = 1 << 12

_Key = tuple[int, int, int]  # device, inode, offset


class GrowingStore(Store):
    """A file that grows at its end, read from there."""

    entry_start: bytes
    growing_file: Callable[[str], GrowingFile]

    @abstractmethod
    def parse(self, data: bytes, start: int, status: os.stat_result) -> Mail:
        """Return what the octets of an entry, from *start* on, hold.

        *status* is that of the file. Raises GoneError or FormatError.
        """

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
        self.growing_file(self.path).truncate()

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
        try:
            return open_regular(self.path)
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
