"""Which store is at a path: found from what is there."""

from __future__ import annotations

import os
import re
import stat

from ..block import FormatError, has_block
from ..disk import system
from ..disk.files import is_shown
from . import foreign
from .bucket import find_bucket
from .entries import HeldFile
from .folder import is_folder, listed
from .growing import GrowingStore
from .json_lines import JsonLinesStore
from .latest import LatestStore
from .maildir import MaildirStore
from .mbox import DATED_FROM, MboxStore
from .people import PeopleStore
from .store import HEAD, NothingYet, Store, StoreError, absolute, is_address, open_regular

_MARKS: dict[re.Pattern[bytes], type[GrowingStore]] = {
    re.compile(rb'^\{"id": "', re.MULTILINE): JsonLinesStore,
    DATED_FROM: MboxStore,
}


def find(path: str | os.PathLike[str], recipient: str | None = None) -> Store:
    """Return the store at *path*, whose kind is found from what is there.

    With a *recipient*, the folders of PerRecipientDir come down to one. Raises
    StoreError.
    """
    path = absolute(path)
    if is_address(path):
        bucket = find_bucket(path)
        return bucket if recipient is None else bucket.part(recipient)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            store = _find_folder(path)
            return store if recipient is None else store.part(recipient)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no regular file and no folder")
        with open_regular(path) as file:
            head = file.read(HEAD)
    except (FileNotFoundError, NotADirectoryError):
        return NothingYet(path)
    except FormatError as error:
        raise StoreError(f"{path}: {error}") from None
    return _store_of(path, head)


def find_held(held: HeldFile) -> Store:
    """Return the store in the file that is *held*, wherever it is by now.

    Raises StoreError.
    """
    with held.open() as file:
        head = system.pread(file.fileno(), HEAD, 0)
        return _store_of(held.path, head, held)


def _store_of(path: str, head: bytes, held: HeldFile | None = None) -> Store:
    if not head:
        return NothingYet(path)
    if head.startswith(b"From ") or b"From ".startswith(head):
        return MboxStore(path, held=held)
    if head.startswith(b"{"):
        return JsonLinesStore(path, held=held)
    if has_block(head) or foreign.is_mail(head):
        return LatestStore(path)
    # Other lines may stand above the first of ours, and the other's mark within a message.
    found = {m.start(): kind for mark, kind in _MARKS.items() if (m := mark.search(head))}
    if found:
        first = found[min(found)]
        return first(path, held=held)
    raise StoreError(f"{path}, line 1: no mail file, mbox or JSON Lines begins like this")


def _find_folder(path: str) -> Store:
    """Return the store that the folder *path* is; raises StoreError where it is none."""
    folders: list[str] = []
    others: list[str] = []
    for entry in os.scandir(path):
        if entry.name[0] != ".":
            (folders if is_folder(entry) else others).append(entry.path)
    # A recipient may be called "new": the latest.eml in some folder tells.
    is_ours = any(os.path.lexists(f"{folder}/latest.eml") for folder in folders)
    if any(is_shown(name, PeopleStore.suffix) for name in others):
        # What somebody has saved there hides none of ours.
        return PeopleStore(path, folders=[path, *(folders if is_ours else ())])
    if not is_ours:
        if any(os.path.basename(folder) in ("new", "cur") for folder in folders):
            return MaildirStore(path)
        _check_people(path, others, folders)
    return PeopleStore(path, folders=folders, is_ours=is_ours)


def _check_people(path: str, others: list[str], folders: list[str]) -> None:
    """Raise StoreError for a folder of something else; one without any mail is a store."""
    for folder in folders:
        names = [name for name in listed(folder) if name[0] != "."]
        if any(is_shown(name, PeopleStore.suffix) for name in names):
            return
        others += [f"{folder}/{name}" for name in names]
    if others:
        raise StoreError(f"{path} holds something else than mail, such as {min(others)}")
