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
from contextlib import ExitStack, suppress
from typing import NamedTuple

from .envelope import Envelope
from .storage import LockTimeoutError

_log = logging.getLogger("mailhandlers")

STORED = "250 OK"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"
FAILED = "451 4.3.0 Local error in storing the message, try again later"

_MOST_ROUNDS = 10
_LARGE = 1 << 20


class Mail(NamedTuple):
    """One message to store."""

    envelope: Envelope
    content: bytes


Write = Callable[[list[Mail]], None]
_Batch = list[tuple[Mail, "asyncio.Future[str]"]]


class GroupCommit:
    """Stores messages with *write*, which stores all that it is given or raises OSError.

    *path* names the store in the log.
    """

    def __init__(self, write: Write, path: str) -> None:
        self._write = write
        self._path = path
        self._lock = threading.Lock()
        self._pending: _Batch = []
        self._busy = False
        self._rounds = 0

    def fork(self) -> None:
        """Write batches in a process of their own, where this process can be forked."""
        if sys.platform == "linux" and threading.active_count() == 1:
            self._write = WriterProcess(self._write)

    async def store(self, mail: Mail) -> str:
        """Return the SMTP reply to *mail*, once it is stored or refused."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[str] = loop.create_future()
        with self._lock:
            self._pending.append((mail, reply))
            idle, self._busy = not self._busy, True
        if idle:
            self._start(loop, self._rounds)
        return await reply

    def _start(self, loop: asyncio.AbstractEventLoop, rounds: int) -> None:
        # Under load, each round of the loop brings further messages into the batch.
        if rounds:
            loop.call_soon(self._start, loop, rounds - 1)
            return
        try:
            loop.run_in_executor(None, self._work)
        except RuntimeError as error:  # no thread can be had, or no longer
            batch = self._take()
            self._rest()
            _answer(batch, [self._refuse(mail, error) for mail, _ in batch])

    def _work(self) -> None:
        with ExitStack() as broken:
            # An error nobody foresaw must not leave a server that takes mail for ever.
            broken.callback(self._rest)
            while batch := self._take():
                replies = [FAILED] * len(batch)
                try:
                    replies = self._commit([mail for mail, _ in batch])
                finally:
                    _answer(batch, replies)
            broken.pop_all()

    def _take(self) -> _Batch:
        with self._lock:
            batch, self._pending = self._pending, []
            self._busy = bool(batch)
        if batch:
            self._rounds = min(len(batch) - 1, _MOST_ROUNDS)
        return batch

    def _rest(self) -> None:
        with self._lock:
            self._busy = False

    def _commit(self, mails: list[Mail]) -> list[str]:
        try:
            self._write(mails)
        except (OSError, MemoryError) as error:
            # One message that doesn't fit must not refuse those that came with it.
            if len(mails) > 1 and not isinstance(error, LockTimeoutError):
                return [reply for mail in mails for reply in self._commit([mail])]
            return [self._refuse(mail, error) for mail in mails]
        return [STORED] * len(mails)

    def _refuse(self, mail: Mail, error: Exception) -> str:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reply = DISK_FULL if full else FAILED
        path = getattr(error, "filename", None) or self._path
        cause = getattr(error, "strerror", None) or type(error).__name__
        _log.error(
            "%s: %s; refused mail from %a: %s", path, cause, mail.envelope.mail_from, reply
        )
        return reply


class WriterProcess:
    """Calls *write* in a child process, whose system calls cost the server nothing.

    Each system call of a thread gives the interpreter lock away, and waits for it behind
    a busy event loop: a store of many files would halve the server's speed. The child
    ends with its parent, and takes on its user. A lone message and large ones are
    written here, where they need no copy, and so is all mail if the child is killed.
    """

    def __init__(self, write: Write) -> None:
        import pickle  # for the command alone

        self._write = write
        self._send, self._receive = pickle.dump, pickle.load
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            try:
                self._serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._pipe = ours.makefile("rwb")
        ours.close()
        self._alive = True

    def __call__(self, mails: list[Mail]) -> None:
        """Store *mails*; raises what *write* raises."""
        if len(mails) == 1 or not self._alive or sum(len(m.content) for m in mails) > _LARGE:
            return self._write(mails)
        try:
            self._send((os.getuid(), mails), self._pipe)
            self._pipe.flush()
            error = self._receive(self._pipe)
        except (OSError, EOFError):
            self._alive = False
            _log.error("the writer process is gone; the server writes by itself from now on")
            return self._write(mails)
        if error is not None:
            raise error
        return None

    def _serve(self, connection: socket.socket) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's Ctrl-C reaches us, too
        pipe = connection.makefile("rwb")
        with suppress(EOFError, ConnectionError):  # the server has ended
            while True:
                user, mails = self._receive(pipe)
                if user != os.getuid():  # it dropped its privileges, after from_cli
                    os.setuid(user)
                error: Exception | None = None
                try:
                    self._write(mails)
                except (OSError, MemoryError) as caught:
                    error = caught
                self._send(error, pipe)
                pipe.flush()


def _answer(batch: _Batch, replies: list[str]) -> None:
    answers: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[str], str]]] = {}
    for (_, future), reply in zip(batch, replies, strict=True):
        answers.setdefault(future.get_loop(), []).append((future, reply))
    for loop, results in answers.items():
        with suppress(RuntimeError):  # Controller.stop() closed the loop; the mail is stored
            loop.call_soon_threadsafe(_set_results, results)


def _set_results(results: list[tuple[asyncio.Future[str], str]]) -> None:
    for future, reply in results:
        if not future.done():  # else the client went away; the mail is stored
            future.set_result(reply)
