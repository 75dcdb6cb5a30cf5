"""Group commit: messages that arrive together are written together, off the event loop.

One batch is written at a time. What arrives meanwhile is the next, so that a lock, a
write and an fsync serve many messages when many come, and one waits for nobody.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from .envelope import Envelope
from .storage import LockTimeoutError

_log = logging.getLogger("mailhandlers")

STORED = "250 OK"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"
FAILED = "451 4.3.0 Local error in storing the message, try again later"

_FORESEEN = (OSError, MemoryError)
_MOST_ROUNDS = 3
_LARGE = 1 << 20
_SIZE = 4


class Mail(NamedTuple):
    """One message to store."""

    envelope: Envelope
    content: bytes


Write = Callable[[list[Mail]], None]
_Errors = list[BaseException | None]
_Batch = list[tuple[Mail, "asyncio.Future[str]"]]


class GroupCommit:
    """Stores messages with *write*, which stores all that it is given or raises OSError.

    *path* names the store in the log. Where a handler serves several event loops, each
    has batches of its own, and they take turns.
    """

    def __init__(self, write: Write, path: str) -> None:
        self._write = write
        self._path = path
        self._thread = _one_thread()
        self._child: WriterProcess | None = None
        self._pending: dict[asyncio.AbstractEventLoop, _Batch] = {}
        self._rounds = 0
        self._task: asyncio.Task[_Errors] | None = None  # the loop keeps weak references

    def fork(self) -> None:
        """Write batches in a process of their own, where this process can be forked."""
        if sys.platform == "linux" and threading.active_count() == 1:
            self._child = WriterProcess(self._write)

    async def store(self, mail: Mail) -> str:
        """Return the SMTP reply to *mail*, once it is stored or refused."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[str] = loop.create_future()
        if loop in self._pending:
            self._pending[loop].append((mail, reply))
        else:
            self._pending[loop] = [(mail, reply)]
            self._begin(loop, self._rounds)
        return await reply

    def _begin(self, loop: asyncio.AbstractEventLoop, rounds: int) -> None:
        """Write what is pending, if anything is, *rounds* of the loop later."""
        if not self._pending[loop]:
            del self._pending[loop]
        elif rounds:
            loop.call_soon(self._begin, loop, rounds - 1)
        else:
            batch, self._pending[loop] = self._pending[loop], []
            # Under load, each round of the loop brings further messages into a batch. To
            # wait for all would leave the loop idle while they are written.
            self._rounds = min(len(batch) - 1, _MOST_ROUNDS)
            large = sum(len(mail.content) for mail, _ in batch) > _LARGE
            if self._child and len(batch) > 1 and not large:
                self._task = loop.create_task(self._child.write([mail for mail, _ in batch]))
                self._task.add_done_callback(partial(self._end, loop, batch))
            else:
                self._begin_in_thread(loop, batch)

    def _begin_in_thread(self, loop: asyncio.AbstractEventLoop, batch: _Batch) -> None:
        written: Future[_Errors] = Future()
        try:
            written = self._thread.submit(_each, self._write, [mail for mail, _ in batch])
        except RuntimeError as error:  # no thread can be had
            self._thread = _one_thread()  # the other would write these when it gets one
            written.set_result([OSError(errno.EAGAIN, str(error))] * len(batch))
        # Not run_in_executor, whose future wakes the loop once more for each message.
        written.add_done_callback(partial(self._end_in_thread, loop, batch))

    def _end_in_thread(
        self, loop: asyncio.AbstractEventLoop, batch: _Batch, written: Future[_Errors]
    ) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits for a reply
            loop.call_soon_threadsafe(self._end, loop, batch, written)

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: _Batch,
        written: Future[_Errors] | asyncio.Future[_Errors],
    ) -> None:
        """Say what became of *batch*, and begin with the next."""
        failure = written.exception()
        if isinstance(failure, WriterGoneError):
            self._child = None
            _log.error("the writer process is gone; the server writes by itself now")
            self._begin_in_thread(loop, batch)
            return
        errors = [failure] * len(batch) if failure else written.result()
        for (mail, reply), error in zip(batch, errors, strict=True):
            outcome = self._refuse(mail, error) if error else STORED
            if not reply.done():  # else the client went away; the mail is stored
                reply.set_result(outcome)
        self._begin(loop, self._rounds)

    def _refuse(self, mail: Mail, error: BaseException) -> str:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reply = DISK_FULL if full else FAILED
        path = getattr(error, "filename", None) or self._path
        cause = getattr(error, "strerror", None) or type(error).__name__
        foreseen = isinstance(error, _FORESEEN)
        _log.error(
            "%s: %s; refused mail from %a: %s",
            *(path, cause, mail.envelope.mail_from, reply),
            exc_info=None if foreseen else error,
        )
        return reply


def _each(write: Write, mails: list[Mail]) -> _Errors:
    """Write *mails*, and return for each the error that kept it from being stored."""
    try:
        write(mails)
    except _FORESEEN as error:
        # One message that doesn't fit must not refuse those that came with it.
        if len(mails) > 1 and not isinstance(error, LockTimeoutError):
            return [error for mail in mails for error in _each(write, [mail])]
        return [error] * len(mails)
    return [None] * len(mails)


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "mailhandlers")


class WriterGoneError(Exception):
    """The writer process has ended."""


class WriterProcess:
    """Calls *write* in a child process, whose system calls cost the server nothing.

    Each system call of a thread gives the interpreter lock away, and waits for it behind
    a busy event loop: a store of many files would halve the server's speed. The child
    ends with its parent, and takes on its user. It is not for a lone message, which a
    thread gets sooner, nor for large ones, which would be copied for nothing.
    """

    def __init__(self, write: Write) -> None:
        import pickle  # for the command alone

        self._pickle = pickle
        self._socket, theirs = socket.socketpair()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        if os.fork() == 0:
            self._socket.close()
            try:
                self._serve(theirs, write)
            finally:
                os._exit(0)
        theirs.close()

    async def write(self, mails: list[Mail]) -> _Errors:
        """Store *mails*, and return the error of each; raises WriterGoneError."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(sock=self._socket)
            reader, writer = self._streams
            writer.write(self._pickle.dumps((os.getuid(), mails)))
            size = int.from_bytes(await reader.readexactly(_SIZE), "big")
            errors: _Errors = self._pickle.loads(await reader.readexactly(size))
        except (OSError, EOFError) as gone:
            raise WriterGoneError from gone
        return errors

    def _serve(self, connection: socket.socket, write: Write) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's Ctrl-C reaches us, too
        pipe = connection.makefile("rb")
        with suppress(EOFError, ConnectionError):  # the server has ended
            while True:
                user, mails = self._pickle.load(pipe)
                if user != os.getuid():  # it dropped its privileges, after from_cli
                    os.setuid(user)
                reply = self._pickle.dumps(_each(write, mails))
                connection.sendall(len(reply).to_bytes(_SIZE, "big") + reply)
