"""Group commit: messages that arrive together are written together, off the event loop.

One batch is written at a time. What arrives meanwhile is the next, so that a lock, a
write and an fsync serve many messages when many come, and one waits for nobody.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ..mail import Mail
from .locks import LockTimeoutError
from .writers import WriterGoneError, WriterProcess, WriterThread

_log = logging.getLogger("mailhandlers")

STORED = "250 OK"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"
FAILED = "451 4.3.0 Local error in storing the message, try again later"

_MOST_ROUNDS = 3
_LARGE = 1 << 20


_Batch = list[tuple[Mail, "asyncio.Future[str]"]]


class GroupCommit:
    """Stores messages with *write*, which stores all that it is given or raises OSError.

    *tidy* is called after each reply, for what a client need not wait for; *path* names
    the store in the log. Where a handler serves several event loops, each has batches of
    its own, and they take turns.
    """

    def __init__(
        self, write: Callable[[list[Mail]], None], tidy: Callable[[], None], path: str
    ) -> None:
        self._write = write
        self._tidy = tidy
        self._path = path
        self._turn = threading.Lock()
        self._child: WriterProcess | None = None
        self._thread: WriterThread | None = None
        self._job: list[Mail] = []  # the latest for a thread, which empties it in the end
        self._alone: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}
        self._pending: dict[asyncio.AbstractEventLoop, _Batch] = {}
        self._rounds = 0

    def start_writers(self) -> None:
        """Have a thread and, where this process can be forked, a child of it to write."""
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
        if self._child and len(mails) > 1 and not large and not self._job:
            try:
                await self._child.write(mails)
                return
            except WriterGoneError:
                self._child = None
                _log.error("the writer process is gone; the server writes by itself now")
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        job = self._job = list(mails)
        write = partial(self._in_turn, job, written)
        try:
            if self._thread:
                self._thread.submit(write)
            else:
                loop.run_in_executor(None, write)
        except RuntimeError as error:  # no thread can be had, or no longer
            job.clear()  # for the next thread, which finds the job still waiting
            raise OSError(errno.EAGAIN, str(error)) from error
        await written

    def _in_turn(self, job: list[Mail], written: asyncio.Future[None]) -> None:
        """Write *job* in this thread, tell *written* so, and tidy up."""
        with self._turn:
            if not job:
                return
            error: BaseException | None = None
            try:
                self._write(job)
            except BaseException as caught:  # noqa: BLE001 (raised where it is waited for)
                error = caught
            job.clear()
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
