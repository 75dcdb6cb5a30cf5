"""One host and port for many servers, one after the other."""

from __future__ import annotations

import socket
from typing import Any

from aiosmtpd.smtp import SMTP

from .serving import Server

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
        self.lend().close()
        self._socket.close()

    def lend(self) -> socket.socket:
        """Return a socket that listens here, until :meth:`give_back` is called."""
        if self._nobody is None:
            raise RuntimeError(f"another server listens at {self.host}:{self.port} already")
        self._nobody.stop()
        self._nobody = None
        return self._socket.dup()

    def give_back(self) -> None:
        """Refuse mail again."""
        self._nobody = Server(_refusing_smtp, self._socket.dup())


def _refusing_smtp() -> SMTP:
    return SMTP(_Refusing(), hostname="mailcatcher", enable_SMTPUTF8=True)
