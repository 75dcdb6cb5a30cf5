"""The store that messages are copied to: what it has, and what a broken copy left half done."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .. import handlers
from ..disk import files
from ..inbox.criteria import Mails
from ..mail import Mail
from ..stores.find import find
from ..stores.folder import FolderStore
from ..stores.maildir import MaildirStore
from ..stores.people import folder_name


class Target:
    """A handler's store, as it is before a copy, and then as it grows."""

    def __init__(self, handler: handlers.Handler) -> None:
        """Look at what is there; raises ValueError where it is another handler's folder."""
        self._handler = handler
        self._halves: dict[str, list[str]] = {}
        self.keeps_all = not isinstance(handler, handlers.MailFile)
        """Whether it keeps more than the latest message."""
        self.ids: list[str] = []
        """The ids of the messages that are there, and whole."""
        if not (isinstance(handler, handlers.JsonLines) and handler.is_output):
            self._look(handler.path)

    def store(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none; raises OSError."""
        for mail in mails:
            files.remove(self._halves.pop(mail.envelope.id, []))
        self._handler.store_all(mails)

    def close(self) -> None:
        """Let the last batch come to its end."""
        self._handler.close()

    def _look(self, path: str) -> None:
        by_recipient = isinstance(self._handler, handlers.PerRecipientDir)
        store = find(path)
        for mail in Mails(store.newest_first()):
            is_maildir = isinstance(store, MaildirStore)
            if isinstance(store, FolderStore) and is_maildir == by_recipient:
                what = "a Maildir" if is_maildir else "no Maildir, and holds mail"
                raise ValueError(f"{path} is {what}: choose another")
            half = _half(path, mail) if by_recipient else []
            if half:
                self._halves[mail.envelope.id] = half
            else:
                self.ids.append(mail.envelope.id)


def _half(path: str, mail: Mail) -> list[str]:
    """Return the names of *mail* in the folders of recipients, if these are not all.

    Each name is made by itself, and the links to the latest messages come last: a copy
    that is killed meanwhile leaves some without the others.
    """
    name = f"{mail.envelope.id}.eml"
    folders = {f"{path}/{folder_name(to)}" for to in mail.envelope.rcpt_tos or [""]}
    if all(os.path.lexists(f"{folder}/{name}") for folder in folders) and all(
        _latest(folder) >= name for folder in folders
    ):
        return []
    return [f"{folder}/{name}" for folder in folders]


def _latest(folder: str) -> str:
    try:
        return os.readlink(f"{folder}/latest.eml")
    except OSError:  # none yet
        return ""
