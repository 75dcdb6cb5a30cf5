"""The locks that mail clients honour, so that several programs may append to one file."""

from __future__ import annotations

import errno
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows can import the package, for its reader
    fcntl = None  # type: ignore[assignment]

LOCK_TIMEOUT = 10.0
"""How long a lock is waited for, in seconds."""


class LockTimeoutError(OSError):
    """Another program held the lock for all of :data:`LOCK_TIMEOUT`."""


class FileLock:
    """A lock of flock(2), which is the open file's."""

    def acquire(self, fd: int, path: str) -> None:
        """Lock the file *path*, open as *fd*. Raises LockTimeoutError."""
        wait_for(lambda: try_flock(fd), path)

    def release(self, fd: int, path: str) -> None:
        """Give the lock back, and close *fd*. Raises nothing."""
        # Whether the disk has the file was fsync's to say: an error of close would refuse
        # a message that stays stored.
        with suppress(OSError):
            os.close(fd)


class MboxLock(FileLock):
    """The locks that mutt, Dovecot and :mod:`mailbox` honour: fcntl's and the dotlock."""

    def acquire(self, fd: int, path: str) -> None:
        """Have both locks of the file *path*, open as *fd*. Raises LockTimeoutError."""
        dotlock = f"{path}.lock"
        wait_for(lambda: _fcntl_lock(fd) and self._dotlock(fd, dotlock), path)

    def release(self, fd: int, path: str) -> None:
        """Give both back, and close *fd*. Raises nothing."""
        with suppress(OSError):
            os.unlink(f"{path}.lock")
        super().release(fd, path)

    @staticmethod
    def _dotlock(fd: int, path: str) -> bool:
        """Try to make the dotlock: a symbolic link that tells whose it is."""
        owner = f"mailhandlers.{os.getpid()}"
        try:
            os.symlink(owner, path)
        except FileExistsError:
            # We hold the fcntl lock, without which none of ours makes a dotlock: one of
            # ours is a dead process's.
            if os.path.islink(path) and os.readlink(path).startswith("mailhandlers."):
                os.unlink(path)
                os.symlink(owner, path)
                return True
            _fcntl_unlock(fd)  # whoever has the dotlock may wait for this one
            return False
        except PermissionError:  # a spool folder that only its group may write
            return True
        return True


def wait_for(attempt: Callable[[], bool], path: str) -> None:
    """Call *attempt* until it has the lock, for :data:`LOCK_TIMEOUT` at most."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    pause = 0.0005
    while not attempt():
        if time.monotonic() > deadline:
            message = f"another program holds the lock for {LOCK_TIMEOUT:.0f} s"
            raise LockTimeoutError(errno.EAGAIN, message, path)
        time.sleep(pause * (1 + random.random()))
        pause = min(pause * 2, 0.02)


def try_flock(fd: int) -> bool:
    """Lock the open file *fd* as flock(2) does; return False where somebody else has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# POSIX locks are the process's: one thread doesn't exclude another, and closing any
# descriptor of the file gives them back. Linux has locks that are the descriptor's and
# conflict with POSIX locks (fcntl(2), "Open file description locks"); elsewhere flock
# does both.
def _fcntl_lock(fd: int) -> bool:
    if sys.platform != "linux":
        return try_flock(fd)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock_record(fcntl.F_WRLCK))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _fcntl_unlock(fd: int) -> None:
    if sys.platform != "linux":
        fcntl.flock(fd, fcntl.LOCK_UN)
    else:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock_record(fcntl.F_UNLCK))


def _flock_record(kind: int) -> bytes:
    # struct flock: type, whence, start, length (0 is to the end), and no pid.
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
