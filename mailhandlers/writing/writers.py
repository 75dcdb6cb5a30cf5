"""Who writes while the event loop goes on: a thread, or a process."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..mail import Mail

    Write = Callable[[list[Mail]], None]

_SIZE = 4


class WriterThread:
    """Does one job after the other in a thread of its own, sooner than an executor would.

    The thread starts with the first job; a program that ends waits for the last.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread()
        atexit.register(self._end)

    def submit(self, job: Callable[[], None]) -> None:
        """Do *job* next. Raises RuntimeError where no thread can be had."""
        if not self._thread.is_alive():
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._thread = thread
        self._jobs.put(job)

    def _work(self) -> None:
        while job := self._jobs.get():
            job()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()


class WriterGoneError(Exception):
    """The writer process has ended."""


class WriterProcess:
    """Calls *write* in a child process, whose system calls cost the server nothing.

    Each system call of a thread gives the interpreter lock away, and waits for it behind
    a busy event loop: a store of many files would halve the server's speed. The child
    ends with its parent, and takes on its user. It is not for a lone message, which a
    thread gets sooner, nor for large ones, which would be copied for nothing.
    """

    def __init__(self, write: Write, tidy: Callable[[], None]) -> None:
        import pickle  # for the command alone

        self._pickle = pickle
        self._socket, theirs = socket.socketpair()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        if os.fork() == 0:
            self._socket.close()
            try:
                self._serve(theirs, write, tidy)
            finally:
                os._exit(0)
        theirs.close()

    async def write(self, mails: list[Mail]) -> None:
        """Store *mails*; raises what *write* raises, and WriterGoneError."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(sock=self._socket)
            reader, writer = self._streams
            writer.write(self._pickle.dumps((os.getuid(), mails)))
            size = int.from_bytes(await reader.readexactly(_SIZE), "big")
            error = self._pickle.loads(await reader.readexactly(size))
        except (OSError, EOFError) as gone:
            raise WriterGoneError from gone
        if error is not None:
            raise error

    def _serve(self, connection: socket.socket, write: Write, tidy: Callable[[], None]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's Ctrl-C reaches us, too
        pipe = connection.makefile("rb")
        with suppress(EOFError, ConnectionError):  # the server has ended
            while True:
                user, mails = self._pickle.load(pipe)
                if user != os.getuid():  # it dropped its privileges, after from_cli
                    os.setuid(user)
                error: Exception | None = None
                try:
                    write(mails)
                except (OSError, MemoryError) as caught:
                    error = caught
                reply = self._pickle.dumps(error)
                connection.sendall(len(reply).to_bytes(_SIZE, "big") + reply)
                tidy()
