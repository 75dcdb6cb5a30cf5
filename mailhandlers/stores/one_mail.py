"""A file that holds one message: MailFile's, one in a folder, another program's .eml."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator

from .. import block
from ..block import FormatError
from ..formats import HEAD
from ..mail import Mail
from . import other_programs
from .store import Entry, GoneError, Seen, Store, open_regular

_ARRIVAL = re.compile(r"(\d{9,11})\.")


class MailFileStore(Store):
    """The one file of MailFile, or an .eml of another program's."""

    def __init__(self, path: str, status: os.stat_result, head: bytes) -> None:
        super().__init__(path)
        # A file system may give the next file the same inode at the same tick; the head
        # holds the envelope's id.
        self._key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, head)

    def newest_first(self) -> Iterator[Entry]:
        yield Entry(self._key, self.path, functools.partial(read_mail, self.path))

    def now(self) -> Seen:
        return self._key

    def since(self, seen: Seen) -> tuple[Iterator[Entry], Seen]:
        return iter(()) if seen == self._key else self.newest_first(), self._key

    def clear(self) -> None:
        from ..disk.files import remove

        remove([self.path])


def read_mail(path: str, *, in_maildir: bool = False) -> Mail:
    """Return what a file with one message holds. Raises GoneError or FormatError.

    What stands *in_maildir* is mail also without a header, unless it is no text.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
            written = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        raise GoneError(path) from None
    with contextlib.suppress(FormatError):
        return block.decode(data)
    head = data[:HEAD]
    if b"\0" in head if in_maildir else not other_programs.is_mail(head):
        raise FormatError("no message begins like this")
    name = os.path.basename(path)
    second = _ARRIVAL.match(name)
    when = float(second[1]) if second else written
    return Mail(other_programs.envelope(data, name, when), data)
