"""Which kind of store is at a path: found from what is there."""

from __future__ import annotations

import os
import stat

from .. import block
from ..block import FormatError
from ..formats import HEAD
from . import other_programs
from .folders import find_folder
from .growing import GrowingStore
from .held import HeldFile
from .json_lines import JsonLinesStore
from .mbox import MboxStore
from .one_mail import MailFileStore
from .store import NothingYet, Store, StoreError, open_regular

_MARKS: dict[bytes, type[GrowingStore]] = {
    b'\n{"id": "': JsonLinesStore,
    b"\nFrom ": MboxStore,
}


def find(path: str | os.PathLike[str], recipient: str | None = None) -> Store:
    """Return the store at *path*, whose kind is found from what is there.

    With a *recipient*, the folders of PerRecipientDir come down to one. Raises
    StoreError.
    """
    path = os.path.abspath(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return find_folder(path, recipient)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no regular file and no folder")
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            head = file.read(HEAD)
    except (FileNotFoundError, NotADirectoryError):
        return NothingYet(path)
    except FormatError as error:
        raise StoreError(f"{path}: {error}") from None
    return _store_of(path, status, head)


def find_held(held: HeldFile) -> Store:
    """Return the store in the file that is *held*, wherever it is by now.

    Raises StoreError.
    """
    with held.open() as file:
        head = os.pread(file.fileno(), HEAD, 0)
        return _store_of(held.path, os.fstat(file.fileno()), head, held)


def _store_of(
    path: str, status: os.stat_result, head: bytes, held: HeldFile | None = None
) -> Store:
    if not head:
        return NothingYet(path)
    if head.startswith(b"From ") or b"From ".startswith(head):
        return MboxStore(path, held)
    if head.startswith(b"{"):
        return JsonLinesStore(path, held)
    if block.has_block(head) or other_programs.is_mail(head):
        return MailFileStore(path, status, head)
    # Other lines may stand above the first of ours, and the other's mark within a message.
    marks = {head.find(mark): kind for mark, kind in _MARKS.items() if mark in head}
    if marks:
        return marks[min(marks)](path, held)
    raise StoreError(f"{path}, line 1: no mail file, mbox or JSON Lines begins like this")
