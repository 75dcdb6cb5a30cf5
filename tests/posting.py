"""Mail that is sent to a handler, or written where one would have written it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP
from support import HOST, KINDS, Client, Kind, json_line, stuffed
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers.mail import Mail
from mailhandlers.stores import mbox

GROWING = [kind for kind in KINDS if kind.handler in ("MboxSink", "JsonLines")]


growing = pytest.mark.parametrize("kind", GROWING, ids=[kind.handler for kind in GROWING])


keep_all = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.keeps_all], ids=lambda kind: kind.handler
)


class Post:
    """Sends mail to a handler in a thread; a message is stored when the call returns."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self,
        subject: str = "hello",
        to: str = "bob@example.com",
        body: str = "Hi!",
        sender: str = "eva@example.com",
    ) -> None:
        content = f"Subject: {subject}\r\nTo: {to}\r\n\r\n{body}\r\n".encode()
        with Client(self.port) as client:
            assert client.send(content, sender, [to]) == "250 OK"


def subjects(messages: object) -> list[str]:
    return [message["Subject"] for message in messages]  # type: ignore[attr-defined]


def written(kind: Kind, subject: str = "old", body: str = "Hi") -> bytes:
    """Return what a growing store holds of one message."""
    content = f"Subject: {subject}\r\n\r\n{body}\r\n".encode()
    envelope = replace(EXAMPLE, id=subject, size=len(content))
    if kind.handler == "JsonLines":
        return json_line(Mail(envelope, content))
    return b"".join(mbox.encode(Mail(envelope, content)))


@asynccontextmanager
async def serving(store: Path) -> AsyncIterator[int]:
    handler = mailhandlers.MaildirSink(store, sync=False)
    server = await asyncio.get_running_loop().create_server(partial(SMTP, handler), HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.to_thread(handler.close)


async def send_in_loop(port: int, subject: str, to: str = "bob@example.com") -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    content = f"Subject: {subject}\r\n\r\nHi!\r\n".encode()
    commands = [b"HELO me", b"MAIL FROM:<eva@example.com>", f"RCPT TO:<{to}>".encode(), b"DATA"]
    await reader.readline()
    for command in commands:
        writer.write(command + b"\r\n")
        await reader.readline()
    writer.write(stuffed(content))
    assert await reader.readline() == b"250 OK\r\n"
    writer.close()
    await writer.wait_closed()
