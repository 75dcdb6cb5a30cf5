"""Servers in a thread: one event loop for all of this process, as long as one runs.

With what a server needs beside its handler: a socket, a certificate, and an end at which
nobody loses a reply.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, closing, suppress
from importlib.util import find_spec
from selectors import DefaultSelector, SelectSelector
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakSet

from aiosmtpd.smtp import SMTP

from . import endpoints, private

if TYPE_CHECKING:
    import trustme

_T = TypeVar("_T")
_log = logging.getLogger("mailhandlers")
_PAUSE = 0.1
LONGEST_ANSWER = 15.0
"""The seconds that a stop waits: a message whose store is locked is answered after 10."""
LONGEST_HANDSHAKE = 5
"""The seconds that a handshake may take."""
MOST_TO_SELECT = 500
"""How many connections there are at once, where there is a limit: the others wait."""


class LoopThread:
    """An event loop in a thread of its own, until :meth:`end`.

    It may end before: a hook that raises SystemExit ends its loop, and so does what the system
    refuses to the loop. Then the clients and all who wait for an outcome would wait for ever:
    so it lets the clients go, and :meth:`run` raises the reason.
    """

    def __init__(self) -> None:
        """Start it. Raises OSError or RuntimeError where the system has no more to give."""
        self.failure: str | None = None
        """Why it has ended, in a sentence, or None."""
        self._lock = threading.Lock()
        self._awaited: set[Future[Any]] = set()
        self._selector = DefaultSelector()
        # Not what asyncio, or the user's policy, has for all: under Windows that has no
        # add_reader, and takes a socket only once.
        self._loop = asyncio.SelectorEventLoop(self._selector)
        # A daemon: a program that forgets to stop its server can end.
        self._thread = threading.Thread(
            target=self._live, name="mailhandlers-server", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run *coroutine* in the loop, and return or raise what it does.

        Raises RuntimeError where the thread has ended, or ends meanwhile.
        """
        with self._lock:
            if self.failure is not None:
                coroutine.close()
                raise RuntimeError(self.failure)
            outcome = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._awaited.add(outcome)
        try:
            return outcome.result()
        except CancelledError:
            raise RuntimeError(self.failure) from None
        finally:
            self._awaited.discard(outcome)

    def is_full(self) -> bool:
        """Tell whether one more connection would be one too many for the system.

        Where there is nothing newer than select(2), as under Windows, its 513th ends the loop.
        """
        is_old = isinstance(self._selector, SelectSelector)
        return is_old and len(self._selector.get_map()) >= MOST_TO_SELECT

    def end(self) -> None:
        """End it, and wait for that."""
        if self.failure is None:
            self.run(self._loop.shutdown_default_executor())
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def check_caller(self) -> None:
        """Raise RuntimeError in this thread itself, in which :meth:`run` never returns."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "the server's own thread can't wait for it: start and stop it in another"
            )

    def _live(self) -> None:
        reason = "its loop was stopped"
        try:
            self._loop.run_forever()
        except BaseException as error:
            reason = repr(error)
            raise
        finally:
            with self._lock:
                self.failure = f"the server's thread has ended: {reason}"
            try:
                with closing(_cancel_all()) as last:
                    self._loop.run_until_complete(last)
            finally:
                self._loop.close()
                for outcome in [*self._awaited]:
                    if not outcome.done():
                        outcome.set_exception(RuntimeError(self.failure))


async def _cancel_all() -> None:
    """Cancel all other tasks of this loop: asyncio.Runner does so, of Python 3.11."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_PAUSE)
    await asyncio.sleep(0)  # the loop closes the sockets in its next round


class SharedLoop:
    """One :class:`LoopThread` for all, from the first :meth:`hold` to the last release.

    To start a thread and a loop takes 0.3 ms: tests that hold it for a session save that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._thread: LoopThread | None = None

    def hold(self) -> LoopThread:
        """Return a loop that runs until it is released as often as it was held.

        In place of one whose thread has ended there is a new one from then on.
        """
        with self._lock:
            if self._thread is None or self._thread.failure is not None:
                self._thread = LoopThread()
            self._holders += 1
            return self._thread

    def release(self) -> None:
        """Let the loop end, and wait for that, if nobody else holds it."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._thread is not None:
                thread, self._thread = self._thread, None
                thread.end()


LOOP = SharedLoop()
"""The loop of all servers of this process."""


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
        tls_first = private.TLSFirst(connection, self._tls, LONGEST_HANDSHAKE, _tell_failure)
        self._tls_first.add(tls_first)
        return tls_first

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


class Certificate(NamedTuple):
    """What a server shows, and what its clients need to trust it."""

    context: ssl.SSLContext
    """For the server."""
    ca_pem: bytes
    """The authority's certificate, for clients: ``SSL_CERT_FILE`` and the like."""


def make_certificate(host: str) -> Certificate:
    """Return a certificate for *host*, localhost and the addresses of loopback.

    Raises ValueError in one sentence where trustme is missing.
    """
    if not find_spec("trustme"):
        raise ValueError("a certificate is made by trustme: pip install 'mailhandlers[tls]'")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = dict.fromkeys([host, "localhost", "127.0.0.1", "::1"])
    _authority().issue_cert(*names).configure_cert(context)
    return Certificate(context, _authority().cert_pem.bytes())


@functools.cache
def _authority() -> trustme.CA:
    """Return this process's authority: to make one takes 3 ms."""
    import trustme

    return trustme.CA()


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


def limit_starttls(server: SMTP) -> None:
    """Give the handshake of STARTTLS its time on this connection, and tell when it fails."""
    private.limit_starttls(server, LONGEST_HANDSHAKE, _tell_failure)


def _tell_failure(peer: object, error: BaseException) -> None:
    """Log that the handshake with *peer*, a socket's peer name, failed with *error*."""
    if isinstance(error, ssl.SSLError) and error.reason:
        reason = error.reason.lower().replace("_", " ")
    elif isinstance(error, (asyncio.TimeoutError, ConnectionAbortedError)):  # asyncio's own
        reason = f"the handshake took longer than {LONGEST_HANDSHAKE} s"
    else:
        reason = "the client hung up"
    _log.warning("no TLS with %s: %s", endpoints.shown(peer), reason)
