"""A server in a with block, and its inbox: for tests, scripts and notebooks."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import finalize

from aiosmtpd.smtp import SMTP

from . import options
from .handlers import Handler, MaildirSink
from .inbox.criteria import Unpack, Wanted
from .inbox.expecting import ExpectedNone
from .inbox.inbox import Inbox
from .message.visible import visible_line
from .smtp.dialogue import Dialogue, Recorder
from .smtp.replies import Reply, Replying
from .smtp.servers import Address, Server, listening_socket
from .smtp.tls import make_certificate

_TLS_WORDS = ("starttls", "required", "smtps")


class MailCatcher(Inbox):
    """An SMTP server in a ``with`` block, and the :class:`.Inbox` of what it caught.

    ``with MailCatcher() as mail:`` listens at a free port of 127.0.0.1. It keeps a Maildir in
    a temporary folder, which goes with the object, and does not wait for the disk.

    *handler* is a handler that stores elsewhere: ``MailCatcher(MboxSink("mail.mbox"))``.
    Without one, further keywords are the options of a handler, such as ``auth="eva:secret"``.
    *host* and *port* are where to listen; 0 takes a free port.

    *tls* is ``"starttls"`` (TLS is offered), ``"required"`` (no mail is taken without it),
    ``"smtps"`` (TLS from the first octet), or an :class:`ssl.SSLContext` that STARTTLS offers.
    For the three words, trustme makes a certificate, which clients trust by ``ca_file``.

    Besides the methods it has

    ``host`` (str), ``port`` (int)
        Where it listens. ``port`` is 0 before the first start, if none was given.
    ``handler`` (Handler)
        The handler that stores.
    ``path`` (str)
        The path of the store.
    ``sessions`` (list)
        One dialogue for each connection, oldest first, which goes on growing. Each has
        ``peer``, ``helo``, ``protocol``, ``tls`` and ``auth``, as an Envelope has, and
        ``commands``, a list of (``verb``, ``argument``, ``reply``).
    ``ca_file`` (str or None)
        The file with the certificate that clients are to trust; None unless *tls* is a word.

    Raises TypeError or ValueError, in one sentence that says what is wrong.
    """

    handler: Handler
    host: str
    port: int
    sessions: Recorder
    ca_file: str | None

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: str | ssl.SSLContext | None = None,
        **handler_options: Any,
    ) -> None:
        if not (handler is None or isinstance(handler, Handler)):
            raise TypeError(
                f"MailCatcher takes a handler, such as MaildirSink('inbox'), not {handler!r}"
            )
        if handler is not None and handler_options:
            raise TypeError(
                f"give {', '.join(handler_options)} to the handler that you made, "
                "or leave the handler out"
            )
        if not isinstance(host, str) or not host:
            raise TypeError(f"host is a name or an address such as '127.0.0.1', not {host!r}")
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 1 << 16:
            raise ValueError(f"port is a number from 0 (any free one) to 65535, not {port!r}")
        if not (tls is None or isinstance(tls, ssl.SSLContext) or tls in _TLS_WORDS):
            words = ", ".join(map(repr, _TLS_WORDS))
            raise ValueError(f"tls is {words} or an ssl.SSLContext, not {tls!r}")
        options.check(**handler_options)
        certificate = make_certificate(host) if isinstance(tls, str) else None
        folder = ""
        self._remove_folder: Callable[[], object] | None = None
        if handler is None or certificate is not None:
            # Its own folder, which goes with the object: the store outlives a stop.
            folder = tempfile.mkdtemp(prefix="mailcatcher-")
            self._remove_folder = finalize(self, shutil.rmtree, folder, ignore_errors=True)
        if handler is None:
            path = os.path.join(folder, "inbox")
            handler = MaildirSink(path, **{"sync": False, **handler_options})
        super().__init__(handler.path)
        self.handler = handler
        handler.hook_all(greets=True)
        self.host = host
        self.port = port
        self.sessions = Recorder()
        self.ca_file = None
        self._tls = tls if isinstance(tls, str) else "starttls"
        self._context = tls if isinstance(tls, ssl.SSLContext) else None
        if certificate is not None:
            self._context = certificate.context
            self.ca_file = os.path.join(folder, "ca.pem")
            Path(self.ca_file).write_bytes(certificate.ca_pem)
        self._server: Server | None = None
        self._address: Address | None = None

    def __enter__(self) -> MailCatcher:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            if self._remove_folder is not None:
                self._remove_folder()

    def start(self) -> None:
        """Open the port. When this returns, clients can connect.

        After :meth:`stop` the same port is opened again. Raises OSError if the port can't be
        opened, and RuntimeError if the server runs already or its thread can't.
        """
        if self._server is not None:
            raise RuntimeError(f"the server runs already, at {self.host}:{self.port}")
        if self._address is not None:
            listening = self._address.lend()
        else:
            listening = listening_socket(self.host, self.port)
        self.port = listening.getsockname()[1]
        smtps = self._context if self._tls == "smtps" else None
        try:
            self._server = Server(self._make_smtp, listening, smtps)
        except BaseException:
            if self._address is not None:
                self._address.give_back()
            raise

    def stop(self) -> None:
        """Close the port, let what is being stored be answered, and close all connections.

        Who has sent a whole message gets its reply, after its ``delay``, too: this waits for it
        up to 15 s. For a client that is not at its turn, or reads nothing, and for the delay of
        another command, it doesn't wait. The store and its messages stay.

        Raises RuntimeError if the server's thread has ended before, as by a SystemExit, and in
        that thread itself, which is that of a handler's hooks.
        """
        if self._server is not None:
            self._server.check_caller()
        with ExitStack() as ending:
            ending.callback(self.handler.close)
            if self._server is not None:
                if self._address is not None:
                    ending.callback(self._address.give_back)
                server, self._server = self._server, None
                server.stop()

    def expect_none(self, *, within: float = 1, **criteria: Unpack[Wanted]) -> ExpectedNone:
        """Return a context in which no mail may arrive: see :meth:`.Inbox.expect_none`.

        Raises RuntimeError where no server runs: that no mail came would tell nothing.
        """
        if self._server is None or self._server.failure is not None:
            failure = self._server and self._server.failure
            raise RuntimeError(
                f"no mail can come to {self.host}:{self.port}, and expect_none() would tell "
                f"nothing: {failure or 'the server was not started, or was stopped'}"
            )
        return super().expect_none(within=within, **criteria)

    def listen_at(self, address: Address) -> None:
        """Listen at *address* from the next :meth:`start` on: the fixture ``mailserver``'s."""
        self._address = address
        self.host, self.port = address.host, address.port

    @property
    def unused_replies(self) -> list[Reply]:
        """The scripted replies (list of Reply) that no client was given yet."""
        return self.handler.unused_replies

    def replying(self, *replies: Reply) -> Replying:
        """Give clients *replies* before others: in a ``with`` block, or until ``close()``.

        This begins at once, and lasts until the end of the block, or until the ``close()`` of
        what it returns.
        """
        return self.handler.replying(*replies)

    def _make_smtp(self) -> SMTP:
        starttls = None if self._tls == "smtps" else self._context
        server = self.sessions.smtp(
            self.handler,
            hostname="mailcatcher",  # else each connection asks for this host's name
            tls_context=starttls,
            require_starttls=self._tls == "required",
            enable_SMTPUTF8=True,
        )
        self.handler.begin(server)
        return server

    def explain(self) -> str:
        """Return who connected so far, for the text of a NoMessageError."""
        where = f"{self.host}:{self.port}"
        if self._server is not None and self._server.failure is not None:
            return f"nobody serves {where}: {self._server.failure}"
        if not self.sessions:
            return (
                f"nobody connected to {where}: does the program send there, or does its "
                "framework's test backend keep the mail (as Django's locmem, or Flask-Mail "
                "where TESTING is true)?"
            )
        count = len(self.sessions)
        clients = "one client" if count == 1 else f"{count} clients"
        return (
            f"{clients} connected to {where}; the last said: {_last_words(self.sessions[-1])}"
        )


def _last_words(dialogue: Dialogue) -> str:
    said = [
        f"{command.verb} {command.argument}".strip() + f" -> {command.reply}"
        for command in dialogue.commands
    ]
    return visible_line("; ".join(said) or "nothing")
