"""Files that grow at their end: appended to under a lock, whole entries or nothing.

Each method raises OSError when it can't, with the file as it was before. What a crash may
leave is the beginning of an append, which the next one takes away, and a stale lock.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from ..disk import locks
from ..disk.files import Disk, Undo, write_all
from ..disk.flushing import fsync
from ..disk.links import open_own
from ..formats import HEAD, Mended, json_lines, mbox
from ..formats.growing import backwards

_log = logging.getLogger("mailhandlers")

_BLOCK = 4096


class Format(NamedTuple):
    """What there is to know of a format, to append to a file of it."""

    name: str
    entry_start: bytes
    """What begins an entry, at the beginning of a line."""
    is_one: Callable[[bytes], bool]
    """Tells whether a file is one, by its beginning."""
    mend: Callable[[bytes, int | None], Mended]
    """Returns what to do about the last entry, of which so much is from earlier appends."""
    lock: Callable[[], locks.FileLock]

    def has(self, head: bytes, begun: int | None) -> bool:
        """Tell whether a file that begins with *head* is of this format, or may become so.

        *begun* is how long the file was before an append that a crash ended. A power cut may
        leave the length of the first append and not its octets.
        """
        is_empty = len(head) < HEAD and not head.strip(b"\0")
        return is_empty or begun == 0 or self.is_one(head)


MBOX = Format("an mbox", b"From ", mbox.is_mbox, mbox.mend, locks.MboxLock)
JSON_LINES = Format(
    "JSON Lines", b"", json_lines.is_json_lines, json_lines.mend, locks.FileLock
)


class _Place(NamedTuple):
    """A file, and where in it its end is known to be whole."""

    device: int
    inode: int
    end: int


class GrowingFile:
    """A file to append to, with its format and its lock."""

    def __init__(self, path: str, disk: Disk, form: Format) -> None:
        self.path = path
        self._disk = disk
        self._form = form
        self._lock = form.lock()
        self._whole: _Place | None = None
        # Where what was refused begins, as long as it can't be taken back.
        self._refused: _Place | None = None

    def prepare(self) -> None:
        """Make the file where there is none, and mend its end after a crash."""
        fd, created, begun = self._open_locked()
        try:
            self._mend_end(fd, begun)
            self._disk.sync_name(self.path, os.fstat(fd), is_new=created)
        finally:
            self._lock.release(fd, self.path)

    def append(self, pieces: Iterable[bytes], patience: float = locks.LOCK_TIMEOUT) -> None:
        """Append *pieces*, under the lock, which is waited for for *patience* seconds.

        With 0, another program's last entry is not looked at: it may be a gibibyte.
        """
        fd, created, begun = self._open_locked(patience)
        try:
            place = _place(fd)
            if not patience and place.end and place != self._whole:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), self.path)
            start = self._mend_end(fd, begun)
            status = os.fstat(fd)
            with Undo() as undo:
                undo.add(self._cut, fd, start)
                if created and not start:  # else somebody made it in the same moment
                    undo.add(os.unlink, self.path)
                write_all(fd, pieces)
                if self._disk.sync:
                    fsync(fd)
                else:  # a network disk says at a close what it had no room for
                    os.close(os.dup(fd))
                self._disk.sync_name(self.path, status, is_new=created)
            self._whole = None
            with suppress(OSError):  # it is stored: no error refuses it any more
                self._whole = _place(fd)
        finally:
            self._lock.release(fd, self.path)

    def truncate(self) -> None:
        """Empty the file, under the lock; a missing one stays so."""
        if os.path.exists(self.path):
            fd, _, _ = self._open_locked()
            try:
                os.ftruncate(fd, 0)
            finally:
                self._lock.release(fd, self.path)

    def _mend_end(self, fd: int, begun: int | None) -> int:
        """Cut off, set aside or close what is at the end; return where to append.

        *begun* is how long the file was before an append that a crash ended.
        """
        place = _place(fd)
        if place == self._whole:
            return place.end
        if (refused := self._refused) and refused[:2] == place[:2]:
            if refused.end < place.end:
                self._cut(fd, refused.end)
            self._refused = None
        size = os.fstat(fd).st_size
        read = partial(_read, fd)
        if not self._form.has(read(0, min(size, HEAD)), begun):
            message = f"it holds something else than {self._form.name}"
            raise OSError(errno.EEXIST, message, self.path)
        for start, end in backwards(read, size, self._form.entry_start):
            entry = read(start, end)
            mended = self._form.mend(entry, None if begun is None else begun - start)
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
        aside = f"{self.path}.torn"
        fd = open_own(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT, self._disk.mode)
        try:
            self._disk.permit(fd)
            write_all(fd, [entry])
            if self._disk.sync:
                fsync(fd)
                self._disk.sync_name(aside, os.fstat(fd))
        finally:
            os.close(fd)
        _log.warning(
            "%s: the last entry is not whole; its %d octets are in %s now",
            *(self.path, len(entry), aside),
        )

    def _cut(self, fd: int, end: int) -> None:
        """Take back what stands behind *end*; where that fails, the next append does it."""
        status = os.fstat(fd)
        self._refused = _Place(status.st_dev, status.st_ino, end)
        try:
            os.ftruncate(fd, end)
        except OSError:
            # Where each change is a copy, as on btrfs, a part of a block can't be cut off
            # at a quota before whole blocks are given back.
            os.ftruncate(fd, min(status.st_size, -(-end // _BLOCK) * _BLOCK))
            os.ftruncate(fd, end)
        self._refused = None

    def _open_locked(
        self, patience: float = locks.LOCK_TIMEOUT
    ) -> tuple[int, bool, int | None]:
        """Open the file and lock it.

        Returns it, whether it had to be made, and what :meth:`.locks.FileLock.acquire` does.
        """
        path = self.path
        until = locks.deadline(patience)
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
                begun = self._lock.acquire(fd, path, until)
            except BaseException as error:
                # We have its first lock, and so nobody else has appended to it, unless the
                # error is that we didn't get one.
                if created and not isinstance(error, locks.LockTimeoutError):
                    os.unlink(path)
                os.close(fd)
                raise
            is_there = False
            try:
                is_there = _is_at(fd, path)
            finally:
                if not is_there:  # an error, or deleted or rotated while we waited
                    self._lock.release(fd, path)
            if is_there:
                return fd, created, begun
            locks.check(until, path, "another file is there each time")


def mbox_file(path: str, disk: Disk | None = None) -> GrowingFile:
    """Return the mbox at *path*, to append to."""
    return GrowingFile(path, disk or Disk(), MBOX)


def json_lines_file(path: str, disk: Disk | None = None) -> GrowingFile:
    """Return the file of JSON Lines at *path*, to append to."""
    return GrowingFile(path, disk or Disk(), JSON_LINES)


def _place(fd: int) -> _Place:
    status = os.fstat(fd)
    return _Place(status.st_dev, status.st_ino, status.st_size)


def _read(fd: int, start: int, end: int) -> bytes:
    return os.pread(fd, end - start, start)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
