"""Servers in a thread: a socket, its connections, and an end at which nobody loses a reply."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any
from weakref import WeakSet

from aiosmtpd.smtp import SMTP

from . import private
from .loops import LOOP
from .tls import tls_first

_PAUSE = 0.1
"""The seconds in which no client is taken, where the system has no more to give."""
LONGEST_ANSWER = 15.0
"""The seconds that a stop waits: a message whose store is locked is answered after 10."""


class Connections:
    """The connections of a server, each of which *make_smtp* makes, and how they end.

    *tls* is for servers that speak it from the first octet (RFC 8314 section 3.3).
    """

    def __init__(
        self, make_smtp: Callable[[], SMTP], tls: ssl.SSLContext | None = None
    ) -> None:
        self._make_smtp = make_smtp
        self._tls = tls
        self._all: WeakSet[SMTP] = WeakSet()
        self._tls_first: WeakSet[private.TLSFirst] = WeakSet()
        self._is_over = False

    def begin(self) -> asyncio.BaseProtocol:
        """Return the protocol of one more client."""
        if self._is_over:  # the client came while the port was being closed
            return _Refusal()
        connection = self._make_smtp()
        self._all.add(connection)
        if self._tls is None:
            return connection
        client = tls_first(connection, self._tls)
        self._tls_first.add(client)
        return client

    async def end(self) -> None:
        """Let what is being stored be answered, and close all connections.

        No further command is carried out. Who isn't answered after 15 s is cut off, and who
        doesn't read its replies at once.
        """
        self._is_over = True
        await asyncio.sleep(0)  # what has begun is connected in this round
        for client in self._tls_first:
            client.give_up()
        sessions = [task for c in self._all if (task := private.end_session(c))]
        for transport in self._transports():
            if transport.get_write_buffer_size():
                transport.abort()
        if sessions:
            await asyncio.wait(sessions, timeout=LONGEST_ANSWER)
        self.abort()
        # aiosmtpd cancels the session of a connection that is lost.
        await asyncio.gather(*sessions, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    def abort(self) -> None:
        """Hang up. To close a connection would wait for a client with TLS."""
        for transport in self._transports():
            transport.abort()

    def _transports(self) -> list[Any]:
        """Return those of the sockets: a layer of TLS that is closed can't be aborted."""
        if self._tls is None:
            found = [private.transport_of(connection) for connection in self._all]
        else:
            found = [client.transport for client in self._tls_first]
        return [transport for transport in found if transport is not None]


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.abort()


class Server:
    """A server of connections that *make_smtp* makes, on a socket that listens already.

    *tls* is for servers that speak it from the first octet (RFC 8314 section 3.3).
    """

    def __init__(
        self,
        make_smtp: Callable[[], SMTP],
        listening: socket.socket,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Open it. Raises OSError or RuntimeError where there can be no thread, or no loop."""
        self._connections = Connections(make_smtp, tls)
        self._beginning: set[asyncio.Task[None]] = set()
        self._listening = listening
        with ExitStack() as undone:
            undone.callback(self._listening.close)
            self._thread = LOOP.hold()
            undone.callback(LOOP.release)
            self.check_caller()
            # The socket takes clients already. To wait for the loop takes 25 us of 180, and
            # tells what fails, instead of leaving clients without a word.
            self._thread.run(self._listen())
            undone.pop_all()

    @property
    def failure(self) -> str | None:
        """Why it serves nobody any more, in a sentence, or None."""
        return self._thread.failure

    def check_caller(self) -> None:
        """Raise RuntimeError in a hook: it would wait for its own thread for ever."""
        self._thread.check_caller()

    def stop(self) -> None:
        """Close the port, let what is being stored be answered, close all connections.

        Raises RuntimeError where its thread has ended before. Call :meth:`check_caller` first.
        """
        try:
            self._thread.run(self._close())
        finally:
            self._listening.close()
            LOOP.release()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        self._go_on()
        self._is_told = loop.create_future()
        self._open = loop.create_task(self._stay_open())

    async def _stay_open(self) -> None:
        """Keep the port open until a stop, or until the thread ends and cancels all tasks."""
        try:
            await self._is_told
        except asyncio.CancelledError:
            self._connections.abort()
            raise
        finally:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()

    def _go_on(self) -> None:
        if self._listening.fileno() >= 0:  # it isn't closed
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Take a client. asyncio's own Server keeps no hold of one whose session begins."""
        if self._thread.is_full():
            self._pause()
            return
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # too many files are open
            self._pause()
            return
        client.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._begin(client))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _pause(self) -> None:
        """Take no client for a while: to be asked at once again helps nobody."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        loop.call_later(_PAUSE, self._go_on)

    async def _begin(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(self._connections.begin, client)

    async def _close(self) -> None:
        self._is_told.set_result(None)
        await self._open
        await asyncio.sleep(0)  # one that is cancelled before it began leaves its socket open
        for task in (beginning := [*self._beginning]):
            task.cancel()
        await asyncio.gather(*beginning, return_exceptions=True)
        await self._connections.end()


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at *host* and *port*, 0 for any free one.

    Raises OSError.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address, family=family, backlog=100)


_NOBODY = "451 4.3.2 No test catches mail now, try again later"


class _Refusing:
    """A handler that takes no mail."""

    async def handle_MAIL(self, *_: Any) -> str:
        """Refuse the mail: the hook of aiosmtpd."""
        return _NOBODY


class Address:
    """A socket's host and port, where mail gets 451 as long as no server takes its place."""

    host: str
    port: int

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        self.host, self.port = bound.getsockname()[:2]
        self._nobody: Server | None = None

    def __enter__(self) -> Address:
        self._socket.listen(100)
        self.give_back()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.lend().close()
        finally:
            self._socket.close()

    def lend(self) -> socket.socket:
        """Return a socket that listens here, until :meth:`give_back` is called."""
        if self._nobody is None:
            raise RuntimeError(f"another server listens at {self.host}:{self.port} already")
        nobody, self._nobody = self._nobody, None
        nobody.stop()
        return self._socket.dup()

    def give_back(self) -> None:
        """Refuse mail again."""
        self._nobody = Server(_refusing_smtp, self._socket.dup())


def _refusing_smtp() -> SMTP:
    return SMTP(_Refusing(), hostname="mailcatcher", enable_SMTPUTF8=True)


def send_at_once(server: SMTP) -> None:
    """Turn off Nagle's algorithm for the client of *server*: it costs 40 ms a session.

    asyncio does so for sockets alone that say they are TCP's: not for those of
    :func:`socket.create_server`, and for none under Windows.
    """
    assert server.transport is not None
    client = server.transport.get_extra_info("socket")
    if client.proto != socket.IPPROTO_TCP:
        with suppress(OSError):  # a Unix socket, or a client that has gone by now
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
