"""The fixture ``mailcatcher``: an SMTP server for one test, and its inbox.

pytest finds this module by its entry point; ``mailhandlers`` itself never imports it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from . import handlers
from .reading.inbox import Inbox
from .smtp.dialogue import Recorder
from .smtp.replies import Reply

_HANDLERS: dict[str, type[handlers.Handler]] = {
    kind.__name__: kind
    for kind in (
        handlers.MailFile,
        handlers.MaildirSink,
        handlers.MboxSink,
        handlers.JsonLines,
        handlers.PerRecipientDir,
    )
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option ``mailcatcher``."""
    parser.addini(
        "mailcatcher",
        "The handler of the mailcatcher fixture and its options, as on aiosmtpd's command "
        "line but without the path: MaildirSink, or JsonLines auth=any",
        type="args",
        default=["MaildirSink"],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker ``mailcatcher`` known."""
    config.addinivalue_line(
        "markers",
        "mailcatcher(*args, **options): the handler of the mailcatcher fixture, with options "
        'as strings of the command line or as keywords: mailcatcher("JsonLines", auth="any")',
    )


class MailCatcher(Inbox):
    """A running server on a free port of 127.0.0.1, and the inbox of what it stored."""

    host: str = "127.0.0.1"
    """Where the server listens."""
    port: int
    """The free port that it found."""
    handler: handlers.Handler
    """The handler that stores; its ``reset()`` empties the store."""
    sessions: Recorder
    """A :class:`.dialogue.Dialogue` for each connection, oldest first, as it is so far."""

    def __init__(self, handler: handlers.Handler, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(handler.path)
        self.handler = handler
        self._server = _Server(
            handler, self.host, 0, server_hostname="mailcatcher", tls_context=tls
        )
        self.sessions = self._server.sessions

    @property
    def unused_replies(self) -> list[Reply]:
        """The scripted replies that were never said."""
        return self.handler.unused_replies

    def start(self) -> None:
        """Start the server; on return its port is open."""
        self._server.start()
        self.port = self._server.port

    def stop(self) -> None:
        """Stop the server and end its threads."""
        self._server.stop()
        self.handler.close()


class _Server(Controller):
    """A controller that finds a free port, records its sessions and leaves nothing behind."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sessions = Recorder()

    def factory(self) -> SMTP:
        # Without the loop, SMTP makes one for the thread of the test, and leaves it open.
        return self.sessions.smtp(self.handler, loop=self.loop, **self.SMTP_kwargs)

    def _trigger_server(self) -> None:
        # The port is bound already, so there is no need to try it with a connection.
        self.port = cast("asyncio.Server", self.server).sockets[0].getsockname()[1]
        self._factory_invoker()


@pytest.fixture
def mailcatcher_tls() -> ssl.SSLContext | None:
    """Offer no STARTTLS: override this fixture to return the context that offers it."""
    return None


@pytest.fixture
def mailcatcher(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    mailcatcher_tls: ssl.SSLContext | None,
) -> Iterator[MailCatcher]:
    """Run an SMTP server for the test; the fixture is its inbox, with ``host`` and ``port``."""
    chosen: list[str] = request.config.getini("mailcatcher")
    marker = request.node.get_closest_marker("mailcatcher") or pytest.mark.mailcatcher.mark
    # Without a name, the marker adds options to the handler of the ini file.
    args = [*marker.args] if _names_handler(marker.args) else [*chosen, *marker.args]
    try:
        handler = _handler(tmp_path, *args, **marker.kwargs)
    except (TypeError, ValueError) as error:
        pytest.fail(f"mailcatcher: {error}", pytrace=False)
    catcher = MailCatcher(handler, mailcatcher_tls)
    catcher.start()
    try:
        yield catcher
    finally:
        catcher.stop()


def _names_handler(args: Sequence[str]) -> bool:
    return bool(args) and "=" not in args[0]


def _handler(
    folder: Path, name: str = "MaildirSink", *args: str, **options: Any
) -> handlers.Handler:
    if name not in _HANDLERS:
        raise ValueError(f"there is no handler {name!r}: choose from {', '.join(_HANDLERS)}")
    path = str(folder / "mailcatcher")
    return _HANDLERS[name].from_args(path, "sync=no", *args, **options)
