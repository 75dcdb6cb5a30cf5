"""The five handlers: what each writes, and where."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from . import options
from .disk import descriptors, files, leftovers
from .disk.pointers import Pointer
from .formats import eml, json_lines, mbox
from .formats.folder_names import folder_name
from .handler import Handler
from .identity import Identity
from .mail import Mail
from .stores import appending, checks
from .stores.retention import Place

__all__ = ["Handler", "JsonLines", "MailFile", "MaildirSink", "MboxSink", "PerRecipientDir"]

_log = logging.getLogger("mailhandlers")

_MANY_RECIPIENTS = 100


class MailFile(Handler):
    """A handler that keeps the latest message in one file.

    Each message replaces the file atomically: a reader finds the old one or the new one, never
    a part. Of messages that arrive together only the last is written.

    ``aiosmtpd -n -c mailhandlers.MailFile latest.mail``, and ``tail -F latest.mail``.
    """

    _instead_of_keep = "this one keeps the latest message alone"

    def _prepare(self) -> None:
        files.check_writable(os.path.dirname(self.path))
        self._disk.make_file(self.path)
        leftovers.sweep(os.path.dirname(self.path))

    def _empty(self) -> None:
        files.remove([self.path])

    def _check_file(self) -> None:
        checks.mail_file(self.path)

    def _write(self, mails: Sequence[Mail]) -> None:
        # The others were replaced by the last before anybody could look.
        self._make_unique(self._replace, mails[-1:])

    def _replace(self, mails: Sequence[Mail]) -> None:
        (latest,) = mails
        # A name of its own, also for a message that is stored again under its identity.
        temporary = f"{os.path.dirname(self.path)}/.{Identity.now().id}.tmp"
        self._disk.replace(self.path, temporary, eml.encode(latest))


class MaildirSink(Handler):
    """A handler that keeps messages in a Maildir, with one file for each message.

    Mail programs open it: https://cr.yp.to/proto/maildir.html describes the format. New
    messages are in the folder ``new``. A symbolic link to a folder is followed only if the
    server's user or root made it. Keep the store in a folder that only this user can write.

    ``aiosmtpd -n -c mailhandlers.MaildirSink inbox``
    """

    _is_folder = True
    _needs_no_lock = True

    @property
    def _folders(self) -> list[str]:
        # tmp comes last: without new, a reader would take it for a recipient's folder.
        return [self.path, *(f"{self.path}/{name}" for name in ("new", "cur", "tmp"))]

    def _prepare(self) -> None:
        self._disk.make_folders(self._folders)
        leftovers.sweep(f"{self.path}/tmp")

    def _empty(self) -> None:
        files.empty_folders([f"{self.path}/new", f"{self.path}/cur"])

    def _write(self, mails: Sequence[Mail]) -> None:
        self._make_unique(self._add, mails)

    def _add(self, mails: Sequence[Mail]) -> None:
        new_files = [
            files.NewFile(
                # Not its own name: a copy that was killed left that, and comes again.
                f"{self.path}/tmp/{Identity.now().id}",
                [f"{self.path}/new/{mail.envelope.id}"],
                eml.encode(mail),
            )
            for mail in mails
        ]
        self._disk.add(self._folders, new_files)
        if self._retention is not None:
            self._retention.stored([*self._places()] * len(mails))

    def _places(self) -> Iterable[Place]:
        return [Place((f"{self.path}/new", f"{self.path}/cur"))]


class MboxSink(Handler):
    """A handler that keeps messages in one mbox file (mboxrd), one after the other.

    It takes the locks that mail programs take: fcntl's and ``PATH.lock``. A symbolic link is
    followed only if the server's user or root made it, and a file with a second name (a hard
    link) is refused. If the last message is not whole and it is not sure that a crash of this
    handler cut it short, it is moved to ``PATH.torn``, with a warning.

    ``aiosmtpd -n -c mailhandlers.MboxSink mail.mbox``
    """

    _instead_of_keep = "rename this file now and then, as logrotate does"

    @options.as_keywords(options.Options)
    def __init__(self, path: str | os.PathLike[str], **keywords: Any) -> None:
        super().__init__(path, **keywords)
        self._file = appending.mbox_file(self.path, self._disk)

    def _prepare(self) -> None:
        self._file.prepare()

    def _empty(self) -> None:
        self._file.truncate()

    def _check_file(self) -> None:
        checks.growing_file(self.path, appending.MBOX)

    def _write(self, mails: Sequence[Mail]) -> None:
        pieces = [piece for mail in mails for piece in mbox.encode(mail)]
        self._file.append(pieces)


class JsonLines(Handler):
    """A handler that keeps messages as JSON, one object a line.

    The path ``-`` stands for standard output. A symbolic link is followed only if the server's
    user or root made it, and a file with a second name (a hard link) is refused. The lock of
    the file is that of flock(2).

    ``aiosmtpd -n -c mailhandlers.JsonLines mail.jsonl``
    """

    _instead_of_keep = "rename this file now and then, as logrotate does"

    @options.as_keywords(options.Options)
    def __init__(self, path: str | os.PathLike[str], **keywords: Any) -> None:
        self.is_output = os.fspath(path) == "-"
        """Whether the lines go to standard output."""
        super().__init__(path, **keywords)
        self._file = appending.json_lines_file(self.path, self._disk)

    def _prepare(self) -> None:
        if not self.is_output:
            self._file.prepare()

    def _empty(self) -> None:
        if not self.is_output:  # what standard output got is out of reach
            self._file.truncate()

    def _check_file(self) -> None:
        checks.growing_file(self.path, appending.JSON_LINES)

    def _write(self, mails: Sequence[Mail]) -> None:
        # One by one, as they are written: a long line needs no memory of its own.
        lines = (piece for mail in mails for piece in _json_line(mail))
        if self.is_output:
            descriptors.write_all(sys.__stdout__.fileno() if sys.__stdout__ else 1, lines)
        else:
            self._file.append(lines)

    def _check_path(self) -> None:
        if not self.is_output:
            super()._check_path()


class PerRecipientDir(Handler):
    """A handler that keeps messages in a folder for each recipient.

    Each folder has the recipient's messages, ``ID.eml``, and ``latest.eml``, a link to the
    latest. A message is in the folders of all its recipients or in none. A symbolic link to
    a folder is followed only if the server's user or root made it.

    ``aiosmtpd -n -c mailhandlers.PerRecipientDir people``: with ``python -m http.server -d
    people``, the latest message for bob is at ``/bob@example.com/latest.eml``.
    """

    _is_folder = True

    def _is_long(self, mail: Mail) -> bool:
        # 5,000 recipients, each with a new folder, take 2 s.
        return len(mail.envelope.rcpt_tos) > _MANY_RECIPIENTS

    def _prepare(self) -> None:
        self._disk.make_folders([self.path])
        leftovers.sweep(self.path)

    def _empty(self) -> None:
        with suppress(FileNotFoundError):
            folders = [entry.path for entry in os.scandir(self.path) if entry.is_dir()]
            files.empty_folders(folders, ".eml")

    def _write(self, mails: Sequence[Mail]) -> None:
        self._make_unique(self._add, mails)

    def _add(self, mails: Sequence[Mail]) -> None:
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
            new_files.append(files.NewFile(temporary, names, eml.encode(mail)))
        pointers = [
            Pointer(
                f"{folder}/.latest.{mail.envelope.id}",
                f"{folder}/latest.eml",
                f"{mail.envelope.id}.eml",
            )
            for folder, mail in latest.items()
        ]
        self._disk.add([self.path, *latest], new_files, pointers)
        if self._retention is not None:
            names = [name for file in new_files for name in file.names]
            self._retention.stored(_recipients_place(os.path.dirname(name)) for name in names)

    def _places(self) -> Iterable[Place]:
        with os.scandir(self.path) as entries:
            folders = [entry.path for entry in entries if entry.is_dir()]
        return map(_recipients_place, folders)


def _recipients_place(folder: str) -> Place:
    return Place((folder,), ".eml", f"{folder}/latest.eml")


def _json_line(mail: Mail) -> Iterator[bytes]:
    # 10 ms to import, with its codecs. The command has it before it becomes nobody.
    from .message.budget import LINE, Budget
    from .message.message import StoredMessage
    from .message.record import KEYS

    budget = Budget(LINE)  # others wait meanwhile
    try:
        record = StoredMessage.parse(mail.content, budget=budget).summary(budget)
    except Exception:  # noqa: BLE001 - no content may make a server refuse a message
        _log.exception("%s can't be parsed; its line has its octets only", mail.envelope.id)
        record = dict.fromkeys(KEYS)
    return json_lines.encode(mail, record)
