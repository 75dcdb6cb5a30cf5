"""A file with one message: MailFile's, which is the latest, or another program's ``.eml``."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar

from .. import block
from ..block import FormatError
from ..disk import files, system
from ..disk.locks import LOCK_TIMEOUT
from ..mail import Identity, Mail
from . import foreign
from .store import HEAD, Entry, GoneError, Seen, Store, check_file, open_regular

# What is wrong with one file, and not with this process or the disk as a whole.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENXIO)
_ARRIVAL = re.compile(r"(\d{9,11})\.")


_WHAT = "a message of this handler's"


class _File(Seen):
    """One file with one message."""

    def __init__(self, status: os.stat_result, head: bytes) -> None:
        # A file system may give the next one the same inode at the same tick; the head holds
        # the envelope's id.
        self.key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, head)


class LatestStore(Store):
    """A file with one message, which the next one replaces."""

    instead_of_keep: ClassVar[str] = "this one keeps the latest message alone"

    def check(self) -> None:
        # The file is replaced and never written to, so that a second name does no harm. A
        # server that was killed may have left one, between the link and the rename.
        check_file(
            self.path, _WHAT, lambda head, _: _may_be_replaced(head), may_have_names=True
        )

    def prepare(self) -> None:
        folder = os.path.dirname(self.path)
        system.check_writable(folder)
        if not os.path.islink(self.path):  # which the first message replaces
            self._disk.make_file(self.path)
        files.sweep(folder)

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        # The others were replaced by the last before anybody could look.
        for latest in mails[-1:]:
            self._check_is(_may_be_replaced)
            # A name of its own, also for a message that is stored again under its identity.
            temporary = f"{os.path.dirname(self.path)}/.{Identity.now().id}.tmp"
            self._disk.replace(self.path, temporary, block.encode(latest))

    def clear(self) -> None:
        self._check_is(lambda head: _may_be_replaced(head) or foreign.is_mail(head))
        files.remove([self.path])

    def _check_is(self, is_mail: Callable[[bytes], bool]) -> None:
        """Raise OSError where something else has come to the path; a link to it may go.

        It takes 8 us.
        """
        if os.path.islink(self.path):
            return
        with contextlib.suppress(FileNotFoundError):
            fd = system.open_to_read(self.path)
            try:
                if not is_mail(os.read(fd, HEAD)):
                    raise OSError(
                        errno.EEXIST, f"it holds something else than {_WHAT}", self.path
                    )
            finally:
                os.close(fd)

    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        for entry in wanted():

            def is_it(path: str, key: object = entry.key) -> bool:
                file = LatestStore(path).now()
                return file is not None and file.key == key

            files.remove_if(self.path, is_it)

    def newest_first(self) -> Iterator[Entry]:
        file = self.now()
        if file is not None:
            yield Entry(file.key, self.path, functools.partial(read_mail, self.path))

    def now(self) -> _File | None:
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                head = file.read(HEAD)
        except (FileNotFoundError, NotADirectoryError, FormatError):
            return None
        if not head:  # no message has come yet
            return None
        return _File(status, head)

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen | None]:
        file = self.now()
        if file is None or (isinstance(seen, _File) and file.key == seen.key):
            return iter(()), file
        read = functools.partial(self._read_unreplaced, file)
        return iter([Entry(file.key, self.path, read)]), file

    def _read_unreplaced(self, file: _File) -> Mail:
        """Return what *file* holds; what has replaced it is for the next look."""
        mail = read_mail(self.path)
        now = self.now()
        if now is None or now.key != file.key:
            raise GoneError(self.path)
        return mail


def _may_be_replaced(head: bytes) -> bool:
    return not head or block.is_mail_file(head)


def read_mail(path: str, is_mail: Callable[[bytes], bool] = foreign.is_mail) -> Mail:
    """Return what a file with one message holds. Raises GoneError or FormatError.

    *is_mail* tells by the beginning of a file whether another program's is a message.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
            written = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        raise GoneError(path) from None
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        raise FormatError(os.strerror(error.errno)) from None
    return mail_in(data, os.path.basename(path), written, is_mail)


def mail_in(
    data: bytes,
    name: str,
    written: float,
    is_mail: Callable[[bytes], bool] = foreign.is_mail,
) -> Mail:
    """Return the message that *data* is; its *name* and its time serve where it is another's.

    Raises FormatError.
    """
    with contextlib.suppress(FormatError):
        return block.decode(data)
    if not is_mail(data[:HEAD]):
        raise FormatError("no message begins like this")
    second = _ARRIVAL.match(name)
    when = float(second[1]) if second else written
    return Mail(foreign.envelope(data, name, when), data)
