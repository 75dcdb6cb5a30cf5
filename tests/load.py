"""Senders that send as much as a server takes, messages that tell whether they are whole."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import Client

from mailhandlers import read_messages


def numbered(name: str) -> bytes:
    """Return a message of some size that tells whether it is whole."""
    lines = random.Random(name).choice([1, 3, 10, 100, 1000])
    body = b"From me\r\n>From you\r\n" + f"{name} says hello\r\n".encode() * lines
    digest = hashlib.sha256(body).hexdigest()
    return f"Subject: {name}\r\nX-Digest: {digest}\r\n\r\n".encode() + body


def names_of_whole(store: Path) -> list[str]:
    """Return the names of the messages of :func:`numbered` in *store*; fail if one is torn."""
    found = []
    for message in read_messages(store):
        name = str(message["Subject"])
        assert message.original_content == numbered(name)
        found.append(name)
    return found


class Senders:
    """Connections that send numbered messages, each as fast as it can."""

    def __init__(self, ports: list[int], prefix: str, most: int = 1_000_000) -> None:
        self.acknowledged: list[str] = []
        self.refusals: list[str] = []
        self.attempted: list[str] = []
        self._prefix = prefix
        self._most = most
        self._pool = ThreadPoolExecutor(len(ports))
        self._done = [self._pool.submit(self._send_all, *pair) for pair in enumerate(ports)]

    def _send_all(self, connection: int, port: int) -> None:
        try:
            with Client(port) as client:
                for number in range(self._most):
                    name = f"{self._prefix}-{connection}-{number}"
                    self.attempted.append(name)
                    recipients = ("bob@example.com", f"user{number % 3}@x")
                    reply = client.send(numbered(name), to=recipients)
                    if reply == "250 OK":
                        self.acknowledged.append(name)
                    else:
                        self.refusals.append(reply)
        except ConnectionError:
            pass  # the server was killed

    @property
    def finished(self) -> bool:
        return all(sender.done() for sender in self._done)

    def join(self) -> None:
        self._pool.shutdown()
        for sender in self._done:
            sender.result()
