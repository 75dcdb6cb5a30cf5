"""The server's process: its sockets, its token, and what it prints."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket

import uvicorn

from ..reading.find import find
from .app import create_app

_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]+):)?(?P<port>[0-9]{1,5})")
_LAST_PORT = 65535


class Site:
    """What shows the store at *path* on ``[HOST:]PORT``: the port is open from here on."""

    def __init__(self, path: str | os.PathLike[str], listen: str) -> None:
        """Open the port. Raises ValueError for an address that is none, and OSError."""
        host, port = parsed(listen)
        self.sockets = _bound(host, port)
        names = [server.getsockname()[0] for server in self.sockets]
        is_local = all(ipaddress.ip_address(name).is_loopback for name in names)
        token = None if is_local else secrets.token_urlsafe(32)
        shown_host = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown_host}:{self.sockets[0].getsockname()[1]}/"
        """What to open in a browser: beyond this computer, it holds the token."""
        if token:
            self.address += f"?token={token}"
        self.app = create_app(path, token=token)
        config = uvicorn.Config(
            self.app,
            loop="asyncio",
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # A page that is open holds its events' request for ever.
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.get_loop_factory()  # imported now, as all that load() imports
        self.server = uvicorn.Server(config)

    def run(self) -> None:
        """Answer until SIGINT or SIGTERM."""
        self.server.run(self.sockets)


def serve(path: str | os.PathLike[str], listen: str) -> None:
    """Show the store at *path* on ``[HOST:]PORT`` until SIGINT or SIGTERM.

    Raises StoreError, ValueError for an address that is none, and OSError.
    """
    find(path)  # says now, not on the page, what is no store
    site = Site(path, listen)
    print(f"mailhandlers: {os.fspath(path)} is shown at {site.address}", flush=True)
    site.run()


def parsed(listen: str) -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``; raises ValueError."""
    match = _ADDRESS.fullmatch(listen)
    if match is None or int(match["port"]) > _LAST_PORT:
        raise ValueError(f"{listen!r} is no address: write HOST:PORT, or PORT alone")
    return (match["host"] or "localhost").strip("[]"), int(match["port"])


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
