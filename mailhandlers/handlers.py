"""The five handlers, and what they share: the command line, the group commit, the replies.

A handler says what to write and where; :mod:`mailhandlers.storage` knows how.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from . import options as arguments
from .formats import eml, json_lines, mbox
from .formats.folder_names import folder_name
from .mail import Mail
from .reading.message import StoredMessage
from .smtp.facts import envelope_of
from .smtp.script import Reply, Script
from .writing import appending, checks, descriptors, files
from .writing.commit import FAILED, GroupCommit
from .writing.pointers import Pointer

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")
_H = TypeVar("_H", bound="Handler")

_MOST_CLASHES = 10


class Handler(ABC):
    """What every handler does: take a message, reply 250 when it is on disk.

    Messages that arrive while others are being written are written together next, with
    one lock and one fsync for all. The event loop never waits for a disk.
    """

    _is_folder: ClassVar[bool] = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: bool = True,
        mode: int = 0o600,
        auth: str | None = None,
        replies: Iterable[Reply] = (),
        delay: float = 0,
        rset: str | None = None,
        max_line: int | None = None,
        loop: str | None = None,
    ) -> None:
        """Check that *path* can be a store; the first message makes it.

        *sync* is whether a reply waits until the disk has the message; *mode* gives the
        permissions of files, and folders get the search permission with each read
        permission. *loop* may be ``uvloop``, which is for the command: a Controller has
        a ``loop`` of its own. The rest is for the session: see :class:`.session.Script`.
        Raises ValueError in one sentence for the user.
        """
        if loop not in (None, "uvloop"):
            raise ValueError(f"loop={loop} is unknown: loop=uvloop is the one choice")
        if loop and not find_spec(loop):
            raise ValueError("loop=uvloop needs uvloop: pip install 'mailhandlers[uvloop]'")
        if mode & 0o600 != 0o600 or mode > 0o777:
            raise ValueError(
                f"mode={mode:04o} must let the owner read and write: try mode=0600"
            )
        self.path = os.path.abspath(path)
        self._check_path()
        self._disk = files.Disk(sync=sync, mode=mode)
        self._commit = GroupCommit(self._write, self._disk.free_replaced, self.path)
        self._loop = loop
        self._script = Script(
            self, auth=auth, replies=replies, delay=delay, rset=rset, max_line=max_line
        )

    @property
    def unused_replies(self) -> list[Reply]:
        """The scripted replies that were never said, which a test may want to be none."""
        return self._script.unused_replies

    @classmethod
    def from_cli(cls: type[_H], parser: ArgumentParser, *args: str) -> _H:
        """Return the handler for ``aiosmtpd -c CLASS PATH [key=value ...]``.

        Misuse ends in ``parser.error``, before the port opens.
        """
        # aiosmtpd shows errors only, and a warning is for the user of its command.
        _log.setLevel(logging.WARNING)
        try:
            handler = cls.from_args(*args)
        except ValueError as error:
            parser.error(f"{cls.__name__}: {error}")
        # The command may become "nobody", to whom Python's own library is not readable
        # everywhere: names are looked up with these parts of it.
        for needed in ("encodings.idna", "concurrent.futures.thread"):
            import_module(needed)
        # For its own name aiosmtpd asks at each connection, and all sessions would wait for
        # a slow answer: it has one for all.
        socket.getfqdn = functools.cache(socket.getfqdn)
        socket.getfqdn()
        # For each read, asyncio asks malloc for 256 KiB. glibc has the kernel map and unmap
        # them, until it has seen a larger block freed: mallopt(3), M_MMAP_THRESHOLD.
        bytearray(1 << 20)
        handler._commit.start_writers()
        if handler._loop:  # aiosmtpd takes the loop that it finds
            asyncio.set_event_loop(import_module(handler._loop).new_event_loop())
        return handler

    @classmethod
    def from_args(cls: type[_H], *args: str, **options: Any) -> _H:
        """Return the handler for a command line's arguments; raises ValueError.

        The keywords *options* are those of the class, and override.
        """
        path, given = arguments.parse(args)
        return cls(path, **(given | options))

    async def handle_DATA(self, server: SMTP, session: Session, envelope: SMTPEnvelope) -> str:
        """Store the message, then return the reply: the hook of aiosmtpd."""
        content = envelope.original_content or b""
        mail = Mail(envelope_of(server, session, envelope, len(content)), content)
        return await self._commit.store(mail)

    async def handle_exception(self, error: Exception) -> str:
        """Return the reply to a command that *error* ended: the hook of aiosmtpd.

        aiosmtpd's own is 500, which tells a client to give the message up.
        """
        _log.error("%s: an error of this program; said %s", self.path, FAILED, exc_info=error)
        return FAILED

    def __dir__(self) -> Iterable[str]:
        # aiosmtpd reads all that stands here, at each connection, to find its hooks.
        return [*_public_names(type(self)), *vars(self)]

    @abstractmethod
    def reset(self) -> None:
        """Empty the store, keeping its folders."""

    @abstractmethod
    def _write(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none; raises OSError."""

    def _check_path(self) -> None:
        """Raise ValueError where :attr:`path` can't be a store of this kind."""
        path, parent = self.path, os.path.dirname(self.path)
        if not os.path.isdir(parent):
            raise ValueError(f"there is no folder {parent}: create it first")
        if self._is_folder:
            if os.path.lexists(path) and not os.path.isdir(path):
                raise ValueError(
                    f"{path} is no folder, and this handler keeps one: choose another"
                )
        elif os.path.isdir(path):
            raise ValueError(f"{path} is a folder: name a file in it, or another path")
        elif os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f"{path} is no regular file: choose another path")
        else:
            self._check_file()

    def _check_file(self) -> None:
        """Raise ValueError where the file at :attr:`path` holds something else."""
        raise NotImplementedError  # by a handler of a folder, which is not asked

    def _make_unique(
        self, add: Callable[[Sequence[Mail]], None], mails: Sequence[Mail]
    ) -> None:
        """Call *add*, with new identities as long as one of them is taken."""
        for _ in range(_MOST_CLASHES):
            try:
                return add(mails)
            except FileExistsError:
                mails = [mail.renamed() for mail in mails]
        return add(mails)


class MailFile(Handler):
    """One file that holds the latest message; each message replaces it atomically.

    ``aiosmtpd -n -c mailhandlers.MailFile latest.mail``, and ``tail -F latest.mail``.
    """

    def reset(self) -> None:
        """Remove the file."""
        files.remove([self.path])

    def _check_file(self) -> None:
        checks.mail_file(self.path)

    def _write(self, mails: Sequence[Mail]) -> None:
        # The others were replaced by the last before anybody could look.
        self._make_unique(self._replace, mails[-1:])

    def _replace(self, mails: Sequence[Mail]) -> None:
        (latest,) = mails
        temporary = f"{os.path.dirname(self.path)}/.{latest.envelope.id}.tmp"
        self._disk.replace(self.path, temporary, eml.encode(latest))


class MaildirSink(Handler):
    """A Maildir, as https://cr.yp.to/proto/maildir.html has it: any mail client opens it.

    A link to a folder is followed where the server's user or root made it. The folder that
    holds the store should be one that only its user can write.
    """

    _is_folder = True

    def reset(self) -> None:
        """Remove the messages in ``new`` and ``cur``."""
        files.empty_folders([f"{self.path}/new", f"{self.path}/cur"])

    def _write(self, mails: Sequence[Mail]) -> None:
        self._make_unique(self._add, mails)

    def _add(self, mails: Sequence[Mail]) -> None:
        # tmp comes last: without new, a reader would take it for a recipient's folder.
        folders = [f"{self.path}/{name}" for name in ("new", "cur", "tmp")]
        new_files = [
            files.NewFile(
                f"{self.path}/tmp/{mail.envelope.id}",
                [f"{self.path}/new/{mail.envelope.id}"],
                eml.encode(mail),
            )
            for mail in mails
        ]
        self._disk.add([self.path, *folders], new_files)


class MboxSink(Handler):
    """One mboxrd file, appended to under the locks that mail clients honour.

    A link is followed where the server's user or root made it, and a file with a second name
    (a hard link) is refused. An end that may not be ours goes to ``PATH.torn``, with a
    warning.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        self._file = appending.mbox_file(self.path, self._disk)

    def reset(self) -> None:
        """Empty the file, under its lock."""
        self._file.truncate()

    def _check_file(self) -> None:
        checks.growing_file(self.path, appending.MBOX)

    def _write(self, mails: Sequence[Mail]) -> None:
        pieces = [piece for mail in mails for piece in mbox.encode(mail)]
        self._file.append(pieces)


class JsonLines(Handler):
    """One JSON object a line, in a file or, for the path ``-``, on standard output.

    A link is followed where the server's user or root made it, and a file with a second name
    (a hard link) is refused.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        self._is_output = os.fspath(path) == "-"
        super().__init__(path, **options)
        self._file = appending.json_lines_file(self.path, self._disk)

    def reset(self) -> None:
        """Empty the file, under its lock; what standard output got is out of reach."""
        if not self._is_output:
            self._file.truncate()

    def _check_file(self) -> None:
        checks.growing_file(self.path, appending.JSON_LINES)

    def _write(self, mails: Sequence[Mail]) -> None:
        # One by one, as they are written: a long line needs no memory of its own.
        lines = (piece for mail in mails for piece in _json_line(mail))
        if self._is_output:
            descriptors.write_all(sys.__stdout__.fileno() if sys.__stdout__ else 1, lines)
        else:
            self._file.append(lines)

    def _check_path(self) -> None:
        if not self._is_output:
            super()._check_path()


class PerRecipientDir(Handler):
    """A folder for each recipient, with every message and a link to the latest.

    ``python -m http.server -d DIR`` then answers ``GET /bob@example.com/latest.eml``. A link
    to a folder is followed where the server's user or root made it.
    """

    _is_folder = True

    def reset(self) -> None:
        """Remove every message and every ``latest.eml``."""
        with suppress(FileNotFoundError):
            folders = [entry.path for entry in os.scandir(self.path) if entry.is_dir()]
            files.empty_folders(folders, ".eml")

    def _write(self, mails: Sequence[Mail]) -> None:
        self._make_unique(self._add, mails)

    def _add(self, mails: Sequence[Mail]) -> None:
        new_files = []
        latest: dict[str, Mail] = {}
        for mail in mails:
            # Two recipients that differ in case only share a folder: a dict names it once.
            folders = {f"{self.path}/{folder_name(r)}": mail for r in mail.envelope.rcpt_tos}
            latest |= folders
            name = f"{mail.envelope.id}.eml"
            # Made up here, where a reader that waits for anybody's mail has one folder to poll.
            temporary = f"{self.path}/.{name}.tmp"
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


def _json_line(mail: Mail) -> Iterator[bytes]:
    return json_lines.encode(mail, StoredMessage.parse(mail.content).summary())


@functools.cache
def _public_names(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]
