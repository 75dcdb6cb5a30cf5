"""Linux, macOS and their like: files, links, locks, processes. :mod:`.windows` differs."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

assert sys.platform != "win32"  # else mypy doesn't know what is called here

NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY}
"""What a file system says that doesn't know what it is asked for."""

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
"""What is said where one file can't have a further name: FAT and some network file systems."""

IS_LINK = {errno.ELOOP, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP)}
"""What :func:`open_file` says to a link: Linux and macOS, FreeBSD, NetBSD."""

CAN_REPLACE_OPEN = True
"""Whether another file can get the name of one that somebody has open."""

SYNCS_FOLDERS = True
"""Whether the disk is asked for the names in a folder: :func:`flush_folders`."""

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
"""How :func:`os.open` makes a file that only this process knows."""

_O_PATH = getattr(os, "O_PATH", 0)  # Linux: keeps a file, whoever may read it


# Files.


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """Open the file *path*, which may not be a link; a FIFO would have us wait for somebody."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)


def open_to_read(path: str) -> int:
    """Open the file *path*, wherever it leads."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def write(fd: int, pieces: Sequence[bytes]) -> int:
    """Write *pieces*, or a part; return how many octets."""
    return os.writev(fd, pieces)


def pread(fd: int, size: int, offset: int) -> bytes:
    """Return up to *size* octets from *offset* on, whatever else reads."""
    return os.pread(fd, size, offset)


def start_writing(fds: Sequence[int]) -> None:
    """Have the disk begin with all files, so that one commit of its journal takes them.

    The fsyncs that follow then wait once, not once for each file. This is a hint alone:
    on Linux, POSIX_FADV_DONTNEED starts to write what it is to forget.
    """
    if len(fds) > 1 and hasattr(os, "posix_fadvise"):
        for fd in fds:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


if sys.platform == "darwin":

    def fsync(fd: int) -> None:
        """Wait until the disk has the file: macOS' fsync leaves data in the drive's cache."""
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:  # as network disks say
                raise
            os.fsync(fd)

else:

    def fsync(fd: int) -> None:
        """Wait until the disk has the file."""
        os.fsync(fd)


def flush_folders(paths: Sequence[str], flush: Callable[..., None]) -> None:
    """Wait until the disk has the names in the folders *paths*.

    *flush* is given descriptors of all, and what waits for one.
    """
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(_open_folder(path))
        flush(fds, _fsync_folder)
    finally:
        for fd in fds:
            with suppress(OSError):
                os.close(fd)


def _open_folder(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync_folder(fd: int) -> None:
    try:
        fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems can't, and keep names as they see fit.
        if error.errno not in NOT_SUPPORTED:
            raise


# Names.


def link(path: str, name: str) -> None:
    """Give the file or the link *path* a further *name*."""
    os.link(path, name, follow_symlinks=False)


def rename(path: str, name: str, *, sync: bool) -> None:
    """Give the file *path* the *name*, which nobody has; the name's folder is to be synced."""
    # A rename replaces what has the name, and our names hold process and microsecond:
    # whoever has it already has had it for a while.
    if os.path.lexists(name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    os.rename(path, name)


def replace(path: str, name: str, *, sync: bool) -> None:
    """Give the file *path* the *name* of another one; the name's folder is to be synced."""
    os.replace(path, name)


def unlink(path: str) -> None:
    """Remove the name *path*."""
    os.unlink(path)


def hold(path: str) -> int | None:
    """Keep the file *path* on disk until what is returned is closed, where that can be."""
    return os.open(path, _O_PATH) if _O_PATH else None


def longest_name(folder: str) -> int:
    """Return how many octets the name of a file in *folder* may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):  # what doesn't know
        return 255


def without_flags(name: str) -> str:
    """Return the *name* of a message in a Maildir without what mail clients note behind it."""
    return name.partition(":")[0]


# Permissions.


def check_mode(mode: int) -> None:
    """Raise ValueError, in a sentence for the user, where files can't have this *mode*."""


def permit(fd: int, mode: int) -> None:
    """Give the open file *fd* the permissions *mode*."""
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:  # the umask took some away
        _permit(os.fchmod, fd, mode)


def own(fd: int, status: os.stat_result) -> None:
    """Give the open file *fd* the owner and the group in *status*."""
    made = os.fstat(fd)
    if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(fd, status.st_uid, status.st_gid)


def permit_folder(path: str, status: os.stat_result, mode: int) -> None:
    """Give the folder *path*, of this *status*, the permissions *mode*."""
    if stat.S_IMODE(status.st_mode) != mode:
        _permit(os.chmod, path, mode)


def _permit(change: Callable[..., None], file: int | str, mode: int) -> None:
    """Go on where a file system, as FAT, has no permissions to give to a single file."""
    try:
        change(file, mode)
    except OSError as error:
        if error.errno not in {errno.EPERM, *NOT_SUPPORTED}:
            raise


def check_writable(folder: str) -> None:
    """Raise OSError where this process can't make files in *folder*."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def is_trusted(status: os.stat_result) -> bool:
    """Tell whether this user or root made what has the *status*."""
    return status.st_uid in (os.geteuid(), 0)


def is_private(status: os.stat_result) -> bool:
    """Tell whether a folder of this *status* is the user's, for nobody else to look into."""
    return status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == stat.S_IRWXU


# What points to a message.


def make_pointer(target: str, path: str) -> bool:
    """Make *path* a symbolic link to *target*, and return True; an error names *path*."""
    try:
        os.symlink(target, path)
    except OSError as error:
        # Python names the target first, which is no file that anybody could look for.
        raise OSError(error.errno, error.strerror, path) from None
    return True


def pointed_to(path: str) -> str | None:
    """Return to which file *path* points; None where it is none of :func:`make_pointer`."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is no link
            raise
        return None


# Locks.


def lock_folder(path: str) -> int | None:
    """Lock the folder *path* among our own servers, until what is returned is closed.

    None where somebody else has it.
    """
    fd = _open_folder(path)
    if try_flock(fd):
        return fd
    os.close(fd)
    return None


def try_flock(fd: int) -> bool:
    """Lock the open file *fd* as flock(2) does; return False where somebody else has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def close_locked(fd: int) -> None:
    """Close *fd*, which gives back its lock."""
    os.close(fd)


# POSIX locks are the process's: one thread doesn't exclude another, and closing any
# descriptor of the file gives them back. Linux has locks that are the descriptor's and
# conflict with POSIX locks (fcntl(2), "Open file description locks"); elsewhere flock
# does both.
if sys.platform == "linux":

    def try_lock(fd: int) -> bool:
        """Lock the open file *fd* as mail programs do; return False where somebody has it."""
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock_record(fcntl.F_WRLCK))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(fd: int) -> None:
        """Give back the lock of :func:`try_lock`."""
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock_record(fcntl.F_UNLCK))

    def is_locked(fd: int) -> bool:
        """Tell whether somebody else has that lock; only Linux tells without trying."""
        with suppress(OSError):  # a file system that has none
            record = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock_record(fcntl.F_RDLCK))
            return bool(struct.unpack_from("h", record)[0] != fcntl.F_UNLCK)
        return False

    def _flock_record(kind: int) -> bytes:
        # struct flock: type, whence, start, length (0 is to the end), and no pid.
        return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)

else:
    try_lock = try_flock

    def unlock(fd: int) -> None:
        """Give back the lock of :func:`try_lock`."""
        fcntl.flock(fd, fcntl.LOCK_UN)

    def is_locked(fd: int) -> bool:
        """Tell whether somebody else has that lock: only Linux tells without trying."""
        return False


def make_lock_link(owner: str, path: str) -> bool:
    """Make *path* a symbolic link that says *owner*; return False where there can be none.

    Raises OSError, FileExistsError where something is at *path*.
    """
    try:
        os.symlink(owner, path)
    except OSError as error:
        if error.errno not in {errno.EPERM, *NOT_SUPPORTED} - {errno.ENOTTY}:
            # Python names the owner first, which is no file.
            raise OSError(error.errno, error.strerror, path) from None
        return False
    return True


# Processes.

APART: dict[str, Any] = {"start_new_session": True}
"""For :class:`subprocess.Popen`: Ctrl-C isn't for the new process."""


def rights() -> dict[str, Any]:
    """Return what this process may, for :func:`take_rights` of another one, as JSON has it."""
    return {"groups": os.getgroups(), "gid": os.getegid(), "uid": os.geteuid()}


def take_rights(given: dict[str, Any]) -> None:
    """Have no other rights than those *given*. Raises OSError."""
    if given == rights():
        return
    # The user last, who may not change the others. Only root may set groups.
    if set(given["groups"]) != set(os.getgroups()):
        os.setgroups(given["groups"])
    os.setgid(given["gid"])
    os.setuid(given["uid"])


def wait_for_closed_pipe(fd: int) -> bool:
    """Wait until nobody reads the pipe *fd* any more; return whether that is so."""
    closed = select.poll()
    closed.register(fd, 0)  # nothing but errors, of which a closed pipe is one
    closed.poll()
    return True


class Process:
    """The process *pid*, from now on: the next one with its number is another."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: select.poll | None = None
        # Linux: true also of a process that its parent has not waited for yet.
        if hasattr(os, "pidfd_open"):
            # It has ended, or the kernel, or who confines this process, has no such call.
            with suppress(OSError):
                fd = os.pidfd_open(pid)
                self._ended = select.poll()
                self._ended.register(fd, select.POLLIN)

    def has_ended(self, seconds: float = 0) -> bool:
        """Tell whether the process has ended, *seconds* from now at the latest."""
        if self._ended is not None:
            return bool(self._ended.poll(seconds * 1000))
        time.sleep(seconds)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        return False
