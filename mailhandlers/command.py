"""What a handler needs of the process of the stock command, ``aiosmtpd -c``.

Building a handler changes nothing outside it. Each function here changes the process, and
only :meth:`.handlers.Handler.from_cli` calls them.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from io import FileIO
from queue import Full, Queue
from typing import Any, Protocol

from aiosmtpd.smtp import SMTP

from .smtp import endpoints
from .smtp.servers import Connections


def show_warnings() -> None:
    """Let our warnings reach the user, with their date: aiosmtpd shows errors only.

    Where logging is set up already, as by the module of a subclass, it stays as it is.
    """
    logging.basicConfig(
        level=logging.ERROR,
        format="%(asctime)s %(levelname)s:%(name)s:%(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    logging.getLogger("mailhandlers").setLevel(logging.WARNING)


def import_while_readable() -> None:
    """Import what is needed later, as long as this process may read it.

    The command may become ``nobody``, to whom Python's own library is not readable
    everywhere: names are looked up with these parts of it, threads made, and messages
    interpreted.
    """
    import concurrent.futures.thread  # noqa: F401
    import encodings.idna  # noqa: F401

    from .message import record  # noqa: F401


def remember_own_name() -> None:
    """Ask for this host's name once.

    aiosmtpd asks at each connection, which takes 16 to 55 us where a file answers, and where a
    slow server does, all sessions would wait for it.
    """
    socket.getfqdn = functools.cache(socket.getfqdn)
    socket.getfqdn()


class Served(Protocol):
    """What the command's loop tells: a handler."""

    async def before_listening(self) -> None:
        """Get ready: the rights are dropped, the port is shut. OSError ends the command."""

    def begin(self, server: SMTP) -> None:
        """Set up *server*, for a client that isn't connected yet."""

    def after_listening(self, addresses: Sequence[str]) -> None:
        """Note that the port is open at *addresses*."""


def run_on_own_loop(module: str | None, served: Served) -> None:
    """Give aiosmtpd an event loop that tells *served* before and after it opens the port.

    aiosmtpd takes the loop that it finds. When it asks that for a server, it has dropped
    its rights, and no port is open yet: the one moment to look at the store as the user
    that will write it. When it is told to end, by SIGINT or SIGTERM (under Windows Ctrl-C or
    Ctrl-Break), it waits for the server to be closed: the moment to let what is being stored
    be answered.
    *module* is the library of the loop, asyncio for None.
    """
    other = import_module(module or "asyncio").new_event_loop()
    # At its end the one of Windows has no loop woken up by signals: not later than here.
    other.close()
    loop_class = type(other)

    class CommandLoop(loop_class):  # type: ignore[misc, valid-type]
        """The loop of the command."""

        async def create_server(
            self, factory: Any, host: str | None = None, port: int | None = None, **others: Any
        ) -> _Listening:
            """Open the port, or end the command with one sentence."""
            try:
                await served.before_listening()
            except OSError as error:
                sys.exit(f"aiosmtpd: {error.filename}: {error.strerror}: {_PATH_ADVICE}")

            def begin() -> SMTP:
                server: SMTP = factory()
                served.begin(server)
                return server

            connections = Connections(begin, others.pop("ssl", None))
            host = host and host.strip("[]")  # as -l [::1]:8025 has it
            try:
                server: asyncio.Server = await super().create_server(
                    connections.begin, host=host, port=port, **others
                )
            except OSError as error:
                other = f"{error}: listen elsewhere: -l HOST:PORT"
                advice = _PORT_ADVICE.get(error.errno or 0, other)
                sys.exit(f"aiosmtpd: can't listen at {host}:{port}: {advice}")
            served.after_listening([endpoints.shown(s.getsockname()) for s in server.sockets])
            for number in _ENDS:  # aiosmtpd sees to SIGINT alone
                self.add_signal_handler(number, self.stop)
            return _Listening(server, connections)

        def add_signal_handler(
            self, number: int, callback: Callable[..., object], *args: object
        ) -> None:
            """Call *callback* at a signal, between two steps of the loop."""
            try:
                super().add_signal_handler(number, callback, *args)
            except NotImplementedError:
                # Windows: a KeyboardInterrupt would come in the middle of a step, as one that
                # stores. This comes in this thread, when asyncio has woken it up.
                signal.signal(number, lambda *_: self.call_soon(callback, *args))

    asyncio.set_event_loop(CommandLoop())


class _Listening:
    """The server of the command's loop: what aiosmtpd calls of it at the end."""

    def __init__(self, server: asyncio.Server, connections: Connections) -> None:
        self._server = server
        self._connections = connections

    def close(self) -> None:
        """Close the port. A second signal ends the command at once from now on."""
        loop = self._server.get_loop()
        for number in _ENDS:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        self._server.close()

    async def wait_closed(self) -> None:
        """Let what is being stored be answered, and close all connections."""
        await self._connections.end()


_PATH_ADVICE = "name a path that the server's user may write, or change its permissions"
_PORT_ADVICE = {  # Windows has no text for the first
    errno.EADDRINUSE: "Address already in use: "
    "stop what listens there, or take another port: -l HOST:PORT",
    errno.EACCES: "Permission denied: "
    "ports below 1024 are root's: take another, -l HOST:PORT, or start as root",
}
_ENDS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")  # Windows' Ctrl-Break
    if hasattr(signal, name)
]


class Terminal:
    """Lines on standard error, formed and written by a thread of their own.

    A terminal may stand still (Ctrl-S), and a pipe may be full: only this thread waits.
    What can't be shown in time is counted instead.
    """

    def __init__(self) -> None:
        # Without its buffer, whose lock the end of the program would wait for.
        buffer: Any = sys.stderr.buffer
        raw: FileIO = getattr(buffer, "raw", buffer)  # with "python -u" there is none
        self._encoding, self._write = sys.stderr.encoding, raw.write
        self._lines: Queue[Callable[[], str]] = Queue(_MOST_LINES)
        self._missed = 0
        threading.Thread(target=self._show, name="mailhandlers-terminal", daemon=True).start()

    def say(self, line: Callable[[], str]) -> None:
        """Show what *line* returns, which this calls in the other thread."""
        try:
            self._lines.put_nowait(line)
        except Full:
            self._missed += 1

    def _show(self) -> None:
        while True:
            line = self._lines.get()
            missed, self._missed = self._missed, 0
            text = f"... {missed} lines are left out here\n" if missed else ""
            data = f"{text}{line()}\n".encode(self._encoding, "backslashreplace")
            try:
                while data:
                    data = data[self._write(data) :]
            except OSError:  # nobody reads any more
                return


_MOST_LINES = 1000
