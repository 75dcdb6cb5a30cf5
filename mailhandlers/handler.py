"""What the handlers share: the command line, the hooks of aiosmtpd, the queue.

A handler names a store, which knows where and how; :mod:`mailhandlers.commit` knows when, and
who writes.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from abc import ABC
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from . import command, options
from .commit import Commits
from .disk import files
from .mail import Mail, is_unique_name
from .message.message import StoredMessage
from .message.visible import visible_line
from .smtp.dialogue import note_told
from .smtp.facts import envelope_of
from .smtp.replies import Reply, Replying
from .smtp.script import Script, Settings
from .stores.folder import FolderStore
from .stores.store import Store, absolute
from .web.process import PageProcess

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")
_H = TypeVar("_H", bound="Handler")

_FAILED = "451 4.3.0 Local error in processing, try again later"  # storing has its own
_HEADERS = 1 << 16


class Handler(ABC):
    """What every handler does: it takes a message, and replies 250 when it is on disk.

    Messages that arrive while others are being written are written together afterwards, with
    one lock and one fsync for all. The event loop writes them while the disk is quick; else a
    thread does.

    ``path`` (str) is the absolute path of the store.
    """

    _store_class: ClassVar[type[Store]]

    @options.as_keywords(options.Options)
    def __init__(self, path: str | os.PathLike[str], **keywords: Any) -> None:
        """Check that *path* can be a store; the first message makes it.

        Raises TypeError or ValueError, in one sentence that says what is wrong and what to do.
        """
        chosen = options.check(**keywords)
        self.path = absolute(path)
        self._store = self._make_store(chosen)
        self._store.check()
        self._commits = Commits(self._store, is_quick=not chosen.sync)
        self._options = chosen
        self._terminal: command.Terminal | None = None
        self._page: PageProcess | None = None
        self._script = Script(self, chosen.fill(Settings), self._commits.commit_reset)

    @property
    def unused_replies(self) -> list[Reply]:
        """The scripted replies (list of Reply) that no client was given yet."""
        return self._script.unused_replies

    def replying(self, *replies: Reply) -> Replying:
        """Give clients *replies* before others: in a ``with`` block, or until ``close()``.

        This begins at once, and lasts until the end of the block, or until the ``close()`` of
        what it returns. It reaches connections that are made meanwhile, and those that were
        made after :meth:`hook_all`.
        """
        return self._script.replying(*replies)

    def hook_all(self, *, greets: bool = False) -> None:
        """Have :meth:`replying` reach all connections that are made from now on.

        It costs 2 us a command. A MailCatcher does this by itself, and with *greets*: it calls
        :meth:`begin` for each connection.
        """
        self._script.greets = greets
        self._script.hook()

    def begin(self, server: SMTP) -> None:
        """Set up *server*, for a client that isn't connected yet: it may not be greeted.

        A MailCatcher and the command call this; a Controller of aiosmtpd doesn't.
        """
        self._script.begin(server)

    @classmethod
    def from_cli(cls: type[_H], parser: ArgumentParser, *args: str) -> _H:
        """Return the handler for ``aiosmtpd -c CLASS PATH [key=value ...]``.

        The aiosmtpd command calls this. It changes the process: programs of your own make the
        handler by its class. A mistake ends in ``parser.error``, before the port opens.
        """
        command.show_warnings()
        try:
            handler = cls.from_args(*args)
            if (settings := handler._options.page) is not None:
                handler._page = PageProcess(handler.path, settings)
        except ValueError as error:
            parser.error(f"{cls.__name__}: {error}")
        command.import_while_readable()
        command.remember_own_name()
        handler._script.greets = True
        command.run_on_own_loop(handler._options.loop, handler)
        return handler

    @classmethod
    def from_args(cls: type[_H], *args: str, **keywords: Any) -> _H:
        """Return the handler for *args*, a command line's ``PATH [key=value ...]``.

        *keywords* are options in Python, and override those of *args*. Raises ValueError or
        TypeError, in one sentence that says what is wrong and what to do.
        """
        path, given = options.parse(args)
        return cls(path, **(given | keywords))

    async def handle_DATA(self, server: SMTP, session: Session, envelope: SMTPEnvelope) -> str:
        """Store the message, then return the SMTP reply. aiosmtpd calls this."""
        content = envelope.original_content or b""
        mail = Mail(envelope_of(server, session, envelope, len(content)), content)
        reply = await self.store(mail)
        if self._terminal is not None:
            self._terminal.say(partial(_arrival_line, mail, reply))
            note_told(server)
        return reply

    async def store(self, mail: Mail) -> str:
        """Store *mail* (a Mail), and return the SMTP reply, which is ``250 OK`` if that worked.

        A subclass may override this to do more with each message: call ``super().store(mail)``
        to store it, and the ``store`` of another handler to store it there, too, with the same
        id.
        """
        return await self._commits.commit(mail)

    async def handle_exception(self, error: Exception) -> str:
        """Return the SMTP reply to a command that failed with *error*. aiosmtpd calls this.

        The reply is 451, "try again later". aiosmtpd's own would be 500, for which a client
        gives the message up.
        """
        _log.error("%s: an error of this program; said %s", self.path, _FAILED, exc_info=error)
        return _FAILED

    def __dir__(self) -> Iterable[str]:
        # aiosmtpd reads each attribute that this names, at each connection, to find its
        # hooks: with those of object and the private ones that takes 24 us more, of 850.
        self._script.check_greeting()
        return [*_public_names(type(self)), *vars(self)]

    def store_all(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none, and return when they are on disk.

        This is for mail that came through no session, such as a copy. It waits, so don't call
        it in the thread of the event loop. Raises OSError if they can't be stored.

        A message of another program may claim any id, and an id is the name of a file: one
        that is no unique name as Maildirs have it is replaced by a new one.
        """
        if mails:
            self._commits.store(
                [mail if is_unique_name(mail.envelope.id) else mail.renamed() for mail in mails]
            )

    def reset(self) -> None:
        """Remove all messages, and return when that is done.

        It waits, so don't call it in the thread of the event loop. Raises OSError if the store
        can't be emptied.
        """
        self._commits.reset()

    def close(self) -> None:
        """Wait for what is being written, and end the thread that writes.

        A message that comes later starts it again. If you don't call this, the thread ends
        after two seconds without a message.
        """
        self._commits.close()

    async def before_listening(self) -> None:
        """Make the store, and start the process of the page. The command calls this.

        It does so as the user that the server runs as, before the port is open. Raises OSError
        if the store can't be written.
        """
        self._store.prepare()
        if self._page is not None:
            self._page.take_rights()

    def after_listening(self, addresses: Sequence[str]) -> None:
        """Print where the server listens, if ``log=`` says so. The command calls this."""
        if self._page is not None:  # its address may hold a token that stands nowhere else
            print(f"{self.path} is shown at {self._page.address}", file=sys.stderr, flush=True)
        log = self._options.log
        if log == "yes" or (log == "auto" and sys.stderr.isatty()):
            self._terminal = terminal = command.Terminal()
            self._script.on_refusal = lambda peer, text: terminal.say(
                partial(_stamped, f"{peer} refused {text}")
            )
            where = " and ".join(addresses)
            text = f"listening at {where}, keeping mail in {self.path} ({type(self).__name__})"
            terminal.say(lambda: _stamped(text))

    def _make_store(self, chosen: options.Options) -> Store:
        disk = files.Disk(sync=chosen.sync, mode=chosen.mode)
        if chosen.keep is None:
            return self._store_class(self.path, disk)
        if not issubclass(self._store_class, FolderStore):
            raise ValueError(f"keep= is for folders: {self._store_class.instead_of_keep}")
        return self._store_class(self.path, disk, chosen.keep)  # type: ignore[arg-type] # read already


@functools.cache
def _public_names(handler_class: type) -> list[str]:
    return [name for name in dir(handler_class) if not name.startswith("_")]


def _arrival_line(mail: Mail, reply: str) -> str:
    envelope = mail.envelope
    subject = StoredMessage.parse(mail.content[:_HEADERS])["Subject"]
    people = f"{envelope.mail_from or '<>'} -> {', '.join(envelope.rcpt_tos)}"
    fate = "" if reply.startswith("2") else f", refused: {reply}"
    return _stamped(
        f"{envelope.id} {envelope.peer} "
        f"{people}: {subject or '(no subject)'} ({envelope.size:,} octets){fate}"
    )


def _stamped(text: str) -> str:
    """Return a line for the terminal, on which nothing in *text* acts."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S} {visible_line(text)}"
