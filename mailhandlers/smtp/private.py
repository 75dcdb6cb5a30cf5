"""All that is private in aiosmtpd and asyncio, and used here: one function a need.

The stock command makes its servers itself, so that a hook gets one that is set up already.
Each function says what breaks when a name is gone, and a test goes through :data:`NEEDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP

NEEDS = {
    "_auth_require_tls": "AUTH without TLS",
    "_auth_methods": "the names of AUTH's mechanisms in any case, and CRAM-MD5",
    "_reader": "AUTH without a password in the log, max_line, and recorded sessions",
    "_reader._limit": "max_line",
    "_handler_coroutine": "a MailCatcher that stops and leaves no task",
}
"""What a server keeps for itself, and what is lost without."""


def take_auth_in_clear(server: SMTP) -> None:
    """Let *server* take AUTH without TLS; without this a client gets 538."""
    server._auth_require_tls = False


def offer_mechanisms(server: SMTP, more: Iterable[str]) -> list[str]:
    """Return the mechanisms that *server* takes by now in any case: its own, and *more*.

    *more* are for a hook to carry out. Without this ``AUTH plain`` gets 504, and so do *more*.
    """
    server._auth_methods = _AnyCase(server._auth_methods)
    for name in more:
        server._auth_methods.setdefault(name, None)
    return sorted(server._auth_methods)


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
    server._reader._limit = longest  # type: ignore[attr-defined]


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


def session_task(server: SMTP) -> asyncio.Task[None] | None:
    """Return the task that carries out the commands of the client of *server*.

    It is waited for where a server stops. Without this a stop may leave a task behind.
    """
    return server._handler_coroutine


class _AnyCase(dict[str, Any]):
    """The mechanisms by name: RFC 5321 section 2.4 has arguments in any case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).upper())

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.upper())
