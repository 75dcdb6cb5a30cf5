"""Links: followed where the server's user or root made them, and nobody else's.

In a folder that others may write, they could lead the mail into any file of the server's
user, or into a folder of their own. Postfix and Dovecot have the same rule. It looks at the
last part of a path alone: a store belongs in a folder that only its user can write.
"""

from __future__ import annotations

import errno
import os
import stat

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


def make_link(target: str, path: str) -> None:
    """Make *path* a symbolic link to *target*; an error names *path*."""
    try:
        os.symlink(target, path)
    except OSError as error:
        # Python names the target first, which is no file that anybody could look for.
        raise OSError(error.errno, error.strerror, path) from None
