"""The five handlers, and what they share.

A handler says what to write and where; :mod:`mailhandlers.writing` knows how and when.
"""

from __future__ import annotations

import logging
import os
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from . import command, options
from .formats import eml, json_lines, mbox
from .formats.eml import printable
from .formats.folder_names import folder_name
from .identity import Identity
from .mail import Mail
from .reading import summary
from .reading.message import StoredMessage
from .smtp.facts import envelope_of
from .smtp.replies import Reply
from .smtp.script import Script
from .writing import appending, checks, descriptors, files
from .writing.commit import GroupCommit
from .writing.pointers import Pointer
from .writing.store import FAILED, Store

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")
_H = TypeVar("_H", bound="Handler")

_MOST_CLASHES = 10
_HEADERS = 1 << 16


class Handler(ABC):
    """What every handler does: take a message, reply 250 when it is on disk.

    Messages that arrive while others are being written are written together next, with
    one lock and one fsync for all. The event loop never waits for a disk.
    """

    _is_folder: ClassVar[bool] = False
    _needs_no_lock: ClassVar[bool] = False

    @options.as_keywords(options.Options)
    def __init__(self, path: str | os.PathLike[str], **keywords: Any) -> None:
        """Check that *path* can be a store; the first message makes it.

        The keywords are the fields of :class:`.options.Options`. Raises TypeError or
        ValueError in one sentence for the user.
        """
        chosen = options.check(**keywords)
        self.path = os.path.abspath(path)
        self._check_path()
        self._disk = files.Disk(sync=chosen.sync, mode=chosen.mode)
        self._commits = GroupCommit(
            Store(
                self.path,
                self._write,
                self._empty,
                self._disk.free_replaced,
                is_quick=self._needs_no_lock and not chosen.sync,
            )
        )
        self._options = chosen
        self._terminal: command.Terminal | None = None
        self._script = Script(self, chosen, self._commits.commit_reset)

    @property
    def unused_replies(self) -> list[Reply]:
        """The scripted replies that were never said, which a test may want to be none."""
        return self._script.unused_replies

    def replying(self, *replies: Reply) -> AbstractContextManager[None]:
        """Return a context in which *replies* are said, before any others.

        On connections that are made within it, and on those made after :meth:`hook_all`.
        """
        return self._script.replying(*replies)

    def hook_all(self) -> None:
        """Have :meth:`replying` reach all connections made from now on, at 2 us a command."""
        self._script.hook()

    @classmethod
    def from_cli(cls: type[_H], parser: ArgumentParser, *args: str) -> _H:
        """Return the handler for ``aiosmtpd -c CLASS PATH [key=value ...]``.

        Misuse ends in ``parser.error``, before the port opens.
        """
        command.show_warnings()
        try:
            handler = cls.from_args(*args)
        except ValueError as error:
            parser.error(f"{cls.__name__}: {error}")
        command.import_while_readable()
        command.remember_own_name()
        command.keep_freed_memory()
        command.run_on_own_loop(handler._options.loop, handler)
        return handler

    @classmethod
    def from_args(cls: type[_H], *args: str, **keywords: Any) -> _H:
        """Return the handler for a command line's arguments, which *keywords* override.

        Raises ValueError, and for keywords TypeError, in one sentence for the user.
        """
        path, given = options.parse(args)
        return cls(path, **(given | keywords))

    async def handle_DATA(self, server: SMTP, session: Session, envelope: SMTPEnvelope) -> str:
        """Store the message, then return the reply: the hook of aiosmtpd."""
        content = envelope.original_content or b""
        mail = Mail(envelope_of(server, session, envelope, len(content)), content)
        reply = await self.store(mail)
        if self._terminal is not None and reply.startswith("2"):
            self._terminal.say(partial(_arrival_line, mail))
        return reply

    async def store(self, mail: Mail) -> str:
        """Store *mail*; return the SMTP reply, which begins with 250 once it is stored.

        The place for a subclass to do more with a message: give it to the :meth:`store` of
        another handler, which keeps it under the same identity, or show it.
        """
        return await self._commits.commit(mail)

    async def handle_exception(self, error: Exception) -> str:
        """Return the reply to a command that *error* ended: the hook of aiosmtpd.

        aiosmtpd's own is 500, which tells a client to give the message up.
        """
        _log.error("%s: an error of this program; said %s", self.path, FAILED, exc_info=error)
        return FAILED

    def store_all(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none, as one batch; return when they are on disk.

        For mail that no session brought. It comes after what is being written, and is for
        other threads than the event loop's. Raises OSError.
        """
        self._commits.store(mails)

    def reset(self) -> None:
        """Empty the store, after what is being written; return when that is done.

        For other threads than the event loop's. Raises OSError.
        """
        self._commits.reset()

    def close(self) -> None:
        """Wait for what is being written, and end the thread that writes.

        A message that comes later starts it again. Without, it ends by itself when idle.
        """
        self._commits.close()

    async def before_listening(self) -> None:
        """Do what the command does as its final user, before the port is open.

        Raises OSError where the store can't be written.
        """
        self._prepare()
        if sys.platform == "linux":  # macOS's libraries don't survive a fork
            await self._commits.fork_writer()

    def after_listening(self, addresses: Sequence[str]) -> None:
        """Tell the user of the command where the port is open, as ``log=`` has it."""
        log = self._options.log
        if log == "yes" or (log == "auto" and sys.stderr.isatty()):
            self._terminal = terminal = command.Terminal()
            self._script.on_refusal = lambda text: terminal.say(lambda: _stamped(text))
            where = " and ".join(addresses)
            text = f"listening at {where}, keeping mail in {self.path} ({type(self).__name__})"
            terminal.say(lambda: _stamped(text))

    @abstractmethod
    def _prepare(self) -> None:
        """Make the store, empty, where there is none; raises OSError where none can be."""

    @abstractmethod
    def _empty(self) -> None:
        """Remove all messages, keeping the folders; raises OSError."""

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

    def _prepare(self) -> None:
        files.check_writable(os.path.dirname(self.path))
        self._disk.make_file(self.path)

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
    """A Maildir, as https://cr.yp.to/proto/maildir.html has it: any mail client opens it.

    A link to a folder is followed where the server's user or root made it. The folder that
    holds the store should be one that only its user can write.
    """

    _is_folder = True
    _needs_no_lock = True

    @property
    def _folders(self) -> list[str]:
        # tmp comes last: without new, a reader would take it for a recipient's folder.
        return [self.path, *(f"{self.path}/{name}" for name in ("new", "cur", "tmp"))]

    def _prepare(self) -> None:
        self._disk.make_folders(self._folders)

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


class MboxSink(Handler):
    """One mboxrd file, appended to under the locks that mail clients honour.

    A link is followed where the server's user or root made it, and a file with a second name
    (a hard link) is refused. An end that may not be ours goes to ``PATH.torn``, with a
    warning.
    """

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
    """One JSON object a line, in a file or, for the path ``-``, on standard output.

    A link is followed where the server's user or root made it, and a file with a second name
    (a hard link) is refused.
    """

    @options.as_keywords(options.Options)
    def __init__(self, path: str | os.PathLike[str], **keywords: Any) -> None:
        self.is_output = os.fspath(path) == "-"
        """Whether standard output takes the lines."""
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
    """A folder for each recipient, with every message and a link to the latest.

    ``python -m http.server -d DIR`` then answers ``GET /bob@example.com/latest.eml``. A link
    to a folder is followed where the server's user or root made it.
    """

    _is_folder = True

    def _prepare(self) -> None:
        self._disk.make_folders([self.path])

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


def _arrival_line(mail: Mail) -> str:
    envelope = mail.envelope
    subject = StoredMessage.parse(mail.content[:_HEADERS])["Subject"]
    people = f"{envelope.mail_from or '<>'} -> {', '.join(envelope.rcpt_tos)}"
    return _stamped(f"{people}: {subject or '(no subject)'} ({envelope.size:,} octets)")


def _stamped(text: str) -> str:
    """Return a line for the terminal, on which nothing in *text* acts."""
    return f"{datetime.now():%H:%M:%S} {printable(text)}"


def _json_line(mail: Mail) -> Iterator[bytes]:
    try:
        record = summary.summary(StoredMessage.parse(mail.content))
    except Exception:  # noqa: BLE001 - no content may make a server refuse a message
        _log.exception("%s can't be parsed; its line has its octets only", mail.envelope.id)
        record = dict.fromkeys(summary.KEYS)
    return json_lines.encode(mail, record)
