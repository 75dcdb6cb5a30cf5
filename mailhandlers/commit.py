"""Group commit: messages that arrive together are written together, off the event loop.

One batch is written at a time. What arrives meanwhile is the next, so that a lock, a
write and an fsync serve many messages when many come, and one waits for nobody.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from .envelope import Envelope
from .storage import LockTimeoutError

_log = logging.getLogger("mailhandlers")

STORED = "250 OK"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"
FAILED = "451 4.3.0 Local error in storing the message, try again later"

_MOST_ROUNDS = 3
_LARGE = 1 << 20
_SIZE = 4


class Mail(NamedTuple):
    """One message to store."""

    envelope: Envelope
    content: bytes


Write = Callable[[list[Mail]], None]
_Batch = list[tuple[Mail, "asyncio.Future[str]"]]


class GroupCommit:
    """Stores messages with *write*, which stores all that it is given or raises OSError.

    *path* names the store in the log. Where a handler serves several event loops, each
    has batches of its own, and they take turns.
    """

    def __init__(self, write: Write, tidy: Callable[[], None], path: str) -> None:
        self._write = write
        self._tidy = tidy
        self._path = path
        self._turn = threading.Lock()
        self._child: WriterProcess | None = None
        self._thread: WriterThread | None = None
        self._alone: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}
        self._pending: dict[asyncio.AbstractEventLoop, _Batch] = {}
        self._rounds = 0

    def fork(self) -> None:
        """Write batches in a process of their own, where this process can be forked."""
        if sys.platform == "linux" and threading.active_count() == 1:
            self._child = WriterProcess(self._write, self._tidy)
        self._thread = WriterThread()

    async def store(self, mail: Mail) -> str:
        """Return the SMTP reply to *mail*, once it is stored or refused."""
        loop = asyncio.get_running_loop()
        if not (self._rounds or loop in self._alone or loop in self._pending):
            # A lone message needs no task, which would cost it two rounds of the loop.
            written = self._alone[loop] = asyncio.Event()
            try:
                (said,) = await self._commit([mail])
            finally:
                del self._alone[loop]
                written.set()
            return said
        reply: asyncio.Future[str] = loop.create_future()
        if loop in self._pending:
            self._pending[loop].append((mail, reply))
        else:
            self._pending[loop] = [(mail, reply)]
            # The future keeps its callback, and so the task, until it has a result.
            task = loop.create_task(self._work(loop, self._pending[loop]))
            reply.add_done_callback(lambda _: task)
        return await reply

    async def _work(self, loop: asyncio.AbstractEventLoop, pending: _Batch) -> None:
        """Write what is *pending*, and what arrives meanwhile, until nothing is left."""
        batch: _Batch = []
        try:
            if loop in self._alone:
                await self._alone[loop].wait()
            while pending:
                # Under load, each round of the loop brings further messages into the batch.
                # To wait for all of them would leave the loop idle while they are written.
                for _ in range(self._rounds):
                    await asyncio.sleep(0)
                batch, pending[:] = pending[:], []
                self._rounds = min(len(batch) - 1, _MOST_ROUNDS)
                replies = await self._commit([mail for mail, _ in batch])
                _answer(batch, replies)
        finally:
            # An error nobody foresaw must not leave clients that wait for ever.
            _answer(batch + pending, [FAILED] * (len(batch) + len(pending)))
            del self._pending[loop]

    async def _commit(self, mails: list[Mail]) -> list[str]:
        try:
            await self._store(mails)
        except (OSError, MemoryError) as error:
            # One message that doesn't fit must not refuse those that came with it.
            if len(mails) > 1 and not isinstance(error, LockTimeoutError):
                return [reply for mail in mails for reply in await self._commit([mail])]
            return [self._refuse(mail, error) for mail in mails]
        return [STORED] * len(mails)

    async def _store(self, mails: list[Mail]) -> None:
        """Write *mails* off the event loop. Raises OSError."""
        large = sum(len(mail.content) for mail in mails) > _LARGE
        # A thread may still write for a client that went away: nobody overtakes it.
        if self._child and len(mails) > 1 and not large and not self._turn.locked():
            try:
                await self._child.write(mails)
                return
            except WriterGoneError:
                self._child = None
                _log.error("the writer process is gone; the server writes by itself now")
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        job = list(mails)
        try:
            if self._thread:
                self._thread.submit(partial(self._in_turn, job, written))
            else:
                loop.run_in_executor(None, self._in_turn, job, written)
        except RuntimeError as error:  # no thread can be had, or no longer
            job.clear()  # for the next thread, which finds the job still waiting
            raise OSError(errno.EAGAIN, str(error)) from error
        await written

    def _in_turn(self, mails: list[Mail], written: asyncio.Future[None]) -> None:
        with self._turn:
            if not mails:
                return
            error: BaseException | None = None
            try:
                self._write(mails)
            except BaseException as caught:  # noqa: BLE001 (raised where it is waited for)
                error = caught
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                written.get_loop().call_soon_threadsafe(_settle, written, error)
            self._tidy()

    def _refuse(self, mail: Mail, error: Exception) -> str:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reply = DISK_FULL if full else FAILED
        path = getattr(error, "filename", None) or self._path
        cause = getattr(error, "strerror", None) or type(error).__name__
        _log.error(
            "%s: %s; refused mail from %a: %s", path, cause, mail.envelope.mail_from, reply
        )
        return reply


class WriterThread:
    """Does one job after the other in a thread of its own, sooner than an executor would.

    The thread starts with the first job, and the program ends after the last.
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


def _settle(written: asyncio.Future[None], error: BaseException | None) -> None:
    if written.done():  # the client went away
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)


def _answer(batch: _Batch, replies: list[str]) -> None:
    for (_, future), reply in zip(batch, replies, strict=True):
        if not future.done():  # else the client went away; the mail is stored
            future.set_result(reply)
