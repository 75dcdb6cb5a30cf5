"""What a handler needs of the process of the stock command, ``aiosmtpd -c``.

Building a handler changes nothing outside it. Each function here changes the process, and
only :meth:`.handlers.Handler.from_cli` calls them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any


def show_warnings() -> None:
    """Let our warnings reach the user: aiosmtpd shows errors only."""
    logging.getLogger("mailhandlers").setLevel(logging.WARNING)


def import_while_readable() -> None:
    """Import what is needed later, as long as this process may read it.

    The command may become ``nobody``, to whom Python's own library is not readable
    everywhere: names are looked up with these parts of it, and threads made.
    """
    for needed in ("encodings.idna", "concurrent.futures.thread"):
        import_module(needed)


def remember_own_name() -> None:
    """Ask for this host's name once.

    aiosmtpd asks at each connection, which takes 55 us where a file answers, and where a
    slow server does, all sessions would wait for it.
    """
    socket.getfqdn = functools.cache(socket.getfqdn)
    socket.getfqdn()


def keep_freed_memory() -> None:
    """Have glibc keep the 256 KiB that asyncio asks for at each read.

    Otherwise the kernel maps and unmaps them each time, until glibc has seen a larger
    block freed: mallopt(3), M_MMAP_THRESHOLD.
    """
    bytearray(1 << 20)


def run_on_own_loop(
    module: str | None, before_listening: Callable[[], Awaitable[None]]
) -> None:
    """Give aiosmtpd an event loop that awaits *before_listening* before it opens the port.

    aiosmtpd takes the loop that it finds. When it asks that for a server, it has dropped
    its rights, and no port is open yet: the one moment to look at the store as the user
    that will write it, and to fork. An OSError ends the command with one sentence.

    *module* is the library of the loop, asyncio for None.
    """
    loop_class = type(import_module(module or "asyncio").new_event_loop())

    class CommandLoop(loop_class):  # type: ignore[misc, valid-type]
        """The loop of the command."""

        async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
            """Do what must be done before the port is open, then open it."""
            try:
                await before_listening()
            except OSError as error:
                sys.exit(f"aiosmtpd: {error.filename}: {error.strerror}: {_ADVICE}")
            server: asyncio.Server = await super().create_server(*args, **options)
            return server

    asyncio.set_event_loop(CommandLoop())


_ADVICE = "name a path that the server's user may write, or change its permissions"
