"""A file that grows at its end, read from there.

A reader takes no lock, so the file may change while it is read. What counts as an entry:

- One that is as it was received, by the size and the checksum in its envelope, counts
  whenever it is seen.
- Any other (altered, another program's, or a part of one) counts only if the same octets are
  found a second time, from where an entry begins to where it ends, after all who had a lock
  of the file gave it back. Else it isn't there yet.
- What our server appends, or was appending when it was killed, isn't there unless it is
  whole: the server's dotlock tells where that append began.

A lock counts as long as the file goes on to change, and for :data:`LONGEST_WAIT` in one look:
a lock that somebody left behind hides no message.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import time
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from ..block import FormatError
from ..formats.growing import backwards, begins, ends
from ..mail import Mail
from .held import HeldFile
from .store import Entry, GoneError, Seen, Store, open_regular

LONGEST_WAIT = 2.0
"""How many seconds one look waits for other programs that change the file, at most."""

_ANCHOR = 1 << 12
_MOST_REWRITES = 10  # of the file, in one look


class _Span(NamedTuple):
    """Where an entry is, in a file of this status."""

    status: os.stat_result
    start: int
    end: int


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
        self._patience = LONGEST_WAIT
        self._is_rewritten = False  # since the spans were found that are read now

    @abstractmethod
    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        """Return what an entry of these octets holds. Raises FormatError.

        *status* is that of the file.
        """

    @abstractmethod
    def is_torn(self, data: bytes, before: int | None) -> bool:
        """Tell whether *data*, the last entry, is the rest of an append that nobody finished.

        *before* is how much of it an append of ours found there that is unfinished; None
        where there is no such append, or nothing tells.
        """

    def begun(self, status: os.stat_result) -> int | None:
        """Return how long the file was before an append of ours that hasn't ended, or None."""
        return None

    def is_changing(self, fd: int) -> bool:
        """Tell whether another program has a lock of the file, open as *fd*, and changes it."""
        return False

    def newest_first(self) -> Iterator[Entry]:
        return map(self._entry, self._steady(self._spans))

    def oldest_first(self) -> Iterator[Entry]:
        return map(self._entry, self._steady(lambda: self._in_order(*self._starts())))

    def holding(self, octets: bytes) -> Iterator[Entry]:
        # Of 100,000 messages, a search takes 0.3 s, and reading all of them 4 s.
        with contextlib.suppress(GoneError), self._open() as file:
            for span in self._spans():
                if octets in os.pread(file.fileno(), span.end - span.start, span.start):
                    yield self._entry(span)

    def now(self) -> Seen:
        for span in self._steady(self._spans):
            if (seen := self._seen_if_whole(span)) is not None:
                return seen
        return None

    def since(self, seen: Seen) -> tuple[Iterator[Entry], Seen]:
        known = seen if isinstance(seen, _Seen) and self._holds(seen) else None
        self._is_rewritten = False
        status, starts = self._starts(known)
        end = status.st_size if status else 0
        # Only the last entry may be not whole yet.
        while status and starts and not self._is_rewritten:
            last = self._seen_if_whole(_Span(status, starts[0], end))
            if last is not None:
                return map(self._entry, self._in_order(status, starts, end)), last
            end = starts.pop(0)
        return iter(()), seen if self._is_rewritten else known

    def _steady(self, spans: Callable[[], Iterator[_Span]]) -> Iterator[_Span]:
        """Yield all *spans*; where the file is written anew meanwhile, go on in the new one."""
        number = 0
        for _ in range(_MOST_REWRITES):
            self._is_rewritten = False
            for span in itertools.islice(spans(), number, None):
                yield span
                if self._is_rewritten:  # this one comes again
                    break
                number += 1
            else:
                return

    def _starts(self, seen: _Seen | None = None) -> tuple[os.stat_result | None, array[int]]:
        """Return where the entries behind the one that was *seen* begin, the last first."""
        starts = array("q")  # all that is kept of a large file
        status = None
        for status, start, _ in self._spans():  # noqa: B007
            if seen is not None and start <= seen.start:
                break
            starts.append(start)
        return status, starts

    def _in_order(
        self, status: os.stat_result | None, starts: array[int], end: int | None = None
    ) -> Iterator[_Span]:
        """Yield the spans that begin at *starts*, where the last one comes first."""
        if status is None:
            return
        while starts:
            start = starts.pop()
            yield _Span(status, start, starts[-1] if starts else end or status.st_size)

    def _seen_if_whole(self, span: _Span) -> _Seen | None:
        try:
            with contextlib.suppress(FormatError):  # whole, but no message
                self._read(span)
            head = self._octets(span.start, min(span.end, span.start + _ANCHOR))
        except GoneError:
            return None
        return _Seen(span.status.st_dev, span.status.st_ino, span.start, head)

    def _holds(self, seen: _Seen) -> bool:
        """Tell whether *seen* is still there: the file may be emptied and grow again."""
        try:
            with self._open() as file:
                status = os.fstat(file.fileno())
                head = os.pread(file.fileno(), len(seen.head), seen.start)
        except GoneError:
            return False
        return (status.st_dev, status.st_ino, head) == (seen.device, seen.inode, seen.head)

    def _spans(self) -> Iterator[_Span]:
        """Yield where the entries are, the last first."""
        with contextlib.suppress(GoneError), self._open() as file:
            fd = file.fileno()
            status = os.fstat(fd)

            def read(start: int, end: int) -> bytes:
                return os.pread(fd, end - start, start)

            for start, end in backwards(read, status.st_size, self.entry_start):
                yield _Span(status, start, end)

    def _entry(self, span: _Span) -> Entry:
        return Entry(
            (span.status.st_dev, span.status.st_ino, span.start),
            f"{self.path}, octet {span.start}",
            functools.partial(self._read, span),
        )

    def _read(self, span: _Span) -> Mail:
        data = self._octets(span.start, span.end)
        try:
            mail = self.parse(data, span.status)
        except FormatError:
            self._check(data, span)
            raise
        if mail.is_altered or mail.envelope.sha256 is None:
            self._check(data, span)
        return mail

    def _check(self, data: bytes, span: _Span) -> None:
        """Raise GoneError unless *data*, which isn't as received, is an entry all the same."""
        mark = self.entry_start
        with self._open() as file:
            now = os.fstat(file.fileno())
            # This is asked before the octets are read again: an append that was under way when
            # they were read first has either not ended by now, or has changed them.
            begun = self.begun(now)
            start = max(0, span.start - 1)
            again = os.pread(file.fileno(), span.end - start + max(1, len(mark)), start)
        before, again = again[: span.start - start], again[span.start - start :]
        rest = again[len(data) :]
        earlier = None if begun is None else begun - span.start
        is_unfinished = not rest or (earlier is not None and earlier <= 0)
        if is_unfinished and self.is_torn(data, earlier):
            raise GoneError(self.path)
        if not (
            os.path.samestat(now, span.status)
            and len(data) == span.end - span.start
            and again.startswith(data)
            and begins(before, data, mark)
            and ends(data, rest, mark)
        ):
            self._is_rewritten = True
            raise GoneError(self.path)

    def _open(self) -> BinaryIO:
        """Open the file, when no other program changes it any more. Raises GoneError."""
        while True:
            try:
                file = self._held.open() if self._held else open_regular(self.path)
            except FileNotFoundError:
                raise GoneError(self.path) from None
            if self._patience <= 0 or not self.is_changing(file.fileno()):
                return file
            file.close()
            pause = 0.002 * (1 + random.random())
            self._patience -= pause
            time.sleep(pause)

    def _octets(self, start: int, end: int) -> bytes:
        with self._open() as file:
            return os.pread(file.fileno(), end - start, start)
