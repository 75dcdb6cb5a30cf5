"""Whether a store may be at a path: looked at before the first message comes.

Each function raises ValueError in a sentence for the user. A file that holds something else
is nobody's store: it is never written to.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .. import block
from ..disk import locks
from ..disk.links import open_own
from ..formats import HEAD
from . import appending

_LOCK = ".lock"


def mail_file(path: str) -> None:
    """Check that *path* is a file of ours with one message, or may become one.

    It is replaced and never written to, so that a second name does no harm. A server that was
    killed may have left one, between the link and the rename of :meth:`.files.Disk.replace`.
    """
    _check_name(path)
    _check_file(
        path,
        "a message of this handler's",
        lambda head, _: not head or block.is_mail_file(head),
        may_have_names=True,
    )


def growing_file(path: str, form: appending.Format) -> None:
    """Check that *path* is a file of this format, or may become one."""
    _check_name(path, _LOCK)
    _check_file(path, form.name, form.has)


def _check_name(path: str, suffix: str = "") -> None:
    """Check that a file can be called so, and another one beside it with a *suffix*."""
    folder, name = os.path.split(path)
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX") - len(suffix)
    except (AttributeError, OSError, ValueError):  # Windows, and what doesn't know
        longest = 255 - len(suffix)
    if len(os.fsencode(name)) > longest:
        raise ValueError(f"the name of {path} is too long: take one of {longest} octets")


def _check_file(
    path: str,
    what: str,
    is_one: Callable[[bytes, int | None], bool],
    *,
    may_have_names: bool = False,
) -> None:
    try:
        fd = open_own(path, os.O_RDONLY, may_have_names=may_have_names)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path} can't be a store: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        head = os.read(fd, HEAD)
        if not is_one(head, locks.begun(path + _LOCK, status)):
            raise ValueError(
                f"{path} holds something else than {what}, and stays as it is: choose another"
            )
    finally:
        os.close(fd)
