"""What the stores have in common that are one file, which grows at its end.

It is appended to under a lock, whole entries or nothing. What a crash may leave is the
beginning of an append, which the next one takes away, and a stale lock.

Messages are removed by a new file without them that takes its place, under the same lock: who
reads the old one goes on in it, and who waited for the lock opens the new one.

It is read from its end, without a lock, so it may change while it is read. What counts as an
entry:

- One that is as it was received, by the size and the checksum in its envelope, counts
  whenever it is seen.
- Any other (altered, another program's, or a part of one) counts only if the same octets are
  found a second time, from where an entry begins to where it ends, after all who had a lock
  of the file gave it back. Else it isn't there yet.
- What our server appends, or was appending when it was killed, isn't there unless it is
  whole. Where that append began, :meth:`GrowingStore.append_start` may tell.

A lock counts as long as the file goes on to change, and for :data:`LONGEST_WAIT` in one look:
a lock that somebody left behind hides no message.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import random
import time
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, ClassVar, NamedTuple
from weakref import finalize

from ..block import FormatError, without_marks
from ..disk import locks, log, system
from ..disk.files import Disk, Undo, close_all, sweep, write_all
from ..disk.links import open_own
from ..mail import Mail, is_id, sha256
from .memory import UNSURE, Notes, Status, gist_of, sure
from .store import (
    ANY,
    HEAD,
    Entry,
    GoneError,
    Memory,
    Seen,
    Sought,
    Store,
    check_file,
    open_regular,
)

LONGEST_WAIT = 2.0
"""How many seconds one look waits for other programs that change the file, at most."""

_TORN = ".torn"  # no shorter than what else stands beside, a dotlock
_ANCHOR = 1 << 12
GLANCE = 1 << 12
"""How many octets of an entry are read to find its gist."""
_BLOCK = 1 << 12
_BEFORE = len(b"\n\r\n")  # an entry: a blank line
_MOST_REWRITES = 10  # of the file, in one look
_PIECE = 1 << 18
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


class Mended(NamedTuple):
    """What to do about the last entry of a file before the next is appended."""

    keep: int
    """How many of its octets stay."""
    closing: bytes = b""
    """What ends it, if it stays."""
    is_sure: bool = True
    """Whether what doesn't stay is surely the rest of an append that never was finished."""


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


class _End(NamedTuple):
    """A file, and where it ends or is to end."""

    device: int
    inode: int
    size: int


class _Span(NamedTuple):
    """Where an entry is: in which file, and what its status was."""

    file: HeldFile
    status: os.stat_result
    start: int
    end: int


class _Reading:
    """Reads an entry, and remembers which octets it had."""

    def __init__(self, store: GrowingStore, span: _Span) -> None:
        self._store = store
        self.span = span
        self.seen: int | None = None

    def __call__(self) -> Mail:
        data = self._store._octets(self.span)
        self.seen = hash(data)
        return self._store._parsed(data, self.span)


class _Last(Seen):
    """The last entry that was seen: where it is, its first octets, and its name.

    By its name it is found again where the file was written anew, or another took its place.
    """

    def __init__(self, span: _Span, head: bytes, name: str) -> None:
        self.span = span
        self.head = head
        self.name = name

    def is_in(self, file: HeldFile) -> bool:
        """Tell whether the entry is where it was, in *file*."""
        start = self.span.start
        head = octets_in(file.fileno(), start, start + len(self.head))
        return os.path.samestat(os.fstat(file.fileno()), self.span.status) and head == self.head


class GrowingStore(Store):
    """A file that grows at its end."""

    grows: ClassVar[bool] = True
    instead_of_keep: ClassVar[str] = "rename this file now and then, as logrotate does"
    what: ClassVar[str]
    """What the file is, for people."""
    entry_start: ClassVar[EntryStart]
    """How an entry begins."""

    def __init__(
        self, path: str, disk: Disk | None = None, *, held: HeldFile | None = None
    ) -> None:
        """Read the file at *path*, or the one that is *held* and was there."""
        super().__init__(path, disk)
        self._held = held
        self._lock = self.make_lock()
        self._patience = LONGEST_WAIT
        self._is_rewritten = False  # since the spans were found that are read now
        self._whole: _End | None = None  # where it is known to be whole
        # Where what was refused begins, as long as it can't be taken back.
        self._refused: _End | None = None

    # What there is to know of a format.

    @abstractmethod
    def encode(self, mails: Iterable[Mail]) -> Iterable[bytes]:
        """Return the entries that stand for *mails*, in pieces."""

    @abstractmethod
    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        """Return what an entry of these octets holds. Raises FormatError and GoneError.

        *status* is that of the file.
        """

    @abstractmethod
    def is_one(self, head: bytes) -> bool:
        """Tell whether a file that begins with *head* is of this format."""

    @abstractmethod
    def is_torn(self, data: bytes, before: int | None) -> bool:
        """Tell whether *data*, the last entry, is the rest of an append that nobody finished.

        *before* is how much of it stood there when an append of ours began that hasn't ended;
        None where there is no such append, or nothing tells.
        """

    @abstractmethod
    def mend(self, data: bytes, before: int | None) -> Mended:
        """Return what to do about *data*, the last entry; *before* as in :meth:`is_torn`."""

    def make_lock(self) -> locks.FileLock:
        """Return the lock under which the file changes."""
        return locks.FileLock()

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

    # Writing.

    def check(self) -> None:
        check_file(self.path, self.what, self._may_become_one, beside=_TORN)

    def _may_become_one(self, head: bytes, status: os.stat_result) -> bool:
        # A power cut may leave the length of the first append and not its octets.
        is_empty = len(head) < HEAD and not head.strip(b"\0")
        return is_empty or self.append_start(status) == 0 or self.is_one(head)

    def prepare(self) -> None:
        sweep(os.path.dirname(os.path.realpath(self.path)))
        fd, created = self._open_locked(locks.deadline())
        try:
            self._mend_end(fd)
            self._disk.sync_name(self.path, os.fstat(fd), is_new=created)
        finally:
            self._lock.release(fd, self.path)

    def add(self, mails: Iterable[Mail], patience: float = locks.LOCK_TIMEOUT) -> None:
        pieces = self.encode(mails)
        fd, created = self._open_locked(locks.deadline(patience))
        try:
            end = _end(fd)
            if not patience and end.size and end != self._whole:
                # Another program's last entry may be a gibibyte, which takes long to mend.
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), self.path)
            start = self._mend_end(fd)
            status = os.fstat(fd)
            with Undo() as undo:
                undo.add(self._cut, fd, start)
                if created and not start:  # else somebody made it in the same moment
                    undo.add(system.unlink, self.path)
                write_all(fd, pieces)
                if self._disk.sync:
                    system.fsync(fd)
                else:  # a network disk says at a close what it had no room for
                    os.close(os.dup(fd))
                self._disk.sync_name(self.path, status, is_new=created)
            self._whole = None
            with suppress(OSError):  # it is stored: no error refuses it any more
                self._whole = _end(fd)
        finally:
            self._lock.release(fd, self.path)

    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        for _ in range(_MOST_REWRITES):
            readings = [entry.read for entry in wanted()]
            if not readings or self._has_removed(readings):
                return
        raise OSError(errno.EAGAIN, "other programs write it anew each time", self.path)

    def _has_removed(self, readings: Iterable[Callable[[], Mail]]) -> bool:
        """Remove the entries of these *readings*; False where they aren't there any more."""
        fd, _ = self._open_locked(locks.deadline())
        new: list[int] = []

        def is_to_replace(made: int) -> bool:
            new.append(os.dup(made))  # locked until all is done
            self._lock.extend(made, self.path)
            return _is_at(fd, self.path)  # else it was rotated meanwhile

        try:
            self._mend_end(fd)
            gaps = []
            for reading in readings:
                assert isinstance(reading, _Reading)
                if not self._is_unchanged(fd, reading):
                    return False
                gaps.append(reading.span)
            return self._disk.rewrite(self.path, fd, _without(fd, gaps), is_to_replace)
        finally:
            self._lock.release(fd, self.path)
            with suppress(OSError):
                close_all(new)

    def _is_unchanged(self, fd: int, reading: _Reading) -> bool:
        """Tell whether the entry that was read is where it was, in the file open as *fd*."""
        span = reading.span
        data, start, end = self._around(fd, span)
        is_here = os.path.samestat(os.fstat(fd), span.status)
        is_same = hash(data[start:end]) == reading.seen
        return is_here and is_same and self._is_one(data, start, end)

    def clear(self) -> None:
        if os.path.exists(self.path):
            fd, _ = self._open_locked(locks.deadline())
            try:
                os.ftruncate(fd, 0)
            finally:
                self._lock.release(fd, self.path)

    def _mend_end(self, fd: int) -> int:
        """Cut off, set aside or close what is at the end; return where to append."""
        end = _end(fd)
        if end == self._whole:
            return end.size
        if (refused := self._refused) and refused[:2] == end[:2]:
            if refused.size < end.size:
                self._cut(fd, refused.size)
            self._refused = None
        status = os.fstat(fd)
        size = status.st_size
        began = self.append_start(status)
        if not self._may_become_one(system.pread(fd, HEAD, 0), status):
            message = f"it holds something else than {self.what}"
            raise OSError(errno.EEXIST, message, self.path)
        for start, stop in backwards(functools.partial(octets_in, fd), size, self.entry_start):
            entry = octets_in(fd, start, stop)
            mended = self.mend(entry, None if began is None else began - start)
            if not mended.is_sure:
                self._set_aside(entry)
            if start + mended.keep < size:
                os.ftruncate(fd, start + mended.keep)
            if mended.keep or not start:
                write_all(fd, [mended.closing])
                return start + mended.keep + len(mended.closing)
        return 0

    def _set_aside(self, entry: bytes) -> None:
        """Keep *entry* in a file beside, since nobody knows for sure what it is."""
        aside = self.path + _TORN
        fd = open_own(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT, self._disk.mode)
        try:
            self._disk.permit(fd)
            write_all(fd, [entry])
            if self._disk.sync:
                system.fsync(fd)
                self._disk.sync_name(aside, os.fstat(fd))
        finally:
            os.close(fd)
        log().warning(
            "%s: the last entry is not whole; its %d octets are in %s now",
            *(self.path, len(entry), aside),
        )

    def _cut(self, fd: int, size: int) -> None:
        """Take back what stands behind *size*; where that fails, the next append does it."""
        end = _end(fd)
        self._refused = end._replace(size=size)
        try:
            os.ftruncate(fd, size)
        except OSError:
            # Where each change is a copy, as on btrfs, a part of a block can't be cut off
            # at a quota before whole blocks are given back.
            os.ftruncate(fd, min(end.size, -(-size // _BLOCK) * _BLOCK))
            os.ftruncate(fd, size)
        self._refused = None

    def _open_locked(self, until: float) -> tuple[int, bool]:
        """Open the file and lock it; return it, and whether it had to be made."""
        path = self.path
        flags = os.O_RDWR | os.O_APPEND
        while True:
            created = False
            try:
                fd = open_own(path, flags)
            except FileNotFoundError:
                self._lock.wait_to_make(path, until)
                fd = open_own(path, flags | os.O_CREAT, self._disk.mode)
                created = True
            try:
                if created:
                    self._disk.permit(fd)
                self._lock.acquire(fd, path, until)
            except BaseException as error:
                # We have its first lock, and so nobody else has appended to it, unless the
                # error is that we didn't get one.
                if created and not isinstance(error, locks.LockTimeoutError):
                    system.unlink(path)
                os.close(fd)
                raise
            is_there = False
            try:
                is_there = _is_at(fd, path)
            finally:
                if not is_there:  # an error, or deleted or rotated while we waited
                    self._lock.release(fd, path)
            if is_there:
                return fd, created
            locks.check(until, path, "another file is there each time")

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

    def memory(self) -> Memory:
        return GrowingMemory(self)

    def glance(self, span: _Span) -> str:
        """Return the gist of the entry at *span*."""
        if found := self.gist(span.file.fileno(), span.start, span.end):
            return found
        try:
            return gist_of(_Reading(self, span)().envelope, named=True)
        except (GoneError, FormatError):
            return UNSURE

    def now(self) -> _Last | None:
        for span in self.steady(self._spans):
            if (seen := self._last_if_whole(span)) is not None:
                return seen
        return None

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen | None]:
        try:
            file = self.hold()
        except GoneError:
            return iter(()), None
        known = self._found_again(seen, file) if isinstance(seen, _Last) else None
        self._is_rewritten = False
        last, starts = self.whole_behind(file, known)
        if last is not None:
            return map(self.entry, self._in_order(last.span, starts)), last
        return iter(()), seen if self._is_rewritten else known

    def whole_behind(
        self, file: HeldFile, known: _Last | None
    ) -> tuple[_Last | None, array[int]]:
        """Return the last whole entry behind the one that is *known*, or None.

        Return also where those up to it begin, the last first.
        """
        span, starts = self._starts(file, known)
        # Only the last entry may be not whole yet.
        while span and starts and not self._is_rewritten:
            span = span._replace(start=starts[0])
            last = self._last_if_whole(span)
            if last is not None:
                return last, starts
            span = span._replace(end=starts.pop(0))
        return None, starts

    def steady(self, spans: Callable[[], Iterator[_Span]]) -> Iterator[_Span]:
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

    def _starts(
        self, file: HeldFile | None = None, seen: _Last | None = None
    ) -> tuple[_Span | None, array[int]]:
        """Return the last entry, and where those behind *seen* begin, the last first."""
        starts = array("q")  # all that is kept of a large file
        last = None
        for span in self._spans(file):
            if seen is not None and span.start <= seen.span.start:
                break
            last = last or span
            starts.append(span.start)
        return last, starts

    def _in_order(self, last: _Span | None, starts: array[int]) -> Iterator[_Span]:
        """Yield the spans that begin at *starts*, the last of which comes first."""
        while last and starts:
            start = starts.pop()
            yield last._replace(start=start, end=starts[-1] if starts else last.end)

    def _last_if_whole(self, span: _Span) -> _Last | None:
        name = ""
        try:
            with contextlib.suppress(FormatError):  # whole, but no message
                name = _name(_Reading(self, span)())
            head = self._octets(span._replace(end=min(span.end, span.start + _ANCHOR)))
        except GoneError:
            return None
        return _Last(span, head, name)

    def _found_again(self, seen: _Last, file: HeldFile) -> _Last | None:
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

    def _lasts(self, file: HeldFile) -> Iterator[_Last]:
        """Yield each message of the *file*, the last first."""
        for span in self.steady(lambda: self._spans(file)):
            last = self._last_if_whole(span)
            if last is not None and last.name:
                yield last

    def _spans(self, file: HeldFile | None = None) -> Iterator[_Span]:
        """Yield where the entries are, the last first: in *file*, or the one at the path."""
        with contextlib.suppress(GoneError):
            file = self.hold(file)
            read = functools.partial(octets_in, file.fileno())
            status = os.fstat(file.fileno())
            for start, end in backwards(read, status.st_size, self.entry_start):
                yield _Span(file, status, start, end)

    def entry(self, span: _Span) -> Entry:
        """Return the entry at *span*."""
        return Entry(
            (span.status.st_dev, span.status.st_ino, span.start),
            self.path,
            _Reading(self, span),
            span.start,
        )

    def _parsed(self, data: bytes, span: _Span) -> Mail:
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

    def _check_again(self, data: bytes, span: _Span) -> None:
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

    def _around(self, fd: int, span: _Span) -> tuple[bytes, int, int]:
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

    def _octets(self, span: _Span) -> bytes:
        """Return the octets of *span*. Raises GoneError."""
        return octets_in(self.hold(span.file).fileno(), span.start, span.end)


class GrowingMemory(Notes):
    """What is remembered of the entries of a file that grows at its end.

    It is looked at from its end, as far as somebody asks, and behind what was its end. As long
    as its last entry is where it was, the entries before it are.
    """

    def __init__(self, store: GrowingStore) -> None:
        super().__init__(store)
        self._store = store
        # -1 is the number of the entry that is the last one at the first look.
        self._older = _Noted()
        self._newer = _Noted()
        self._last = store.now()
        self._status = self._last.span.status if self._last else None
        self._state: Status = 0

    def renewed(self, store: Store) -> Memory:
        assert isinstance(store, GrowingStore)
        try:
            status = os.stat(store.path)
        except (FileNotFoundError, NotADirectoryError):
            return store.memory()
        state = sure(status)
        if state and state == self._state:
            return self
        before, last = self._status, self._last
        # What changes and doesn't grow was not appended to: somebody edits it, or marks mail.
        is_edited = (
            before is not None
            and status.st_size == before.st_size
            and status.st_mtime_ns != before.st_mtime_ns
        )
        try:
            file = store.hold()
        except GoneError:
            return store.memory()
        # Another program may append to the last entry, which then is another one.
        if (
            last is None
            or is_edited
            or not last.is_in(file)
            or not store.is_over(file, last.span.end)
        ):
            return store.memory()
        last, starts = store.whole_behind(file, last)
        with self._lock:
            self.store = self._store = store
            self._status, self._state = status, state
            if last is not None:
                self._last = last
                for start in reversed(starts):
                    self._newer.add(start, "")
        return self

    @property
    def end(self) -> int:
        return len(self._newer.starts)

    def newest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        if sought == ANY:
            return self._store.newest_first()
        memories = self._memories(lambda memory: memory.numbers(sought))
        return map(self._store.entry, self._store.steady(memories))

    def oldest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        if sought == ANY:
            return self._store.oldest_first()
        memories = self._memories(lambda memory: reversed([*memory.numbers(sought)]))
        return map(self._store.entry, self._store.steady(memories))

    def _memories(
        self, ask: Callable[[GrowingMemory], Iterator[int]]
    ) -> Callable[[], Iterator[_Span]]:
        """Return what asks this memory first, and then a new one: the file is written anew."""
        memories = itertools.chain([self], iter(lambda: GrowingMemory(self._store), None))

        def spans() -> Iterator[_Span]:
            memory = next(memories)
            return map(memory.span, ask(memory))

        return spans

    def looked_at(self, before: int) -> Iterator[tuple[int, str]]:
        number = before
        while number > -len(self._older.starts):
            number -= 1
            yield number, self.gist(number)
        last = self._last
        if last is None:
            return
        read = functools.partial(octets_in, last.span.file.fileno())
        for start, end in backwards(read, self._start(number), self._store.entry_start):
            number -= 1
            gist = self._store.glance(last.span._replace(start=start, end=end))
            with self._lock:  # another thread may have been here
                if -number > len(self._older.starts):
                    self._older.add(start, gist)
            yield number, gist

    def gist(self, number: int) -> str:
        noted, place = (self._newer, number) if number >= 0 else (self._older, -number - 1)
        if not noted.gists[place]:
            noted.gists[place] = self._store.glance(self.span(number))
        return noted.gists[place]

    def entry(self, number: int) -> Entry:
        return self._store.entry(self.span(number))

    def span(self, number: int) -> _Span:
        """Return where an entry is."""
        assert self._last is not None  # else there is no entry
        end = self._start(number + 1) if number + 1 < self.end else self._last.span.end
        return self._last.span._replace(start=self._start(number), end=end)

    def _start(self, number: int) -> int:
        """Return where an entry begins, or where the last one ends."""
        if number < 0:
            return self._older.starts[-number - 1]
        if number < self.end:
            return self._newer.starts[number]
        return self._last.span.end if self._last else 0


class _Noted:
    """Where some entries begin, and the gist of each; empty where it wasn't looked at yet."""

    def __init__(self) -> None:
        self.starts = array("q")
        self.gists: list[str] = []

    def add(self, start: int, gist: str) -> None:
        self.starts.append(start)
        self.gists.append(gist)


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


def _without(fd: int, gaps: Iterable[_Span]) -> Iterator[bytes]:
    """Yield what is in the file open as *fd* but for the *gaps*, in pieces."""
    end = os.fstat(fd).st_size
    start = 0
    for gap in sorted(gaps, key=lambda gap: gap.start):
        yield from _pieces(fd, start, gap.start)
        start = gap.end
    yield from _pieces(fd, start, end)


def _pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _PIECE):
        yield octets_in(fd, at, min(at + _PIECE, end))


def _last_common(these: Iterator[_Last], those: Iterator[_Last]) -> tuple[_Last | None, bool]:
    """Return the last of *these* that is among *those*, and whether that is for sure.

    Both come last first, and what is in both is in the same order. So the first pair that is
    found is that of the last, and it is as near as what was added and removed is few.
    """
    here: dict[str, _Last] = {}
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


def _end(fd: int) -> _End:
    status = os.fstat(fd)
    return _End(status.st_dev, status.st_ino, status.st_size)


def octets_in(fd: int, start: int, end: int) -> bytes:
    """Return the octets of a file from *start* up to *end*."""
    return system.pread(fd, end - start, start)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
