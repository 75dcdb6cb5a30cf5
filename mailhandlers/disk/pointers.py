"""Links that point to the latest message of a folder."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import NamedTuple

from ..mail import is_id
from . import locks
from .links import make_link
from .undo import Undo


class Pointer(NamedTuple):
    """A symbolic link to put in place, atomically; names sort, the greatest stays."""

    temporary: str
    link: str
    target: str


def point(pointer: Pointer, undo: Undo) -> None:
    """Put *pointer* in place, unless a later message has it."""
    # Two processes may point at once: the lock makes the later message win.
    folder = os.open(os.path.dirname(pointer.link), os.O_RDONLY | os.O_DIRECTORY)
    try:
        locks.wait_for(lambda: locks.try_flock(folder), pointer.link)
        before = _target(pointer.link)
        if before is None and os.path.lexists(pointer.link):
            # Somebody's file, such as a copy of a message: kept, under another name.
            aside = f"{pointer.link}.{pointer.target.removesuffix('.eml')}"
            os.rename(pointer.link, aside)
            undo.add(os.rename, aside, pointer.link)
        if before is not None and _is_later(before, pointer):
            return
        make_link(pointer.target, pointer.temporary)
        undo.add(os.unlink, pointer.temporary)
        os.replace(pointer.temporary, pointer.link)
        undo.add(_point_back, pointer, before)
    finally:
        os.close(folder)


def remove_target(path: str, link: str) -> bool:
    """Remove the file *path*, and before it the *link* that points to it, if that does.

    Returns False, and removes nothing, while another process changes the link. Raises
    OSError.
    """
    name = os.path.basename(path)
    if link and _target(link) == name:
        folder = os.open(os.path.dirname(link), os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not locks.try_flock(folder):
                return False
            if _target(link) == name:  # else a later message has it by now
                os.unlink(link)
        finally:
            os.close(folder)
    os.unlink(path)
    return True


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
