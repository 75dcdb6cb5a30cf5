"""Whole files: added to folders, or replaced; on disk before a method returns.

Each method raises OSError when it can't, with the store as it was before. What a
crash may leave is a hidden temporary file.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ..mail import Identity, is_id
from . import log, system
from .flushing import Flusher
from .links import Pointer, folder_status, open_own, point, remove_pointer
from .locks import LOCK_TIMEOUT, deadline

Pieces = Sequence[bytes]

_MOST_PIECES = 1024  # IOV_MAX of Linux and macOS
_MOST_OCTETS = 1 << 20
_OWNERS = 0o600
_MOST_OPEN = 100  # files at once, of the 1,024 that a process often may have

# https://cr.yp.to/proto/maildir.html: a file in tmp that nobody touched for 36 hours.
_OLD = 36 * 60 * 60


class Undo:
    """What to take back, the last step first, where a ``with`` block ends with an error."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def add(self, step: Callable[..., object], *args: Any) -> None:
        """Call *step* with *args* where the block fails."""
        self._steps.append((step, args))

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        for step, args in reversed(self._steps) if error_type else ():
            # What may be taken back is; the error that led here counts more.
            with suppress(OSError, MemoryError):
                step(*args)


class NewFile(NamedTuple):
    """A file to add to a store: written under one name, shown under others."""

    temporary: str
    names: Sequence[str]
    pieces: Pieces


class Disk:
    """How a store is written: whether to wait for the disk, and the files' permissions."""

    def __init__(self, *, sync: bool = True, mode: int = _OWNERS) -> None:
        """Raise ValueError, in a sentence for the user, where files can't have this *mode*."""
        if mode != _OWNERS:
            system.check_mode(mode)
        self.sync = sync
        self.mode = mode
        # Who may read the files may enter the folders.
        self._folder_mode = mode | (mode & 0o444) >> 2
        self._flusher = Flusher()
        self._replaced: list[int] = []
        # What could not be removed when it had been replaced.
        self._left: list[str] = []
        # The files and folders whose names the disk has, by device and inode. One that is
        # new to this process may be new on disk: another one was killed before its fsync.
        self._known: set[tuple[int, int]] = set()

    def replace(self, path: str, temporary: str, pieces: Pieces) -> None:
        """Make *pieces* the content of the file *path*, atomically.

        The disk keeps what was replaced until :meth:`free_replaced` is called.
        """
        # As long as this fails no message is stored: each would leave one more file behind.
        remove(self._left)
        self._left.clear()
        previous = f"{temporary}.previous"
        with Undo() as undo:
            self._write_new([(temporary, pieces)], undo)
            # Where no folder is synced, the rename is the last step, and never taken back.
            was_there = system.SYNCS_FOLDERS and self._keep(path, previous, undo)
            ours = os.lstat(temporary)
            system.replace(temporary, path, sync=self.sync)
            undo.add(_put_back, previous if was_there else "", path, ours)
            self.sync_folders([os.path.dirname(path)])
        if was_there:
            self._remove_name(previous)

    def rewrite(
        self,
        path: str,
        fd: int,
        pieces: Iterable[bytes],
        is_to_replace: Callable[[int], bool],
    ) -> bool:
        """Put *pieces* in the place of the file *path*, which is open as *fd*, atomically.

        The new file has the owner and the permissions of the old one. When it is on disk,
        *is_to_replace* is called with its descriptor; where that returns False, so does this,
        and nothing has changed.
        """
        if not system.CAN_REPLACE_OPEN:
            message = "no file that is open is replaced here: remove all, or have a Maildir"
            raise OSError(errno.ENOTSUP, message, path)
        path = os.path.realpath(path)
        folder = os.path.dirname(path)
        temporary = f"{folder}/.{Identity.now().id}.tmp"
        new = os.open(temporary, system.NEW, 0o600)
        try:
            with Undo() as undo:
                undo.add(system.unlink, temporary)
                _make_like(new, os.fstat(fd), path)
                write_all(new, pieces)
                if self.sync:
                    system.fsync(new)
                else:  # a network disk says at a close what it had no room for
                    os.close(os.dup(new))
                is_replaced = is_to_replace(new)
                if is_replaced:
                    system.replace(temporary, path, sync=self.sync)
            if is_replaced:
                try:
                    self.sync_folders([folder])
                except OSError as error:  # who reads has the new file already
                    consequence = "a power cut may bring back what was removed"
                    log().error("%s: %s; %s", path, error.strerror, consequence)
            else:
                system.unlink(temporary)
        finally:
            with suppress(OSError):
                os.close(new)
        return is_replaced

    def _remove_name(self, name: str) -> None:
        """Remove *name*; the disk frees the file in :meth:`free_replaced`."""
        with suppress(OSError):  # then a reply waits for the disk
            if (held := system.hold(name)) is not None:
                self._replaced.append(held)
        try:
            system.unlink(name)
        except OSError as error:  # the message is stored: what is left over refuses it not
            self._left.append(name)
            log().error("%s: %s; it stays until the next message", name, error.strerror)

    def free_replaced(self) -> None:
        """Let the disk free what was replaced: it takes 75 us, and no reply need wait."""
        with suppress(OSError):
            close_all(self._replaced)

    def rest(self) -> None:
        """End the threads that wait for the disk, until they are needed again."""
        self._flusher.rest()

    def add(
        self,
        folders: Iterable[str],
        files: Sequence[NewFile],
        pointers: Iterable[Pointer] = (),
        patience: float = LOCK_TIMEOUT,
    ) -> None:
        """Add all *files*, and make *pointers* point to them, or change nothing.

        Missing *folders* are made, parents first. Raises FileExistsError where a name
        is taken, and LockTimeoutError where a pointer is locked for *patience* seconds.
        """
        until = deadline(patience)
        changed: dict[str, bool] = {}  # folders: in which order they are synced is the same
        new = []
        with Undo() as undo:
            for folder in folders:
                if self._make_folder(folder, undo):
                    changed[os.path.dirname(folder)] = True
                    new.append(folder)
            for start in range(0, len(files), _MOST_OPEN):
                some = files[start : start + _MOST_OPEN]
                self._write_new([(file.temporary, file.pieces) for file in some], undo)
            for file in files:
                *others, last = file.names
                for name in others:
                    self._link(file, name, undo)
                self._rename(file, last, undo)
                changed |= {os.path.dirname(name): True for name in file.names}
            for pointer in pointers:
                point(pointer, undo.add, until)
            self.sync_folders([*changed])
        for folder in new:
            with suppress(OSError):  # else it is looked at again
                self._known.add(_identity(os.stat(folder)))

    def make_file(self, path: str) -> None:
        """Make an empty file, for programs that wait for one, where there is none.

        Raises OSError, also for a file that is there and can't be written.
        """
        flags = os.O_RDWR | os.O_APPEND
        try:
            fd = system.open_file(path, flags | os.O_CREAT | os.O_EXCL, self.mode)
        except FileExistsError:
            os.close(system.open_file(path, flags))
            return
        try:
            self.permit(fd)
        finally:
            os.close(fd)
        self.sync_folders([os.path.dirname(path)])

    def make_folders(self, folders: Sequence[str]) -> None:
        """Make those of *folders* that are missing.

        Raises OSError, also for one that is there and can't be written.
        """
        self.add(folders, [])
        for folder in folders:
            system.check_writable(folder)

    def _write_new(self, files: Sequence[tuple[str, Pieces]], undo: Undo) -> None:
        """Make new files, and wait for the disk to have all of them."""
        fds = []
        try:
            for path, pieces in files:
                fd = os.open(path, system.NEW, self.mode)
                fds.append(fd)
                undo.add(system.unlink, path)
                system.permit(fd, self.mode)
                write_all(fd, pieces)
            if self.sync:
                system.start_writing(fds)
                self._flusher.flush(fds)
        except BaseException:
            with suppress(OSError):
                close_all(fds)
            raise
        # What was fsynced is on disk, whatever a close says; else it may be the first to
        # tell, on a network disk, that there was no room.
        with suppress(*[OSError] * self.sync):
            close_all(fds)

    def _keep(self, path: str, name: str, undo: Undo) -> bool:
        """Give the file *path* a further *name*, by which it can be put back; False: none.

        An undo by name is one rename: it needs neither space nor a working fsync.
        """
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                raise OSError(errno.EEXIST, "no regular file any more", path)
            system.link(path, name)
        except FileNotFoundError:  # or somebody removed it just now
            return False
        except OSError as error:
            if error.errno not in system.NO_LINKS:
                raise
            with open(open_own(path, os.O_RDONLY), "rb") as file:
                self._write_new([(name, [file.read()])], undo)
        else:
            undo.add(system.unlink, name)
        return True

    def permit(self, fd: int) -> None:
        """Give the open file *fd* the permissions of a file of this store."""
        system.permit(fd, self.mode)

    def _make_folder(self, path: str, undo: Undo) -> bool:
        """Make the folder *path* where there is none; return False if the disk has its name."""
        try:
            return _identity(folder_status(path)) not in self._known
        except FileNotFoundError:
            with suppress(FileExistsError):  # another server was faster
                os.mkdir(path, self._folder_mode)
                undo.add(os.rmdir, path)
        system.permit_folder(path, folder_status(path), self._folder_mode)
        return True

    def _link(self, file: NewFile, name: str, undo: Undo) -> None:
        try:
            system.link(file.temporary, name)
        except OSError as error:
            if error.errno not in system.NO_LINKS:
                raise
            copy = f"{os.path.dirname(name)}/.{os.path.basename(name)}.tmp"
            self._write_new([(copy, file.pieces)], undo)
            self._rename(file._replace(temporary=copy), name, undo)
        else:
            undo.add(system.unlink, name)

    def _rename(self, file: NewFile, name: str, undo: Undo) -> None:
        system.rename(file.temporary, name, sync=self.sync)
        undo.add(system.unlink, name)

    def sync_name(self, path: str, status: os.stat_result, *, is_new: bool = False) -> None:
        """Wait until the disk has the name *path*, once for each file by its *status*.

        Where *path* is a link, that is the name of the file to which it leads.
        """
        identity = _identity(status)
        if is_new or identity not in self._known:
            self.sync_folders([os.path.dirname(os.path.realpath(path))])
            self._known.add(identity)

    def sync_folders(self, paths: Sequence[str]) -> None:
        """Wait until the disk has the names in the folders *paths*."""
        for start in range(0, len(paths), _MOST_OPEN) if self.sync else ():
            system.flush_folders(paths[start : start + _MOST_OPEN], self._flusher.flush)


def _put_back(previous: str, path: str, ours: os.stat_result) -> None:
    """Put *previous*, or nothing, in the place of *ours* at *path*; another server's stays."""
    if os.path.samestat(os.lstat(path), ours):
        if previous:
            os.replace(previous, path)
        else:
            system.unlink(path)


def write_all(fd: int, pieces: Iterable[bytes]) -> None:
    """Write all *pieces*; a nearly full disk takes a part without an error."""
    for portion in _portions(pieces):
        done = system.write(fd, portion)
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


def close_all(fds: list[int]) -> None:
    """Close all *fds*, also where one fails, as a full disk of another machine makes it."""
    failures = []
    while fds:
        try:
            os.close(fds.pop())
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def remove(paths: Iterable[str]) -> None:
    """Remove files; one that is gone already counts as removed."""
    for path in paths:
        with suppress(FileNotFoundError):
            system.unlink(path)


def remove_if(path: str, is_it: Callable[[str], bool]) -> None:
    """Remove the file *path* if *is_it* says so of it, and no other that replaces it meanwhile.

    *is_it* is given the path of the file, which may be another then.
    """
    if not is_it(path):
        return
    aside = f"{os.path.dirname(path)}/.{Identity.now().id}.tmp"
    with suppress(FileNotFoundError):  # somebody else has removed it
        system.rename(path, aside, sync=False)
        if is_it(aside) or os.path.lexists(path):  # there is one that is newer still
            system.unlink(aside)
        else:
            system.rename(aside, path, sync=False)


def empty_folders(folders: Iterable[str], suffix: str = "", pointer: str = "") -> None:
    """Remove the files in *folders* whose names end with *suffix*, in any case.

    Hidden ones stay, which are being written; so does a *pointer* to one that came meanwhile.
    Raises OSError where a folder is the link of another user to one.
    """
    for folder in folders:
        with suppress(FileNotFoundError):
            folder_status(folder)
            paths = {
                f"{folder}/{name}" for name in os.listdir(folder) if is_shown(name, suffix)
            }
            remove(paths - {pointer})
            if pointer in paths:
                remove_pointer(pointer, deadline())


def sweep(folder: str) -> None:
    """Remove the temporary files in *folder* that have names of ours and are old.

    They are a Maildir's in ``tmp``, and hidden ones elsewhere. One that can't be removed
    stays: it is in nobody's way.
    """
    is_tmp = os.path.basename(folder) == "tmp"
    before = time.time() - _OLD
    with suppress(OSError):
        for entry in os.scandir(folder):
            name = entry.name if is_tmp else entry.name.removeprefix(".").partition(".tmp")[0]
            if is_id(name) and is_tmp is not entry.name.startswith("."):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)


def is_shown(name: str, suffix: str) -> bool:
    """Tell whether *name* is no hidden one, and ends with *suffix*, in any case."""
    return name[0] != "." and name[len(name) - len(suffix) :].lower() == suffix


def _make_like(fd: int, status: os.stat_result, path: str) -> None:
    """Give the new file *fd* the owner and the permissions in *status*, those of *path*."""
    try:
        system.own(fd, status)
    except PermissionError:
        message = "its owner and group couldn't be kept: ask its owner, or root"
        raise PermissionError(errno.EPERM, message, path) from None
    system.permit(fd, stat.S_IMODE(status.st_mode))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
