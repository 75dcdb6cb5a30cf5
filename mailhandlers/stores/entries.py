"""A file of entries that grows at its end: what counts as one, and how they are read.

It is read from its end, without a lock, so it may change while it is read. What counts as an
entry:

- One that is as it was received, by the size and the checksum in its envelope, counts
  whenever it is seen.
- Any other (altered, another program's, or a part of one) counts only if the same octets are
  found a second time, from where an entry begins to where it ends, after all who had a lock
  of the file gave it back. Else it isn't there yet.
- What our server appends, or was appending when it was killed, isn't there unless it is
  whole. Where that append began, :meth:`EntriesStore.append_start` may tell.

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
from typing import BinaryIO, ClassVar, NamedTuple
from weakref import finalize

from ..block import FormatError, without_marks
from ..disk import system
from ..disk.files import Disk
from ..mail import Mail, is_id, sha256
from .memory import UNSURE, gist_of
from .store import Entry, GoneError, Seen, Store, open_regular

LONGEST_WAIT = 2.0
"""How many seconds one look waits for other programs that change the file, at most."""

_ANCHOR = 1 << 12
_BEFORE = len(b"\n\r\n")  # an entry: a blank line
MOST_REWRITES = 10
"""How often one look begins again where the file is written anew meanwhile."""
# To read so many takes 0.4 s.
_MOST_COMPARED = 10_000


class HeldFile:
    """The file that is at *path* now, open as long as this object lives.

    What was appended before it was renamed can still be read. Raises OSError, and FormatError
    where it is no regular file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open_regular(path)
        finalize(self, self._file.close)

    def is_in_place(self) -> bool:
        """Tell whether the file is still at its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def open(self) -> BinaryIO:
        """Return the file, opened once more."""
        return open(os.dup(self.fileno()), "rb", buffering=0)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._file.fileno()


class EntryStart(NamedTuple):
    """How an entry begins: a line of which this much is to be seen."""

    mark: bytes
    """What the line begins with."""
    is_one: Callable[[bytes, int], bool] = lambda data, at: True
    """Tell whether the line that has the mark at some place of *data* begins an entry.

    *data* ends :attr:`reach` octets behind that place, or where the file does.
    """
    reach: int = 1
    """How many octets from its beginning are needed to tell, at most."""

    def places(self, data: bytes, end: int) -> Iterator[int]:
        """Yield where in *data* entries begin, the last first, but none behind *end*."""
        needle = b"\n" + self.mark
        at = end
        while (at := data.rfind(needle, 0, at + len(self.mark))) >= 0:
            if self.is_one(data, at + 1):
                yield at + 1


class Span(NamedTuple):
    """Where an entry is: in which file, and what its status was."""

    file: HeldFile
    status: os.stat_result
    start: int
    end: int


class Reading:
    """Reads an entry, and remembers which octets it had."""

    def __init__(self, store: EntriesStore, span: Span) -> None:
        self._store = store
        self.span = span
        self.seen: int | None = None

    def __call__(self) -> Mail:
        data = self._store._octets(self.span)
        self.seen = hash(data)
        return self._store._parsed(data, self.span)


class Last(Seen):
    """The last entry that was seen: where it is, its first octets, and its name.

    By its name it is found again where the file was written anew, or another took its place.
    """

    def __init__(self, span: Span, head: bytes, name: str) -> None:
        self.span = span
        self.head = head
        self.name = name

    def is_in(self, file: HeldFile) -> bool:
        """Tell whether the entry is where it was, in *file*."""
        start = self.span.start
        head = octets_in(file.fileno(), start, start + len(self.head))
        return os.path.samestat(os.fstat(file.fileno()), self.span.status) and head == self.head


class EntriesStore(Store):
    """The entries of a file, read from its end."""

    grows: ClassVar[bool] = True
    entry_start: ClassVar[EntryStart]
    """How an entry begins."""

    def __init__(
        self, path: str, disk: Disk | None = None, *, held: HeldFile | None = None
    ) -> None:
        """Read the file at *path*, or the one that is *held* and was there."""
        super().__init__(path, disk)
        self._held = held
        self._patience = LONGEST_WAIT
        self._is_rewritten = False  # since the spans were found that are read now

    # What there is to know of a format.

    @abstractmethod
    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        """Return what an entry of these octets holds. Raises FormatError and GoneError.

        *status* is that of the file.
        """

    @abstractmethod
    def is_torn(self, data: bytes, before: int | None) -> bool:
        """Tell whether *data*, the last entry, is the rest of an append that nobody finished.

        *before* is how much of it stood there when an append of ours began that hasn't ended;
        None where there is no such append, or nothing tells.
        """

    def append_start(self, status: os.stat_result) -> int | None:
        """Return where in a file of this *status* an append of ours began that hasn't ended.

        None where there is no such append, or where nothing tells.
        """
        return None

    def gist(self, fd: int, start: int, end: int) -> str | None:
        """Return the gist of an entry of the file, open as *fd*, where its beginning tells it.

        This is :func:`.mail.gist_in` of one that is *named*.
        """
        return None

    def is_changing(self, fd: int) -> bool:
        """Tell whether another program has a lock of the file, open as *fd*, and changes it."""
        return False

    # Reading.

    def newest_first(self) -> Iterator[Entry]:
        return map(self.entry, self.steady(self._spans))

    def oldest_first(self) -> Iterator[Entry]:
        return map(self.entry, self.steady(lambda: self._in_order(*self._starts())))

    def holding(self, octets: bytes) -> Iterator[Entry]:
        # Of 100,000 messages, a search takes 0.3 s, and reading all of them 4 s.
        for span in self._spans():
            if octets in octets_in(span.file.fileno(), span.start, span.end):
                yield self.entry(span)

    def glance(self, span: Span) -> str:
        """Return the gist of the entry at *span*."""
        if found := self.gist(span.file.fileno(), span.start, span.end):
            return found
        try:
            return gist_of(Reading(self, span)().envelope, named=True)
        except (GoneError, FormatError):
            return UNSURE

    def now(self) -> Last | None:
        for span in self.steady(self._spans):
            if (seen := self._last_if_whole(span)) is not None:
                return seen
        return None

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen | None]:
        try:
            file = self.hold()
        except GoneError:
            return iter(()), None
        known = self._found_again(seen, file) if isinstance(seen, Last) else None
        last, starts = self.whole_behind(file, known)
        if last is not None:
            return map(self.entry, self._in_order(last.span, starts)), last
        return iter(()), seen if self._is_rewritten else known

    def whole_behind(
        self, file: HeldFile, known: Last | None
    ) -> tuple[Last | None, array[int]]:
        """Return the last whole entry behind the one that is *known*, or None.

        Return also where those up to it begin, the last first.
        """
        self._is_rewritten = False
        span, starts = self._starts(file, known)
        # Only the last entry may be not whole yet.
        while span and starts and not self._is_rewritten:
            span = span._replace(start=starts[0])
            last = self._last_if_whole(span)
            if last is not None:
                return last, starts
            span = span._replace(end=starts.pop(0))
        return None, starts

    def steady(self, spans: Callable[[], Iterator[Span]]) -> Iterator[Span]:
        """Yield all *spans*; where the file is written anew meanwhile, go on in the new one."""
        number = 0
        for _ in range(MOST_REWRITES):
            self._is_rewritten = False
            for span in itertools.islice(spans(), number, None):
                yield span
                if self._is_rewritten:  # this one comes again
                    break
                number += 1
            else:
                return

    def _starts(
        self, file: HeldFile | None = None, seen: Last | None = None
    ) -> tuple[Span | None, array[int]]:
        """Return the last entry, and where those behind *seen* begin, the last first."""
        starts = array("q")  # all that is kept of a large file
        last = None
        for span in self._spans(file):
            if seen is not None and span.start <= seen.span.start:
                break
            last = last or span
            starts.append(span.start)
        return last, starts

    def _in_order(self, last: Span | None, starts: array[int]) -> Iterator[Span]:
        """Yield the spans that begin at *starts*, the last of which comes first."""
        while last and starts:
            start = starts.pop()
            yield last._replace(start=start, end=starts[-1] if starts else last.end)

    def _last_if_whole(self, span: Span) -> Last | None:
        name = ""
        try:
            with contextlib.suppress(FormatError):  # whole, but no message
                name = _name(Reading(self, span)())
            head = self._octets(span._replace(end=min(span.end, span.start + _ANCHOR)))
        except GoneError:
            return None
        return Last(span, head, name)

    def _found_again(self, seen: Last, file: HeldFile) -> Last | None:
        """Return where the entry is that was *seen*, or the one before it; None is nowhere.

        The file may be emptied and grow again; a mail client writes all of it anew, to mark
        a message or to remove some, and so do we.
        """
        if seen.is_in(file):
            return seen
        if not os.path.samestat(os.fstat(file.fileno()), seen.span.status):
            before = (
                last
                for last in self._lasts(seen.span.file)
                if last.span.start <= seen.span.start
            )
            last, is_sure = _last_common(self._lasts(file), before)
            if is_sure:
                return last
        for last in self._lasts(file):
            if _is_before(last.name, seen.name):
                return last
        return None

    def _lasts(self, file: HeldFile) -> Iterator[Last]:
        """Yield each message of the *file*, the last first."""
        for span in self.steady(lambda: self._spans(file)):
            last = self._last_if_whole(span)
            if last is not None and last.name:
                yield last

    def _spans(self, file: HeldFile | None = None) -> Iterator[Span]:
        """Yield where the entries are, the last first: in *file*, or the one at the path."""
        with contextlib.suppress(GoneError):
            file = self.hold(file)
            read = functools.partial(octets_in, file.fileno())
            status = os.fstat(file.fileno())
            for start, end in backwards(read, status.st_size, self.entry_start):
                yield Span(file, status, start, end)

    def entry(self, span: Span) -> Entry:
        """Return the entry at *span*."""
        return Entry(
            (span.status.st_dev, span.status.st_ino, span.start),
            self.path,
            Reading(self, span),
            span.start,
        )

    def _parsed(self, data: bytes, span: Span) -> Mail:
        """Return what *data* holds, which was read at *span*.

        Raises FormatError, and GoneError where it is no entry, or none yet.
        """
        try:
            mail = self.parse(data, span.status)
        except FormatError:
            self._check_again(data, span)
            raise
        if mail.is_altered or mail.envelope.sha256 is None:
            self._check_again(data, span)
        return mail

    def _check_again(self, data: bytes, span: Span) -> None:
        """Raise GoneError unless *data*, which isn't as received, is an entry all the same."""
        fd = self.hold(span.file).fileno()
        # This is asked before the octets are read again: an append that was under way when
        # they were read first has either not ended by now, or has changed them.
        began = self.append_start(os.fstat(fd))
        again, start, end = self._around(fd, span)
        earlier = None if began is None else began - span.start
        is_unfinished = len(again) <= end or (earlier is not None and earlier <= 0)
        if is_unfinished and self.is_torn(data, earlier):
            raise GoneError(self.path)
        if again[start:end] != data or not self._is_one(again, start, end):
            self._is_rewritten = True
            raise GoneError(self.path)

    def _around(self, fd: int, span: Span) -> tuple[bytes, int, int]:
        """Return *span* of the file open as *fd*, with what tells where an entry begins.

        Return where in that the span begins and ends, too.
        """
        start = min(span.start, _BEFORE)
        data = octets_in(fd, span.start - start, span.end + self._behind)
        return data, start, start + span.end - span.start

    def _is_one(self, data: bytes, start: int, end: int) -> bool:
        """Tell whether an entry of *data* begins at *start*, ends at *end*, and is only one.

        At the beginning of the file, anything may stand above the first entry.
        """
        places = self.entry_start.places(data, end)
        found = {*itertools.takewhile(lambda place: place >= start, places)}
        return (
            len(data) >= end
            and (not start or start in found)
            and self._is_over(data, end)
            and found <= {start, end}
        )

    def _is_over(self, data: bytes, end: int) -> bool:
        """Tell whether an entry of *data* is over at *end*: by the next one, or by the end."""
        rest, mark = data[end:], self.entry_start.mark
        # The next append may have begun: of its mark, only a part may be there.
        is_behind_a_line = data[end - 1 : end] == b"\n"
        is_begun = len(rest) < len(mark) and mark.startswith(rest) and is_behind_a_line
        return not rest or is_begun or next(self.entry_start.places(data, end), None) == end

    def is_over(self, file: HeldFile, end: int) -> bool:
        """Tell whether the entry that ended *file* at *end* is over there, or went on."""
        before = min(end, _BEFORE)
        data = octets_in(file.fileno(), end - before, end + self._behind)
        return self._is_over(data, before)

    @property
    def _behind(self) -> int:
        """How many octets behind an entry tell whether it is over."""
        return max(self.entry_start.reach, len(self.entry_start.mark))

    def hold(self, file: HeldFile | None = None) -> HeldFile:
        """Return *file*, or the one at the path, when no other program changes it any more.

        Raises GoneError.
        """
        while True:
            try:
                held = file or self._held or HeldFile(self.path)
            except FileNotFoundError:
                raise GoneError(self.path) from None
            if self._patience <= 0 or not self.is_changing(held.fileno()):
                return held
            pause = 0.002 * (1 + random.random())
            self._patience -= pause
            time.sleep(pause)

    def _octets(self, span: Span) -> bytes:
        """Return the octets of *span*. Raises GoneError."""
        return octets_in(self.hold(span.file).fileno(), span.start, span.end)


def backwards(
    read: Callable[[int, int], bytes], size: int, begins: EntryStart
) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each entry of a file of *size* octets, last first.

    ``read(start, end)`` returns octets of the file; it is asked for blocks from the end, so
    that the last entry of a large file costs no more than that of a small one.
    """
    end = high = size
    block = 1 << 16
    behind = max(begins.reach, len(begins.mark))
    while high > 0:
        low = max(0, high - block)
        data = read(low, min(size, high + behind))
        for place in begins.places(data, high - low):
            if low + place < end:
                yield low + place, end
                end = low + place
        high = low
        block = min(block * 2, 1 << 20)
    if end > 0:
        yield 0, end


def _last_common(these: Iterator[Last], those: Iterator[Last]) -> tuple[Last | None, bool]:
    """Return the last of *these* that is among *those*, and whether that is for sure.

    Both come last first, and what is in both is in the same order. So the first pair that is
    found is that of the last, and it is as near as what was added and removed is few.
    """
    here: dict[str, Last] = {}
    there: set[str] = set()
    for number, (this, that) in enumerate(itertools.zip_longest(these, those)):
        if number == _MOST_COMPARED:
            return None, False
        if this is not None:
            here.setdefault(this.name, this)
        if that is not None:
            there.add(that.name)
            if that.name in here:
                return here[that.name], True
        if this is not None and this.name in there:
            return this, True
    return None, True


def _name(mail: Mail) -> str:
    """Return what tells *mail* from others, whatever a mail client notes in its headers."""
    if mail.envelope.protocol:
        return mail.envelope.id
    return sha256(without_marks(mail.content))


def _is_before(name: str, seen: str) -> bool:
    """Tell whether a message was there when another was *seen*, by the names of both."""
    return name == seen or (is_id(name) and is_id(seen) and name < seen)


def octets_in(fd: int, start: int, end: int) -> bytes:
    """Return the octets of a file from *start* up to *end*."""
    return system.pread(fd, end - start, start)
