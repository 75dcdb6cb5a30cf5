"""Files that grow at their end: appended to under a lock, whole entries or nothing.

Each method raises OSError when it can't, with the file as it was before. What a crash may
leave is the beginning of an entry, which the next append cuts off, and a stale lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from ..formats import json_lines, mbox
from ..formats.growing import backwards
from . import locks
from .descriptors import fsync, write_all
from .files import Disk
from .undo import Undo


class GrowingFile:
    """A file to append to, with its format and its lock."""

    def __init__(
        self,
        path: str,
        disk: Disk,
        *,
        entry_start: bytes,
        mend: Callable[[bytes], tuple[int, bytes]],
        lock: locks.FileLock,
    ) -> None:
        """Know *entry_start*, which begins an entry, and *mend*.

        *mend* tells how much of the last entry to keep, and what closes it.
        """
        self.path = path
        self._disk = disk
        self._entry_start = entry_start
        self._mend = mend
        self._lock = lock
        # Device, inode and size of the file when we knew last that its end is whole.
        self._whole: tuple[int, int, int] | None = None

    def append(self, pieces: Iterable[bytes]) -> None:
        """Append *pieces*, under the lock."""
        fd, created = self._open_locked()
        try:
            start = self._mend_end(fd)
            with Undo() as undo:
                undo.add(os.ftruncate, fd, start)
                if created and not start:  # else somebody made it in the same moment
                    undo.add(os.unlink, self.path)
                write_all(fd, pieces)
                if self._disk.sync:
                    fsync(fd)
                if created:
                    self._disk.sync_folders([os.path.dirname(self.path)])
                self._whole = _identity(fd)
        finally:
            self._lock.release(fd, self.path)

    def truncate(self) -> None:
        """Empty the file, under the lock; a missing one stays so."""
        if os.path.exists(self.path):
            fd, _ = self._open_locked()
            try:
                os.ftruncate(fd, 0)
            finally:
                self._lock.release(fd, self.path)

    def _mend_end(self, fd: int) -> int:
        """Cut off or close what a crash left at the end; return where to append."""
        if _identity(fd) == self._whole:
            return self._whole[2]
        size = os.fstat(fd).st_size
        read = partial(_read, fd)
        for start, end in backwards(read, size, self._entry_start):
            keep, closing = self._mend(read(start, end))
            if start + keep < size:
                os.ftruncate(fd, start + keep)
            if keep or not start:
                write_all(fd, [closing])
                return start + keep + len(closing)
        return 0

    def _open_locked(self) -> tuple[int, bool]:
        """Open the file and lock it; return it, and whether it had to be made."""
        path = self.path
        while True:
            created = False
            try:
                fd = os.open(path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, self._disk.mode)
                created = True
            try:
                if created:
                    self._disk.permit(fd)
                self._lock.acquire(fd, path)
            except BaseException:
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


def mbox_file(path: str, disk: Disk | None = None) -> GrowingFile:
    """Return the mbox at *path*, to append to."""
    return GrowingFile(
        path,
        disk or Disk(),
        entry_start=b"From ",
        mend=mbox.mend,
        lock=locks.MboxLock(),
    )


def json_lines_file(path: str, disk: Disk | None = None) -> GrowingFile:
    """Return the file of JSON Lines at *path*, to append to."""
    return GrowingFile(
        path,
        disk or Disk(),
        entry_start=b"",
        mend=json_lines.mend,
        lock=locks.FileLock(),
    )


def _identity(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size


def _read(fd: int, start: int, end: int) -> bytes:
    return os.pread(fd, end - start, start)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
