"""A folder with a file for each message: a Maildir, or PerRecipientDir's."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator

from ..formats.folder_names import folder_name
from ..mail import Mail
from ..message.addresses import spellings
from .one_mail import read_mail
from .store import Entry, GoneError, Seen, Store, StoreError


class FolderStore(Store):
    """A Maildir, the folders of PerRecipientDir, or one of these."""

    def __init__(self, path: str, folders: list[str], suffix: str = "") -> None:
        super().__init__(path)
        self.folders = folders
        self._suffix = suffix
        self._places = self._list()

    @property
    def is_maildir(self) -> bool:
        """Whether the names of its files are those of a Maildir, without a suffix."""
        return not self._suffix

    def newest_first(self) -> Iterator[Entry]:
        return self._entries(self._places)

    def now(self) -> Seen:
        return self._places.keys()

    def since(self, seen: Seen) -> tuple[Iterator[Entry], Seen]:
        names = self._places.keys()
        new = names - seen if isinstance(seen, type(names)) else names
        return reversed([*self._entries(new)]), names

    def clear(self) -> None:
        from ..disk.files import empty_folders

        empty_folders(self.folders, self._suffix)

    def _list(self) -> dict[str, str]:
        """Return the path of each message by its name, which is without Maildir's flags."""
        places = {}
        for folder in self.folders:
            names = [n for n in _listed(folder) if n.endswith(self._suffix) and n[0] != "."]
            for name in names:
                # PerRecipientDir's link to one of the others.
                if name != "latest.eml" or len(names) == 1:
                    places[name.partition(":")[0]] = f"{folder}/{name}"
        return places

    def _entries(self, names: Iterable[str]) -> Iterator[Entry]:
        ordered = sorted(names, reverse=True)
        # Our names and those of the Maildir specification begin with the second.
        if ordered and not ordered[0][0].isdigit():
            ordered.sort(key=lambda name: not name[0].isdigit())
        for name in ordered:
            yield Entry(
                name,
                self._places[name],
                functools.partial(self._read, name, self._places[name]),
            )

    def _read(self, name: str, path: str) -> Mail:
        try:
            return read_mail(path, in_maildir=self.is_maildir)
        except GoneError:  # or a mail client moved it or marked it just now
            return read_mail(self._list().get(name, path), in_maildir=self.is_maildir)


def find_folder(path: str, recipient: str | None) -> FolderStore:
    """Return the store that the folder *path* is; raises StoreError where it is none."""
    folders: list[str] = []
    others: list[str] = []
    for entry in os.scandir(path):
        if entry.name[0] != ".":
            (folders if entry.is_dir() else others).append(entry.path)
    if any(name.endswith(".eml") for name in others):
        return FolderStore(path, [path], ".eml")
    # A recipient may be called "new": the latest.eml in some folder tells.
    if not any(os.path.lexists(f"{folder}/latest.eml") for folder in folders):
        maildir = [f"{path}/{name}" for name in ("new", "cur") if f"{path}/{name}" in folders]
        if maildir:
            return FolderStore(path, maildir)
        _check_people(path, others, folders)
    if recipient is not None:
        names = map(folder_name, spellings(recipient))
        folders = [f"{path}/{name}" for name in dict.fromkeys(names)]
    return FolderStore(path, folders, ".eml")


def _check_people(path: str, others: list[str], folders: list[str]) -> None:
    """Raise StoreError for a folder of something else; one without any mail is a store."""
    for folder in folders:
        names = [name for name in _listed(folder) if name[0] != "."]
        if any(name.endswith(".eml") for name in names):
            return
        others += [f"{folder}/{name}" for name in names]
    if others:
        raise StoreError(f"{path} holds something else than mail, such as {min(others)}")


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
