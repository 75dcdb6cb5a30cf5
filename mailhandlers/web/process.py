"""The page beside a mail server: a process of its own, with the server's rights."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio would, at its first thread
import logging
import os
import signal
import threading
from typing import NoReturn

from .server import Site
from .templating import load_all

_log = logging.getLogger("mailhandlers")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Beside:
    """The page of the store at *path*, for the process that fills the store.

    It is made while this process may read Python's files, and forked when the server has
    dropped its rights. It ends with the server, however that ends.
    """

    def __init__(self, path: str | os.PathLike[str], listen: str) -> None:
        """Open the port, and read all that an answer may need.

        Raises ValueError for an address that is none, and OSError.
        """
        self._site = Site(path, listen)
        self.address = self._site.address
        """What to open in a browser."""
        self._lifeline = -1
        load_all()
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._ask_for_all())
        finally:
            loop.close()

    def fork(self) -> int:
        """Start the process and return its id. The port is then the child's alone."""
        theirs, self._lifeline = os.pipe()
        # Until the child has handlers of its own, a signal to it would reach the server's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            os.close(self._lifeline)
            self._serve(theirs, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(theirs)
        for server in self._site.sockets:
            server.close()
        return pid

    def _serve(self, lifeline: int, mask: set[int | signal.Signals]) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            threading.Thread(target=self._end_with_server, args=[lifeline], daemon=True).start()
            self._site.run()
        except Exception:  # noqa: BLE001 - without this, nobody would ever see it
            _log.exception("the page ends")
        finally:
            os._exit(0)

    def _end_with_server(self, lifeline: int) -> None:
        os.read(lifeline, 1)  # nothing is ever written: it returns when the server is gone
        self._site.server.handle_exit(signal.SIGTERM, None)

    async def _ask_for_all(self) -> None:
        """Ask the application once, since libraries import much at the first request."""
        for path in ("/", "/api/messages", "/api/openapi.json"):
            await self._ask(path)

    async def _ask(self, path: str) -> None:
        host = self.address.split("/")[2]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": self.address.partition("?")[2].encode(),
            "headers": [(b"host", host.encode())],
            "server": ("localhost", 0),
        }

        requests = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, object]:
            if not requests:
                await asyncio.Event().wait()  # this client stays
            return requests.pop()

        async def send(message: object) -> None:
            """Take the answer, which nobody reads."""

        await self._site.app(scope, receive, send)
