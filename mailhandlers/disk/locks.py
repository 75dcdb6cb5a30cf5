"""The locks that mail clients honour, so that several programs may append to one file."""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ..mail import Identity
from . import log, system

_T = TypeVar("_T")

LOCK_TIMEOUT = 10.0
"""How long a lock is waited for, in seconds."""

_OURS = re.compile(r"mailhandlers\.\d+(?:\.(\d+)\.(\d+))?\Z")
# A dotlock of ours for another inode is of a file that was rotated away: whoever has it is
# done within seconds, or dead.
_LONGEST_HELD = 60.0
# Whoever changes a file hardly pauses for longer.
_LONGEST_STILL = 1.0
# A lock may be given back between two calls, and not so often in a row.
_MOST_RACES = 100


class LockTimeoutError(OSError):
    """Another program held the lock for all of :data:`LOCK_TIMEOUT`."""


def deadline(patience: float = LOCK_TIMEOUT) -> float:
    """Return the moment until which a lock is waited for, for *patience* seconds."""
    return time.monotonic() + patience


class FileLock:
    """A lock of flock(2), which is the open file's."""

    def wait_to_make(self, path: str, until: float) -> None:
        """Wait until the file *path*, which isn't there, may be made."""

    def acquire(self, fd: int, path: str, until: float) -> None:
        """Lock the file *path*, open as *fd*. Raises LockTimeoutError."""
        wait_for(lambda: system.try_flock(fd), path, until)

    def extend(self, fd: int, path: str) -> None:
        """Lock the file open as *fd*, too, which is about to replace the file *path*."""
        wait_for(lambda: system.try_flock(fd), path, deadline())

    def release(self, fd: int, path: str) -> None:
        """Give the lock back, and close *fd*."""
        with suppress(OSError):  # what was written is on disk, or was taken back
            system.close_locked(fd)


class MboxLock(FileLock):
    """The locks that mutt, Dovecot and :mod:`mailbox` honour: fcntl's and the dotlock.

    The dotlock is a symbolic link, or a file where there can be none, that tells whose it
    is: the process, the inode of the mbox, and its length before the append
    (:func:`length_before`). A server that was killed leaves it, and mail clients wait for it
    until the next message, or the next start of a server, takes it over: with that length, by
    which one knows what was unfinished.
    """

    def __init__(self) -> None:
        self._mine = ""

    def wait_to_make(self, path: str, until: float) -> None:
        """Wait for the dotlock of another program: it may be about to make the file."""
        lock = f"{path}.lock"
        wait_for(lambda: not os.path.lexists(lock) or _OURS.match(_owner(lock)), path, until)

    def acquire(self, fd: int, path: str, until: float) -> None:
        """Have both locks of the file *path*, open as *fd*, as :class:`FileLock` has one."""
        wait_for(
            lambda: system.try_lock(fd) and self._have_dotlock(fd, f"{path}.lock"), path, until
        )

    def extend(self, fd: int, path: str) -> None:
        """Lock the file open as *fd*, too, which is about to replace the file *path*.

        The dotlock names no file any more: who is killed here leaves one that whoever has the
        other lock takes over, of this file or of that.
        """
        wait_for(lambda: system.try_lock(fd), path, deadline())
        lock = f"{path}.lock"
        if _owner(lock) != self._mine:  # none could be made
            return
        self._mine = f"mailhandlers.{os.getpid()}"
        temporary = f"{os.path.dirname(path)}/.{Identity.now().id}.tmp"
        _make_link_or_file(self._mine, temporary)
        try:
            system.replace(temporary, lock, sync=False)
        except OSError:
            system.unlink(temporary)
            raise

    def release(self, fd: int, path: str) -> None:
        """Give both back, and close *fd*. Raises nothing."""
        lock = f"{path}.lock"
        try:
            if _owner(lock) == self._mine:
                system.unlink(lock)
        except OSError as error:
            log().error("%s: %s; it stays until the next message", lock, error.strerror)
        super().release(fd, path)

    def _have_dotlock(self, fd: int, path: str) -> bool:
        status = os.fstat(fd)
        length = status.st_size
        if _is_abandoned(path, status):
            before = length_before(path, status)
            length = length if before is None else min(before, length)
            with suppress(FileNotFoundError):
                system.unlink(path)
        self._mine = f"mailhandlers.{os.getpid()}.{status.st_ino}.{length}"
        try:
            _make_dotlock(self._mine, path)
        except FileExistsError:
            system.unlock(fd)  # whoever has the dotlock may wait for this one
            return False
        except PermissionError:  # a spool folder that only its group may write
            return True
        return True


def length_before(dotlock: str, status: os.stat_result) -> int | None:
    """Return how long the mbox of this *status* was before an append that hasn't ended.

    None where no *dotlock* of ours is there, or where it is of another file.
    """
    with suppress(OSError):
        match = _OURS.match(_owner(dotlock))
        if match is None or match[1] is None or int(match[1]) != status.st_ino:
            return None
        # Another user's would have us take whole messages for unfinished ones.
        made = os.lstat(dotlock)
        if system.is_trusted(made) or made.st_uid == status.st_uid:
            return int(match[2])
    return None


def is_changing(fd: int, dotlock: str) -> bool:
    """Tell whether somebody has a lock of the mbox open as *fd*, and may change all of it.

    Our servers only append, and tell behind which octet (:func:`length_before`). Mail clients
    write the file anew in place. A lock counts for :data:`_LONGEST_STILL` after the last
    change.
    """
    status = os.fstat(fd)
    if abs(time.time() - status.st_mtime) > _LONGEST_STILL:
        return False
    is_locked = os.path.lexists(dotlock) or system.is_locked(fd)
    return is_locked and length_before(dotlock, status) is None


def _is_abandoned(dotlock: str, status: os.stat_result) -> bool:
    """Tell whether *dotlock* is ours and nobody has it, who has the fcntl lock already."""
    match = _OURS.match(_owner(dotlock))
    if match is None:
        return False
    if match[1] is None or int(match[1]) == status.st_ino:
        return True  # without the fcntl lock of this file, which we have, nobody makes it
    with suppress(OSError):
        return time.time() - os.lstat(dotlock).st_mtime > _LONGEST_HELD
    return False


def _make_dotlock(owner: str, path: str) -> None:
    """Make the dotlock *path*, or raise FileExistsError where somebody has it."""
    for _ in range(_MOST_RACES):
        try:
            return _make_link_or_file(owner, path)
        except FileExistsError:
            if os.path.lexists(path):
                raise
    # To wait for a lock that nobody has would make each message wait.
    raise OSError(errno.EIO, "the disk says that it is there, and that it isn't", path)


def _make_link_or_file(owner: str, path: str) -> None:
    if system.make_lock_link(owner, path):
        return
    fd = os.open(path, system.NEW, 0o600)
    try:
        os.write(fd, owner.encode())
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def _owner(dotlock: str) -> str:
    """Return what a dotlock says of whose it is; empty where there is none, or unknown.

    Raises OSError where the disk can't tell.
    """
    try:
        return os.readlink(dotlock)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is no link, but a file
            raise
    with suppress(OSError):
        fd = system.open_file(dotlock, os.O_RDONLY)
        try:
            return os.read(fd, 100).decode("ascii", "replace")
        finally:
            os.close(fd)
    return ""


def wait_for(attempt: Callable[[], _T | None], path: str, until: float) -> _T:
    """Call *attempt* until it has the lock, up to the moment *until*; return what it does."""
    pause = 0.0005
    while (had := attempt()) is None or had is False:
        check(until, path, "another program holds the lock")
        time.sleep(pause * (1 + random.random()))
        pause = min(pause * 2, 0.02)
    return had


def check(until: float, path: str, why: str) -> None:
    """Raise LockTimeoutError where the moment *until* is over."""
    if time.monotonic() >= until:
        message = f"{why}, for {LOCK_TIMEOUT:.0f} s"
        raise LockTimeoutError(errno.EAGAIN, message, path)
