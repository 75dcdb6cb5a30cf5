"""A folder for each recipient: PerRecipientDir's, or any folder with files called ``.eml``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from heapq import nlargest
from urllib.parse import quote_from_bytes

from .. import block
from ..disk import files
from ..disk.files import Disk
from ..disk.links import Pointer
from ..mail import Identity, Mail, is_id, sha256
from ..message.addresses import spellings
from .folder import FolderStore, is_folder
from .keep import Keep, Place
from .store import Effort, Store

_LONGEST_NAME = 200
# https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file: also with an ending.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.ASCII)
_FEW_RECIPIENTS = 10
_MANY_RECIPIENTS = 100


class PeopleStore(FolderStore):
    """A folder with a folder for each recipient, in which each message is a file."""

    suffix = ".eml"

    def __init__(
        self,
        path: str,
        disk: Disk | None = None,
        keep: Keep | None = None,
        *,
        folders: list[str] | None = None,
        is_ours: bool = False,
    ) -> None:
        """*folders* are those to read where they are known, or where not all are read.

        Where it *is_ours* for sure, each folder holds the mail of a recipient.
        """
        super().__init__(path, disk, keep)
        self._folders = folders
        self._is_ours = is_ours

    @property
    def folders(self) -> list[str]:
        if self._folders is not None:
            return self._folders
        try:
            with os.scandir(self.path) as entries:
                return [entry.path for entry in entries if is_folder(entry)]
        except FileNotFoundError:
            return []

    def part(self, recipient: str) -> Store:
        if not self._is_ours:
            return self
        names = [name for spelling in spellings(recipient) for name in folder_names(spelling)]
        folders = [f"{self.path}/{name}" for name in dict.fromkeys(names)]
        return PeopleStore(self.path, self._disk, folders=folders)

    def recent(self, count: int) -> Store:
        if not self._is_ours:
            return self
        # To read a link takes 2 us, to list a folder 12.
        latest: list[tuple[str, str]] = []
        unsure = []
        for folder in self.folders:
            try:
                latest.append((os.readlink(f"{folder}/latest.eml"), folder))
            except OSError:  # a folder of another program, or Windows, where it is no link
                unsure.append(folder)
        folders = [folder for _, folder in nlargest(count, latest)]
        return PeopleStore(self.path, self._disk, folders=folders + unsure)

    def is_as_found(self) -> bool:
        # Whose it is, the folders tell: their links go when they are emptied.
        links = (f"{folder}/latest.eml" for folder in self.folders)
        return self._is_ours and any(map(os.path.lexists, links))

    def places(self) -> Iterable[Place]:
        return map(_place, self.folders)

    def prepare(self) -> None:
        self._disk.make_folders([self.path])
        files.sweep(self.path)
        super().prepare()

    def add_files(self, mails: Sequence[Mail], patience: float) -> Iterable[Place]:
        new_files = []
        latest: dict[str, Mail] = {}
        for mail in mails:
            # Mail copied from elsewhere may name nobody: it is the nameless recipient's.
            recipients = mail.envelope.rcpt_tos or [""]
            # Two recipients that differ in case only share a folder: a dict names it once.
            folders = {f"{self.path}/{folder_name(r)}": mail for r in recipients}
            latest |= folders
            name = f"{mail.envelope.id}.eml"
            # Made up here, where a reader that waits for anybody's mail has one folder to poll.
            temporary = f"{self.path}/.{Identity.now().id}.tmp"
            names = [f"{folder}/{name}" for folder in folders]
            new_files.append(files.NewFile(temporary, names, block.encode(mail)))
        pointers = [
            Pointer(
                f"{folder}/.latest.{mail.envelope.id}",
                _place(folder).link,
                f"{mail.envelope.id}.eml",
            )
            for folder, mail in latest.items()
        ]
        self._disk.add([self.path, *latest], new_files, pointers, patience)
        return [_place(os.path.dirname(name)) for file in new_files for name in file.names]

    def keys(self, folder: str, names: Sequence[str]) -> Iterable[tuple[str, str]]:
        for name in names:
            # The link to one of the others.
            if name == "latest.eml" and len(names) > 1:
                continue
            # A message of ours has one name in all folders; in those of other programs there
            # may be a "1.eml" in each.
            is_one = folder == self.path or is_id(name.removesuffix(self.suffix))
            yield name if is_one else f"{os.path.basename(folder)}/{name}", name

    def effort(self, mail: Mail) -> Effort:
        # 5,000 recipients, each with a new folder, take 2 s.
        recipients = len(mail.envelope.rcpt_tos)
        if recipients > _MANY_RECIPIENTS:
            return Effort.LONG
        effort = super().effort(mail)
        is_larger = recipients > _FEW_RECIPIENTS and effort is Effort.SMALL
        return Effort.LARGE if is_larger else effort


def _place(folder: str) -> Place:
    return Place((folder,), f"{folder}/latest.eml")


def folder_name(recipient: str) -> str:
    """Return the name of a recipient's folder: one folder for each address, case aside.

    Letters, digits and ``@.+-_=`` stand for themselves, every other octet of the UTF-8
    form as ``%XX``, and so does each leading and trailing dot, and the first letter of what
    Windows takes for a device. A name over 200 octets is cut and completed with a hash
    behind ``~``, which no other name holds.
    """
    name = _quoted(recipient)
    body = name.rstrip(".")
    name = body + "%2E" * (len(name) - len(body))
    if _DEVICE.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return _cut(name)


def folder_names(recipient: str) -> list[str]:
    """Return the names that a recipient's folder may have: :func:`folder_name`, that of 1.1."""
    return list(dict.fromkeys([folder_name(recipient), _cut(_quoted(recipient))]))


def _quoted(recipient: str) -> str:
    octets = recipient.casefold().encode("utf-8", "surrogateescape")
    name = quote_from_bytes(octets, safe="@.+-_=").replace("~", "%7E")
    bare = name.lstrip(".")
    return "%2E" * (len(name) - len(bare)) + bare


def _cut(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        digest = sha256(name.encode())[:32]
        name = f"{name[: _LONGEST_NAME - len(digest) - 1]}~{digest}"
    return name or "%"
