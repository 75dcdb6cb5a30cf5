"""All that is private in aiosmtpd and asyncio, and used here: one function a need.

The stock command makes its servers itself, so that a hook gets one that is set up already.
Each function says what breaks when a name is gone, and a test goes through :data:`NEEDS`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, AnyStr
from weakref import WeakSet

from aiosmtpd.smtp import TLSSetupException

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP

TellFailure = Callable[[object, BaseException], None]
"""What is called with the peer and the error of a handshake that failed."""
_paused: WeakSet[SMTP] = WeakSet()
_PATH = re.compile(r"\s*<([^<>]+)>(?:\s+(.*))?", re.DOTALL)

NEEDS = {
    "_auth_require_tls": "AUTH without TLS",
    "_auth_required": "530 before a login",
    "_auth_methods": "the names of AUTH's mechanisms in any case, and CRAM-MD5",
    "_reader": "AUTH without a password in the log, max_line, recorded sessions, sendmail -bs",
    "_reader._limit": "max_line, and long tokens for AUTH",
    "_reader._waiter": "a server that stops and answers what is being stored",
    "_handler_coroutine": "a server that stops and leaves no task",
    "_smtp_methods": "a limit for the handshake of STARTTLS, and replies to it and before DATA",
    "_getparams": "the parameters of DSN, and AUTH=, of MAIL and RCPT",
    "_getaddr": "addresses such as a@x..org",
}
"""What a server keeps for itself, and what is lost without."""


def take_auth_in_clear(server: SMTP, allowed: bool = True) -> None:
    """Let *server* take AUTH without TLS, or not; without this a client gets 538."""
    server._auth_require_tls = not allowed


def require_login(server: SMTP) -> None:
    """Have *server* answer 530 before a login to all that RFC 4954 section 6 has it for."""
    server._auth_required = True


def let_in_tokens(server: SMTP, longest: int) -> None:
    """Let in lines of *longest* octets for AUTH; those of a message are as long as before.

    Without this a token of Microsoft's gets ``500 Command line too long``.
    """
    limits = server.command_size_limits.copy()  # one for all connections, until here
    limits["AUTH"] = longest
    server.command_size_limits = limits
    _let_in_lines(server, longest)


def offer_mechanisms(server: SMTP, more: Iterable[str]) -> list[str]:
    """Return the mechanisms that *server* takes by now in any case: its own, and *more*.

    *more* are for a hook to carry out. PLAIN comes first: some clients try the first alone.
    Without this ``AUTH plain`` gets 504, and so do *more*.
    """
    server._auth_methods = _AnyCase(server._auth_methods)
    for name in more:
        server._auth_methods.setdefault(name, None)
    return sorted(server._auth_methods, key=lambda name: (name != "PLAIN", name))


async def read_line(server: SMTP) -> bytes:
    """Return the next line of the client of *server*.

    ``SMTP.challenge_auth`` would log a line that is no base64, and it may be a password.
    Raises ValueError when the line is too long, of which no more can be read.
    """
    line: bytes = await server._reader.readline()
    return line


def let_in_lines(server: SMTP, longest: int) -> None:
    """Let in lines of *longest* octets on this connection, before and after STARTTLS.

    Without this the message gets ``500 Line too long``.
    """
    server.line_length_limit = longest
    _let_in_lines(server, longest)


def let_in_parameters(server: SMTP, names: Iterable[str]) -> None:
    """Let MAIL and RCPT have parameters called *names*, which hooks and envelope then get.

    Without this they get ``555 parameters not recognized``.
    """
    accepting = partial(_other_params, type(server)._getparams, server, names)
    server._getparams = accepting  # type: ignore[method-assign]


def let_in_addresses(server: SMTP, is_path: Callable[[str], bool] | None) -> None:
    """Let in whatever stands in angle brackets for an address, as ``<a@x..org>``.

    With *is_path* only what that lets pass; the rest gets 553. Without this all that Python's
    own parser refuses gets 553, and some an exception.
    """
    accepting = partial(_any_address, type(server)._getaddr, is_path, server)
    server._getaddr = accepting  # type: ignore[method-assign]


def before_command(server: SMTP, verb: str, ask: Callable[[], Awaitable[str | None]]) -> None:
    """Await *ask* before each command *verb*; what it returns, if not None, is said instead.

    That is for commands, and moments of them, that have no hook: STARTTLS, and DATA before 354.
    Without this they can't be scripted.
    """
    method = server._smtp_methods[verb]

    @wraps(method)  # HELP reads its attributes
    async def asked(arg: str) -> None:
        status = await ask()
        if status is None:
            await method(arg)
        else:
            await server.push(status)

    server._smtp_methods[verb] = asked


def verbs(server: SMTP) -> set[str]:
    """Return the commands that *server* knows."""
    return set(server._smtp_methods)


def greet(server: SMTP, greeting: Callable[[str], Awaitable[str]]) -> None:
    """Say what *greeting* makes of the usual greeting, on a connection that isn't made yet."""
    others = vars(server).get("push")

    async def say_first(status: str) -> None:
        del server.push  # from now on it is the class's, unless somebody listens
        if others is not None:
            server.push = others  # type: ignore[method-assign]
        await server.push(await greeting(status))

    server.push = say_first  # type: ignore[method-assign, assignment]


def once_content_begins(server: SMTP, end: Callable[[], Awaitable[object]]) -> None:
    """Await *end*, which raises, when the next line of the client of *server* is there."""
    reader: asyncio.StreamReader = server._reader
    read = reader.readuntil

    async def readuntil(separator: bytes = b"\n") -> bytes:
        line = await read(separator)
        await end()
        return line

    reader.readuntil = readuntil  # type: ignore[assignment]


def overhear(server: SMTP, hear: Callable[[bytes | None], None]) -> None:
    """Call *hear* with each line of the client of *server*, None for one that is too long.

    To be called once a connection is made. Lines that no hook sees are heard too, as those
    refused before any command. Without this no session is recorded.
    """
    reader: asyncio.StreamReader = server._reader
    read = reader.readuntil

    async def readuntil(separator: bytes = b"\n") -> bytes:
        try:
            line = await read(separator)
        except asyncio.LimitOverrunError:
            hear(None)
            raise
        hear(line)
        return line

    reader.readuntil = readuntil  # type: ignore[assignment]


def listen(
    server: SMTP, hear: Callable[[bytes | None], None], note: Callable[[str], None]
) -> None:
    """Call *hear* as :func:`overhear` does, and *note* with each reply, before it is said.

    To be called before the connection is made.
    """

    async def push_noted(status: AnyStr) -> None:
        if first:
            overhear(server, first.pop())
        note(status if isinstance(status, str) else status.decode())
        await type(server).push(server, status)

    first = [hear]
    server.push = push_noted  # type: ignore[method-assign]


async def pause(server: SMTP, seconds: float) -> None:
    """Wait before *server* says more, for as long as :func:`end_session` isn't called."""
    _paused.add(server)
    try:
        await asyncio.sleep(seconds)
    finally:
        _paused.discard(server)


def end_session(server: SMTP) -> asyncio.Task[None] | None:
    """Have *server* read no more of its client; return the task of the session, if it has one.

    The task ends at once where it waits for the client, or in :func:`pause`. Else it ends once
    the reply is said, and closes the connection. Without this a client is cut off before its
    reply.
    """
    task = server._handler_coroutine
    if task is not None:
        reader: asyncio.StreamReader = server._reader
        is_idle = reader._waiter is not None  # type: ignore[attr-defined]
        reader.readuntil = _read_no_more  # type: ignore[assignment]
        if is_idle or server in _paused or _is_shaking_hands(server):
            task.cancel()
    return task


def answer_all_before_the_end(server: SMTP) -> None:
    """Have *server* carry out all that its client sent before it closed its side.

    Without this a client that sends all its commands, and then reads, hears no reply: aiosmtpd
    ends the session as soon as it knows that no more will come.
    """
    reader: asyncio.StreamReader = server._reader
    readuntil = reader.readuntil

    async def read(separator: bytes = b"\n") -> bytes:
        try:
            return await readuntil(separator)
        except asyncio.IncompleteReadError:
            raise asyncio.CancelledError from None  # aiosmtpd closes the connection

    reader.readuntil = read  # type: ignore[assignment]
    end = partial(asyncio.StreamReaderProtocol.eof_received, server)
    server.eof_received = end  # type: ignore[method-assign]


class TLSFirst(SSLProtocol):
    """The handshake of a client that speaks TLS from the first octet to *server*.

    Without this a client that says nothing stays for a minute, and nothing is told of one
    that doesn't trust the certificate.
    """

    def __init__(
        self, server: SMTP, tls: ssl.SSLContext, seconds: float, tell_failure: TellFailure
    ) -> None:
        loop = asyncio.get_running_loop()
        self.transport: Any = None
        self._tell_failure = tell_failure
        self._shaken: asyncio.Future[None] = loop.create_future()
        self._shaken.add_done_callback(self._tell)
        super().__init__(
            loop,
            server,
            tls,
            self._shaken,
            server_side=True,
            ssl_handshake_timeout=seconds,  # type: ignore[arg-type]  # a float is as good
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: asyncio calls this."""
        self.transport = transport
        super().connection_made(transport)

    def give_up(self) -> None:
        """Hang up, unless the handshake is over."""
        if self.transport is not None and not self._shaken.done():
            self.transport.abort()

    def _tell(self, shaken: asyncio.Future[None]) -> None:
        if error := shaken.exception():
            self._tell_failure(self.transport.get_extra_info("peername"), error)


def transport_of(server: SMTP) -> Any:
    """Return the transport of *server*, below any TLS, or None before there is one."""
    return server._original_transport or server.transport


def limit_starttls(server: SMTP, seconds: float, tell_failure: TellFailure) -> None:
    """Give the handshake of STARTTLS *seconds*, and call *tell_failure* when it fails.

    Without this a client that says nothing stays for a minute, and each failure is taken for
    an error of the program.
    """
    starttls = server._smtp_methods["STARTTLS"]

    @wraps(starttls)  # HELP reads its attributes
    async def limited(arg: str) -> None:
        # wait_for() forgets, before Python 3.12, that the session is cancelled where that and
        # the reply come together: a session whose client has closed its side would never end.
        handshake = asyncio.ensure_future(starttls(arg))
        try:
            done, _ = await asyncio.wait([handshake], timeout=seconds)
        finally:
            handshake.cancel()
        try:
            if not done:
                raise asyncio.TimeoutError
            await handshake
        except (TLSSetupException, asyncio.TimeoutError) as error:
            assert server.session is not None
            failed = isinstance(error, TLSSetupException) and error.__cause__
            tell_failure(server.session.peer, failed or error)
            server.connection_lost(None)  # asyncio tells nobody before a handshake is done
            raise asyncio.CancelledError from None

    server._smtp_methods["STARTTLS"] = limited


def _let_in_lines(server: SMTP, longest: int) -> None:
    reader: Any = server._reader
    reader._limit = max(reader._limit, longest)


async def _read_no_more(_: object = None) -> bytes:
    raise asyncio.CancelledError  # aiosmtpd closes the connection


def _is_shaking_hands(server: SMTP) -> bool:
    return server._tls_protocol is not None and not (server.session and server.session.ssl)


def _other_params(
    read: Callable[..., Any], server: SMTP, names: Iterable[str], params: Sequence[str]
) -> Any:
    found = read(server, params)
    if found:
        for name in names:
            found.pop(name, None)
    return found


def _any_address(
    read: Callable[..., Any], is_path: Callable[[str], bool] | None, server: SMTP, arg: str
) -> tuple[str | None, str | None]:
    if is_path is not None and not is_path(arg):
        return None, None
    try:
        address, rest = read(server, arg)
    except (IndexError, AttributeError, UnboundLocalError):
        # Slips of Python's parser, as in "<a@" and "<a@[>". Each would make a client try
        # again for ever, and leave a traceback in the log.
        address = rest = None
    if address is not None or (path := _PATH.fullmatch(arg)) is None:
        return address, rest
    local_part = path[1].rpartition("@")[0]
    if server.local_part_limit and len(local_part) > server.local_part_limit:
        return None, None
    return path[1], path[2] or ""


class _AnyCase(dict[str, Any]):
    """The mechanisms by name: RFC 5321 section 2.4 has arguments in any case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).upper())

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.upper())
