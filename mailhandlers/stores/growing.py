"""What the stores have in common that are one file: how it is written.

It is appended to under a lock, whole entries or nothing. What a crash may leave is the
beginning of an append, which the next one takes away, and a stale lock.

Messages are removed by a new file without them that takes its place, under the same lock: who
reads the old one goes on in it, and who waited for the lock opens the new one.
"""

from __future__ import annotations

import errno
import functools
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import ClassVar, NamedTuple

from ..disk import locks, log, system
from ..disk.files import Disk, Undo, close_all, sweep, write_all
from ..disk.links import open_own
from ..mail import Mail
from .entries import MOST_REWRITES, EntriesStore, HeldFile, Reading, Span, backwards, octets_in
from .entries_memory import EntriesMemory
from .store import HEAD, Entry, Memory, check_file

_TORN = ".torn"  # no shorter than what else stands beside, a dotlock
_BLOCK = 1 << 12
_PIECE = 1 << 18


class Mended(NamedTuple):
    """What to do about the last entry of a file before the next is appended."""

    keep: int
    """How many of its octets stay."""
    closing: bytes = b""
    """What ends it, if it stays."""
    is_sure: bool = True
    """Whether what doesn't stay is surely the rest of an append that never was finished."""


class _End(NamedTuple):
    """A file, and where it ends or is to end."""

    device: int
    inode: int
    size: int


class GrowingStore(EntriesStore):
    """A file that grows at its end."""

    instead_of_keep: ClassVar[str] = "rename this file now and then, as logrotate does"
    what: ClassVar[str]
    """What the file is, for people."""

    def __init__(
        self, path: str, disk: Disk | None = None, *, held: HeldFile | None = None
    ) -> None:
        """Read the file at *path*, or the one that is *held* and was there."""
        super().__init__(path, disk, held=held)
        self._lock = self.make_lock()
        self._whole: _End | None = None  # where it is known to be whole
        # What was refused and can't be taken back: the end that it left, and where it begins.
        self._refused: tuple[_End, int] | None = None

    # What there is to know of a format, beside how it is read.

    @abstractmethod
    def encode(self, mails: Iterable[Mail]) -> Iterable[bytes]:
        """Return the entries that stand for *mails*, in pieces."""

    @abstractmethod
    def is_one(self, head: bytes) -> bool:
        """Tell whether a file that begins with *head* is of this format."""

    @abstractmethod
    def mend(self, data: bytes, before: int | None) -> Mended:
        """Return what to do about *data*, the last entry; *before* as in :meth:`is_torn`."""

    def make_lock(self) -> locks.FileLock:
        """Return the lock under which the file changes."""
        return locks.FileLock()

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
                    undo.add(_unmake, self.path)
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
        for _ in range(MOST_REWRITES):
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
                assert isinstance(reading, Reading)
                if not self._is_unchanged(fd, reading):
                    return False
                gaps.append(reading.span)
            return self._disk.rewrite(self.path, fd, _without(fd, gaps), is_to_replace)
        finally:
            self._lock.release(fd, self.path)
            with suppress(OSError):
                close_all(new)

    def _is_unchanged(self, fd: int, reading: Reading) -> bool:
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
                self._check_holds_mail(fd)
                os.ftruncate(fd, 0)
            finally:
                self._lock.release(fd, self.path)

    def _mend_end(self, fd: int) -> int:
        """Cut off, set aside or close what is at the end; return where to append."""
        end = _end(fd)
        if end == self._whole:
            return end.size
        if self._refused is not None:
            left, start = self._refused
            if end == left:  # else another server has appended to it, or taken it away
                self._cut(fd, start)
            self._refused = None
        status = self._check_holds_mail(fd)
        size = status.st_size
        began = self.append_start(status)
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

    def _check_holds_mail(self, fd: int) -> os.stat_result:
        """Return the status of *fd*; raise OSError where it came to hold something else."""
        status = os.fstat(fd)
        if not self._may_become_one(system.pread(fd, HEAD, 0), status):
            message = f"it holds something else than {self.what}"
            raise OSError(errno.EEXIST, message, self.path)
        return status

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
        self._refused = end, size
        try:
            os.ftruncate(fd, size)
        except OSError:
            # Where each change is a copy, as on btrfs, a part of a block can't be cut off
            # at a quota before whole blocks are given back.
            os.ftruncate(fd, min(end.size, -(-size // _BLOCK) * _BLOCK))
            self._refused = _end(fd), size
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
                self._lock.acquire(fd, path, until)
            except BaseException as error:
                # We have its first lock, unless the error is that we didn't get one.
                with suppress(OSError):
                    self._take_back(
                        fd, created and not isinstance(error, locks.LockTimeoutError)
                    )
                os.close(fd)
                raise
            is_there = False
            try:
                if created:
                    self._disk.permit(fd)
                is_there = _is_at(fd, path)
            except BaseException:
                with suppress(OSError):
                    self._take_back(fd, created)
                raise
            finally:
                if not is_there:  # an error, or deleted or rotated while we waited
                    self._lock.release(fd, path)
            if is_there:
                return fd, created
            locks.check(until, path, "another file is there each time")

    def _take_back(self, fd: int, created: bool) -> None:
        """Remove the file that is open as *fd* if it was *created*, and nobody has used it.

        Another server may have opened it before we locked it, and appended to it.
        """
        if created and _is_at(fd, self.path) and not _end(fd).size:
            _unmake(self.path)

    def memory(self) -> Memory:
        return EntriesMemory(self)


def _without(fd: int, gaps: Iterable[Span]) -> Iterator[bytes]:
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


def _end(fd: int) -> _End:
    status = os.fstat(fd)
    return _End(status.st_dev, status.st_ino, status.st_size)


def _unmake(path: str) -> None:
    """Remove the file that was made at *path*, and no link that leads to it."""
    system.unlink(os.path.realpath(path))


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
