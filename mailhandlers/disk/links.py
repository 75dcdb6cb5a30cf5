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

from ..mail import Identity, is_id
from . import locks, system

_MOST_LINKS = 40  # as Linux has it


def open_own(path: str, flags: int, mode: int = 0o600, *, may_have_names: bool = False) -> int:
    """Open the regular file *path*; never wait for it.

    Raises OSError where it is something else, where the link of another user leads to it, and,
    unless it *may_have_names*, where it has a second name.
    """
    opened = path
    for _ in range(_MOST_LINKS):
        try:
            fd = system.open_file(opened, flags, mode)
            break
        except OSError as error:
            if error.errno not in system.IS_LINK:
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
    if not system.is_trusted(before) or not os.path.samestat(before, after):
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


class Pointer(NamedTuple):
    """What points to a message, to put in place atomically; names sort, the greatest stays.

    It is a symbolic link; on Windows, where that needs a right, a further name of the file.
    """

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
        before = system.pointed_to(pointer.link)
        if before is None and os.path.lexists(pointer.link):
            # Somebody's file, such as a copy of a message: kept, under another name.
            aside = f"{pointer.link}.{pointer.target.removesuffix('.eml')}"
            system.rename(pointer.link, aside, sync=False)
            undo(os.rename, aside, pointer.link)
        if before is not None and before >= pointer.target and _is_there(before, pointer.link):
            return
        if not system.make_pointer(pointer.target, pointer.temporary):
            return  # keep= has removed it for a later one, which is about to be pointed to
        undo(system.unlink, pointer.temporary)
        system.replace(pointer.temporary, pointer.link, sync=False)
        undo(_point_back, pointer, before)


def remove_target(path: str, link: str, until: float = 0) -> None:
    """Remove the file *path*. If the *link* points to it, that follows first.

    It then points to the latest of our files before, or goes where there is none. Raises
    OSError, and LockTimeoutError where another process changes the link *until* then.
    """
    name = os.path.basename(path)
    if link and system.pointed_to(link) == name:
        with _locked_folder(link, until):
            if system.pointed_to(link) == name:  # else a later message has it by now
                _point_before(link, name)
    system.unlink(path)


def remove_pointer(link: str, until: float) -> None:
    """Remove *link*, unless it points to a message of ours that is there.

    Raises OSError, and LockTimeoutError where another process changes the link *until* then.
    """
    with _locked_folder(link, until):
        if not _is_there(system.pointed_to(link), link):
            system.unlink(link)


def _point_before(link: str, name: str) -> None:
    folder, suffix = os.path.dirname(link), os.path.splitext(link)[1]
    # What comes after it is being stored now, and has the link when that is done.
    before = [n for n in os.listdir(folder) if n < name and n.endswith(suffix) and is_id(n)]
    temporary = f"{folder}/.latest.{Identity.now().id}"
    if not before or not system.make_pointer(max(before), temporary):
        system.unlink(link)
        return
    try:
        system.replace(temporary, link, sync=False)
    except OSError:
        system.unlink(temporary)
        raise


@contextmanager
def _locked_folder(path: str, until: float) -> Iterator[None]:
    """Lock the folder of *path* among our own servers. Raises LockTimeoutError."""
    folder = os.path.dirname(path)
    fd = locks.wait_for(lambda: system.lock_folder(folder), path, until)
    try:
        yield
    finally:
        os.close(fd)


def _is_there(target: str | None, link: str) -> bool:
    """Tell whether *target* of the *link* is a message of ours that is there."""
    # A link that isn't ours may lead anywhere, and sort behind all that comes.
    return (
        target is not None
        and is_id(target)
        and os.path.exists(os.path.join(os.path.dirname(link), target))
    )


def _point_back(pointer: Pointer, before: str | None) -> None:
    with suppress(OSError):  # where it can't be read, it is most likely ours
        if system.pointed_to(pointer.link) != pointer.target:
            return  # a later message of another server has it by now
    if before is not None:
        with suppress(OSError):
            system.make_pointer(before, pointer.temporary)
            system.replace(pointer.temporary, pointer.link, sync=False)
            return
    # A disk that can't put the link back may still remove it: a link to nothing would stand
    # for a message that was refused. The next message makes it anew.
    system.unlink(pointer.link)
