"""The server's process: its sockets, its token, and what it prints."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - the first request would import these
import ipaddress
import os
import secrets
import socket
import threading
from types import FrameType
from typing import Any

import anyio._backends._asyncio  # noqa: F401 - and these
import h11
import uvicorn
import uvicorn.loops.asyncio
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..message import page, record  # noqa: F401 - and these
from ..smtp import endpoints
from ..stores.find import find
from .app import create_app
from .settings import WebSettings

_ENDING_SECONDS = 0.5
_REQUEST_SECONDS = 10.0


class Server(uvicorn.Server):
    """A server that ends in half a second, whatever it is doing."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End. What is being answered has that long."""
        self.should_exit = True
        # Threads read mail, and pages that are open hold their events' requests for ever.
        timer = threading.Timer(_ENDING_SECONDS, os._exit, [0])
        timer.daemon = True
        timer.start()


class Protocol(H11Protocol):
    """A connection, closed if a request is not all there 10 s after the last answer.

    By itself uvicorn waits for the rest for ever.
    """

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_request()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait_for_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._limit:
            self._limit.cancel()
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        if self._limit:
            self._limit.cancel()
        self._limit = self.loop.call_later(_REQUEST_SECONDS, self._close_if_unfinished)

    def _close_if_unfinished(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self.transport.abort()


class Site:
    """What shows the store at *path* as *settings* say: the port is open from here on."""

    def __init__(self, path: str | os.PathLike[str], settings: WebSettings) -> None:
        """Open the port. Raises ValueError for an address that is none, and OSError."""
        host, port = endpoints.parsed(settings.listen)
        self.sockets = _bound(host, port)
        names = [server.getsockname() for server in self.sockets]
        if any(ipaddress.ip_address(name[0]).is_unspecified for name in names):
            host = "localhost"  # the name that all browsers here know
        token = settings.token
        self.address = f"http://{endpoints.shown((host, names[0][1]))}{settings.path}/"
        """What to open in a browser. It holds a token that was made here, and no other."""
        if token is None and not all(map(endpoints.is_loopback, names)):
            token = secrets.token_urlsafe(32)
            self.address += f"?token={token}"
        self.app = create_app(path, token=token, settings=settings)
        config = uvicorn.Config(
            self.app,
            loop="asyncio",
            http=Protocol,
            ws="none",
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        config.load()
        self.server = Server(config)

    def run(self) -> None:
        """Answer until SIGINT or SIGTERM."""
        self.server.run(self.sockets)


def serve(path: str | os.PathLike[str], settings: WebSettings) -> None:
    """Show the store at *path* as *settings* say, until SIGINT or SIGTERM.

    Raises StoreError, ValueError for an address that is none, and OSError.
    """
    find(path)  # says now, not on the page, what is no store
    site = Site(path, settings)
    print(f"mailhandlers: {os.fspath(path)} is shown at {site.address}", flush=True)
    site.run()


def _bound(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of *host*, all on one port."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first: it is what everybody has.
    addresses = sorted({(family, address[0]) for family, _, _, _, address in found})
    sockets: list[socket.socket] = []
    for family, address in addresses:
        try:
            server = socket.create_server((str(address), port), family=family)
        except OSError:
            if not sockets:
                raise
            continue  # localhost is ::1 as well, on a machine that may have no IPv6
        port = server.getsockname()[1]
        sockets.append(server)
    return sockets
