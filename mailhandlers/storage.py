"""The only module that writes: whole or not at all, and on disk before it returns.

Each method raises OSError when it can't, with the store as it was before. What a
crash may leave is a temporary file, a lock that the next writer knows for stale, or the
beginning of an entry that the next append cuts off.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from . import formats, locks

Pieces = Sequence[bytes]

_MOST_PIECES = 1024  # IOV_MAX of Linux and macOS
_MOST_OCTETS = 1 << 20
_MOST_OPEN = 100  # files at once, of the 1,024 that a process often may have
# Where one file can't have a further name: FAT and some network file systems, mostly.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class NewFile(NamedTuple):
    """A file to add to a store: written under one name, shown under others."""

    temporary: str
    names: Sequence[str]
    pieces: Pieces


class Pointer(NamedTuple):
    """A symbolic link to put in place, atomically; names sort, the greatest stays."""

    temporary: str
    link: str
    target: str


class Disk:
    """How a store is written: whether to wait for the disk, and the files' permissions."""

    def __init__(self, *, sync: bool = True, mode: int = 0o600) -> None:
        self._sync = sync
        self._mode = mode
        # Who may read the files may enter the folders.
        self._folder_mode = mode | (mode & 0o444) >> 2
        self._replaced: list[int] = []

    def replace(self, path: str, temporary: str, pieces: Pieces) -> None:
        """Make *pieces* the content of the file *path*, atomically.

        The disk keeps what was replaced until :meth:`tidy` is called.
        """
        before = None
        with suppress(FileNotFoundError):
            before = os.open(path, os.O_RDONLY)
        try:
            with _Undo() as undo:
                self._write_new([(temporary, pieces)], undo)
                os.replace(temporary, path)
                undo.add(self._put_back, path, temporary, before)
                self._sync_folder(os.path.dirname(path))
        finally:
            if before is not None:
                self._replaced.append(before)

    def tidy(self) -> None:
        """Do what no reply need wait for: have the disk free what was replaced."""
        with suppress(OSError):
            _close(self._replaced)

    def add(
        self,
        folders: Iterable[str],
        files: Sequence[NewFile],
        pointers: Iterable[Pointer] = (),
    ) -> None:
        """Add all *files*, and make *pointers* point to them, or change nothing.

        Missing *folders* are made, parents first. Raises FileExistsError where a name
        is taken.
        """
        with _Undo() as undo:
            for folder in folders:
                self._make_folder(folder, undo)
            for start in range(0, len(files), _MOST_OPEN):
                some = files[start : start + _MOST_OPEN]
                self._write_new([(file.temporary, file.pieces) for file in some], undo)
            for file in files:
                *others, last = file.names
                for name in others:
                    self._link(file, name, undo)
                self._rename(file, last, undo)
            changed = {os.path.dirname(name): True for file in files for name in file.names}
            for pointer in pointers:
                self._point(pointer, undo)
            for folder in changed:
                self._sync_folder(folder)

    def append(self, path: str, pieces: Iterable[bytes], kind: Appendable) -> None:
        """Append *pieces* to the file *path* under the lock of its *kind*."""
        fd, created = self._open_locked(path, kind)
        try:
            start = kind.mend(fd)
            with _Undo() as undo:
                undo.add(os.ftruncate, fd, start)
                if created and not start:  # else somebody made it in the same moment
                    undo.add(os.unlink, path)
                _write(fd, pieces)
                if self._sync:
                    _fsync(fd)
                if created:
                    self._sync_folder(os.path.dirname(path))
            kind.remember(fd)
        finally:
            kind.lock.release(fd, path)

    def truncate(self, path: str, kind: Appendable) -> None:
        """Empty the file *path* under the lock of its *kind*; a missing one stays so."""
        if os.path.exists(path):
            fd, _ = self._open_locked(path, kind)
            try:
                os.ftruncate(fd, 0)
            finally:
                kind.lock.release(fd, path)

    def _write_new(self, files: Sequence[tuple[str, Pieces]], undo: _Undo) -> None:
        """Make new files, and wait for the disk to have all of them."""
        fds = []
        try:
            for path, pieces in files:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode)
                fds.append(fd)
                undo.add(os.unlink, path)
                self._permit(fd)
                _write(fd, pieces)
            if self._sync:
                _start_writing(fds)
                for fd in fds:
                    _fsync(fd)
        finally:
            _close(fds)

    def _put_back(self, path: str, temporary: str, before: int | None) -> None:
        """Make *path* again what it was, for which *before* is still open."""
        if before is None:
            os.unlink(path)
            return
        with _Undo() as undo:
            content = _read(before, 0, os.fstat(before).st_size)
            self._write_new([(temporary, [content])], undo)
            os.replace(temporary, path)

    def _permit(self, fd: int) -> None:
        if self._mode & 0o077:  # what was asked for, whatever the umask
            os.fchmod(fd, self._mode)

    def _make_folder(self, path: str, undo: _Undo) -> None:
        if os.path.isdir(path):
            return
        try:
            os.mkdir(path, self._folder_mode)
        except FileExistsError:  # another server was faster
            return
        undo.add(os.rmdir, path)
        if self._mode & 0o077:
            os.chmod(path, self._folder_mode)
        self._sync_folder(os.path.dirname(path))

    def _link(self, file: NewFile, name: str, undo: _Undo) -> None:
        try:
            os.link(file.temporary, name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            copy = f"{os.path.dirname(name)}/.{os.path.basename(name)}.tmp"
            self._write_new([(copy, file.pieces)], undo)
            self._rename(file._replace(temporary=copy), name, undo)
        else:
            undo.add(os.unlink, name)

    def _rename(self, file: NewFile, name: str, undo: _Undo) -> None:
        # A rename replaces what has the name, and our names hold process and microsecond:
        # whoever has it already has had it for a while.
        if os.path.lexists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        os.rename(file.temporary, name)
        undo.add(os.unlink, name)

    def _point(self, pointer: Pointer, undo: _Undo) -> None:
        # Two processes may point at once: the lock makes the later message win.
        folder = os.open(os.path.dirname(pointer.link), os.O_RDONLY | os.O_DIRECTORY)
        try:
            locks.wait_for(lambda: locks.try_flock(folder), pointer.link)
            before = None
            with suppress(FileNotFoundError):
                before = os.readlink(pointer.link)
            if before is None or before < pointer.target:
                os.symlink(pointer.target, pointer.temporary)
                undo.add(os.unlink, pointer.temporary)
                os.replace(pointer.temporary, pointer.link)
                undo.add(_point_back, pointer, before)
        finally:
            os.close(folder)

    def _sync_folder(self, path: str) -> None:
        if self._sync:
            fd = os.open(path, os.O_RDONLY)
            try:
                _fsync(fd)
            finally:
                os.close(fd)

    def _open_locked(self, path: str, kind: Appendable) -> tuple[int, bool]:
        """Open *path* and lock it; return it, and whether it had to be made."""
        while True:
            created = False
            try:
                fd = os.open(path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, self._mode)
                created = True
            try:
                if created:
                    self._permit(fd)
                kind.lock.acquire(fd, path)
            except BaseException:
                os.close(fd)
                raise
            is_there = False
            try:
                is_there = _is_at(fd, path)
            finally:
                if not is_there:  # an error, or deleted or rotated while we waited
                    kind.lock.release(fd, path)
            if is_there:
                return fd, created


class Appendable:
    """A kind of file that grows at its end: how to lock it, how to mend its end."""

    def __init__(
        self,
        mark: bytes,
        mend: Callable[[bytes], tuple[int, bytes]],
        lock: locks.FileLock,
    ) -> None:
        """*mark* begins an entry, *mend* tells what to keep of the last, and what closes it."""
        self.lock = lock
        self._mark = mark
        self._mend = mend
        self._whole: tuple[int, int, int] | None = None

    def mend(self, fd: int) -> int:
        """Cut off or close what a crash left at the end; return where to append."""
        if self._identity(fd) == self._whole:
            return self._whole[2]
        size = os.fstat(fd).st_size
        read = partial(_read, fd)
        for start, end in formats.backwards(read, size, self._mark):
            keep, closing = self._mend(read(start, end))
            if start + keep < size:
                os.ftruncate(fd, start + keep)
            if keep or not start:
                _write(fd, [closing])
                return start + keep + len(closing)
        return 0

    def remember(self, fd: int) -> None:
        """Note that the file is whole as it is now."""
        self._whole = self._identity(fd)

    @staticmethod
    def _identity(fd: int) -> tuple[int, int, int]:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino, status.st_size


class _Undo:
    """What to take back, the last step first, where a block ends with an error."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def add(self, step: Callable[..., object], *args: Any) -> None:
        self._steps.append((step, args))

    def __enter__(self) -> _Undo:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for step, args in reversed(self._steps) if kind else ():
            # What may be taken back is; the error that led here counts more.
            with suppress(OSError, MemoryError):
                step(*args)


def mbox() -> Appendable:
    """Return what an mbox is, to those who append."""
    return Appendable(b"From ", formats.mend_mbox, locks.MboxLock())


def json_lines() -> Appendable:
    """Return what a file of JSON Lines is, to those who append."""
    return Appendable(b"", formats.mend_json_lines, locks.FileLock())


def write_out(fd: int, pieces: Iterable[bytes]) -> None:
    """Write *pieces* to an open descriptor, such as standard output."""
    _write(fd, pieces)


def remove(paths: Iterable[str]) -> None:
    """Remove files; one that is gone already counts as removed."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def empty_folders(folders: Iterable[str]) -> None:
    """Remove the files in *folders*, but for the hidden ones that are being written."""
    for folder in folders:
        with suppress(FileNotFoundError):
            remove(f"{folder}/{name}" for name in os.listdir(folder) if name[0] != ".")


def _write(fd: int, pieces: Iterable[bytes]) -> None:
    """Write all *pieces*; a nearly full disk takes a part without an error."""
    for portion in _portions(pieces):
        done = os.writev(fd, portion)
        if done < sum(map(len, portion)):
            whole = memoryview(b"".join(portion))
            while done < len(whole):
                done += os.write(fd, whole[done:])


def _portions(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield *pieces* by as many as one call writes.

    What is formed only when it is to be written is in memory for as long, and in a cache.
    """
    portion: list[bytes] = []
    size = 0
    for piece in pieces:
        portion.append(piece)
        size += len(piece)
        if size >= _MOST_OCTETS or len(portion) == _MOST_PIECES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _read(fd: int, start: int, end: int) -> bytes:
    return os.pread(fd, end - start, start)


def _fsync(fd: int) -> None:
    if sys.platform == "darwin":  # whose fsync leaves data in the drive's cache
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def _start_writing(fds: Sequence[int]) -> None:
    """Have the disk begin with all files, so that one commit of its journal takes them.

    The fsyncs that follow then wait once, not once for each file. This is a hint alone:
    on Linux, POSIX_FADV_DONTNEED starts to write what it is to forget.
    """
    if len(fds) > 1 and hasattr(os, "posix_fadvise"):
        for fd in fds:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _close(fds: list[int]) -> None:
    """Close all *fds*, also where one fails, as a full disk of another machine makes it."""
    if fds:
        try:
            os.close(fds.pop())
        finally:
            _close(fds)


def _point_back(pointer: Pointer, before: str | None) -> None:
    if before is None:
        os.unlink(pointer.link)
    else:
        os.symlink(before, pointer.temporary)
        os.replace(pointer.temporary, pointer.link)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
