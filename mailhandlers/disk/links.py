"""Links: followed where the server's user or root made them, and pointers to the latest.

In a folder that others may write, they could lead the mail into any file of the server's
user, or into a folder of their own. Postfix and Dovecot have the same rule. It looks at the
last part of a path alone: a store belongs in a folder that only its user can write.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ..mail import is_id
from . import locks

_MOST_LINKS = 40  # as Linux has it
# What open(2) says with O_NOFOLLOW to a link: Linux and macOS, FreeBSD, NetBSD.
_IS_LINK = {errno.ELOOP, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP)}


def open_own(path: str, flags: int, mode: int = 0o600, *, may_have_names: bool = False) -> int:
    """Open the regular file *path*; never wait for it.

    Raises OSError where it is something else, where the link of another user leads to it, and,
    unless it *may_have_names*, where it has a second name.
    """
    opened = path
    for _ in range(_MOST_LINKS):
        try:
            # A FIFO would have us wait for somebody at its other end.
            fd = os.open(opened, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
            break
        except OSError as error:
            if error.errno not in _IS_LINK:
                raise
        opened = os.path.join(os.path.dirname(opened), own_target(opened))
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EEXIST, "it is no regular file", path)
        if status.st_nlink > 1 and not may_have_names:
            # Whoever made the other name may have had a file of ours in mind.
            raise OSError(errno.EEXIST, "the file has a second name (a hard link)", path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def own_target(path: str) -> str:
    """Return where the link *path* leads. Raises OSError where another user made it."""
    before = os.lstat(path)
    target = os.readlink(path)
    after = os.lstat(path)
    if before.st_uid not in (os.geteuid(), 0) or not os.path.samestat(before, after):
        raise PermissionError(errno.EPERM, "it is a link that another user made", path)
    return target


def folder_status(path: str) -> os.stat_result:
    """Return the status of the folder *path*; a link to one may be the user's or root's.

    Raises OSError where there is none.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        own_target(path)
        status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return status


def open_folder(path: str) -> int:
    """Return a descriptor of the folder *path*, to lock it or to wait for the disk."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def make_link(target: str, path: str) -> None:
    """Make *path* a symbolic link to *target*; an error names *path*."""
    try:
        os.symlink(target, path)
    except OSError as error:
        # Python names the target first, which is no file that anybody could look for.
        raise OSError(error.errno, error.strerror, path) from None


class Pointer(NamedTuple):
    """A symbolic link to put in place, atomically; names sort, the greatest stays."""

    temporary: str
    link: str
    target: str


def point(pointer: Pointer, undo: Callable[..., object], until: float) -> None:
    """Put *pointer* in place, unless a later message has it.

    Raises OSError, and LockTimeoutError where another process changes it *until* then.

    *undo* is given each step that takes a part of that back, as :meth:`.files.Undo.add` is.
    """
    # Two processes may point at once: the lock makes the later message win.
    with _locked_folder(pointer.link, until):
        before = _target(pointer.link)
        if before is None and os.path.lexists(pointer.link):
            # Somebody's file, such as a copy of a message: kept, under another name.
            aside = f"{pointer.link}.{pointer.target.removesuffix('.eml')}"
            os.rename(pointer.link, aside)
            undo(os.rename, aside, pointer.link)
        if before is not None and _is_later(before, pointer):
            return
        make_link(pointer.target, pointer.temporary)
        undo(os.unlink, pointer.temporary)
        os.replace(pointer.temporary, pointer.link)
        undo(_point_back, pointer, before)


def remove_target(path: str, link: str) -> bool:
    """Remove the file *path*, and before it the *link* that points to it, if that does.

    Returns False, and removes nothing, while another process changes the link. Raises
    OSError.
    """
    name = os.path.basename(path)
    if link and _target(link) == name:
        try:
            with _locked_folder(link, until=0):
                if _target(link) == name:  # else a later message has it by now
                    os.unlink(link)
        except locks.LockTimeoutError:
            return False
    os.unlink(path)
    return True


@contextmanager
def _locked_folder(path: str, until: float) -> Iterator[None]:
    """Lock the folder of *path* among our own servers. Raises LockTimeoutError."""
    fd = open_folder(os.path.dirname(path))
    try:
        locks.wait_for(lambda: locks.try_flock(fd), path, until)
        yield
    finally:
        os.close(fd)


def _is_later(target: str, pointer: Pointer) -> bool:
    # A link that isn't ours may lead anywhere, and sort behind all that comes.
    named = os.path.join(os.path.dirname(pointer.link), target)
    return target >= pointer.target and is_id(target) and os.path.exists(named)


def _target(link: str) -> str | None:
    """Return where *link* leads; None where there is no link."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is no link
            raise
        return None


def _point_back(pointer: Pointer, before: str | None) -> None:
    if before is not None:
        with suppress(OSError):
            make_link(before, pointer.temporary)
            os.replace(pointer.temporary, pointer.link)
            return
    # A disk that can't put the link back may still remove it: a link to nothing would stand
    # for a message that was refused. The next message makes it anew.
    os.unlink(pointer.link)
