"""Group commit: messages that arrive together are written together, off the event loop.

Each event loop has a queue, and one batch of a queue is written at a time. What arrives
meanwhile is the next batch: a lock, a write and an fsync serve many messages when many
come, and a lone message is a batch of one that waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..mail import Mail
from .child import WriterProcess
from .store import Store
from .writers import WriterThread, Written

_log = logging.getLogger("mailhandlers")

_MOST_ROUNDS = 3
# Where a flush takes 0.1 ms, a message of a batch takes 0.1 to 0.2 ms. Where it takes 3, a
# batch of new files takes 20 ms at least. One that is appended to a file takes 9 to 16 there,
# and to wait for more cost MboxSink 7 % of its messages a second, and JsonLines 6 %.
_SLOW_BATCH = 0.020
_SLOW_MESSAGE = 0.0003
_LONGEST_GATHERING = 0.05  # where a large message took seconds
_LARGE = 1 << 20
_SMALL = 1 << 16
_LONGEST_ON_LOOP = 0.005


class _Waiting(NamedTuple):
    """What a client waits for: that its mail is stored, or (None) that the store is empty."""

    mail: Mail | None
    reply: asyncio.Future[str]


def _has_mail(waiting: _Waiting) -> bool:
    return waiting.mail is not None


class _Pace:
    """How long a batch waits for further messages: learnt from the batch before it.

    Where the disk is fast, the loop goes on for a few rounds, each of which brings more. To
    wait for all clients would leave the loop idle while their messages are written.

    Where the disk is slow, a batch waits until all clients that sent a moment ago have sent
    again, for half the time of a write at most. Without, 50 clients fell into two groups,
    one of which waited while the other's messages were written: 25 to 33 ms each, on a disk
    whose flush takes 3 ms, where all 50 messages took 33.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self.clients = 0
        self.seconds = 0.0

    def learn(self, written: int, waiting: int, seconds: float) -> None:
        """Note that a batch took *seconds* to write, and that others are *waiting*."""
        self.rounds = min(written - 1, _MOST_ROUNDS)
        is_slow = seconds > max(_SLOW_BATCH, written * _SLOW_MESSAGE)
        self.clients = written + waiting if is_slow else 0
        self.seconds = min(seconds / 2, _LONGEST_GATHERING)


class _Queue:
    """What the clients of one event loop wait for, in order of arrival.

    A client may leave at any time: the queue keeps its mail, which is written all the same,
    in its turn. What happens next never depends on a client.
    """

    def __init__(self, write: Callable[[list[Mail], Written], None]) -> None:
        self._write = write
        self._waiting: list[_Waiting] = []
        self._is_busy = False  # a batch is being gathered or written
        self._pace = _Pace()
        self._gathering: asyncio.TimerHandle | None = None

    def put(self, mail: Mail | None) -> asyncio.Future[str]:
        """Return the future SMTP reply to *mail*, or to None: a reset."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(mail, loop.create_future())
        self._waiting.append(waiting)
        if not self._is_busy:
            self._is_busy = True
            self._gather(loop)
        elif self._gathering is not None and len(self._waiting) >= self._pace.clients:
            self._write_batch(loop)
        return waiting.reply

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a batch written when further messages had their time to come."""
        if len(self._waiting) < self._pace.clients:
            self._gathering = loop.call_later(self._pace.seconds, self._write_batch, loop)
        else:
            self._go_on(loop, self._pace.rounds)

    def _go_on(self, loop: asyncio.AbstractEventLoop, rounds: int) -> None:
        """Have a batch written after some *rounds* of the loop."""
        if rounds:
            loop.call_soon(self._go_on, loop, rounds - 1)
        else:
            self._write_batch(loop)

    def _write_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a batch written: the messages before the next reset, or that reset."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        batch = [*takewhile(_has_mail, self._waiting)] or self._waiting[:1]
        del self._waiting[: len(batch)]
        started = loop.time()

        def written(replies: list[str]) -> None:
            loop.call_soon_threadsafe(self._answer, loop, batch, replies, started)

        self._write([waiting.mail for waiting in batch if waiting.mail is not None], written)

    def _answer(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Waiting],
        replies: list[str],
        started: float,
    ) -> None:
        for waiting, reply in zip(batch, replies, strict=True):
            if not waiting.reply.done():  # else the client went away
                waiting.reply.set_result(reply)
        self._pace.learn(len(batch), len(self._waiting), loop.time() - started)
        if self._waiting:
            self._gather(loop)
        else:
            self._is_busy = False


class GroupCommit:
    """Stores the messages of any number of event loops, batch by batch.

    *store* is written by one thread for all loops, or by a child process once there is one;
    a quick one, by the loop itself where that takes microseconds. A message that takes long
    has a thread of its own, in which it keeps no other waiting.
    """

    def __init__(self, store: Store) -> None:
        self._long = WriterThread(store)
        self._store = store = replace(store, empty=partial(self._empty, store))
        self._thread = WriterThread(store)
        self._child: WriterProcess | None = None
        self._is_quick = store.is_quick
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    async def commit(self, mail: Mail) -> str:
        """Return the SMTP reply to *mail*, once it is stored or refused."""
        # A long one has a queue of its own, and a thread to which each is given at once.
        queue = _Queue(self._long.commit) if self._store.is_long(mail) else self._queue()
        return await queue.put(mail)

    async def commit_reset(self) -> str:
        """Empty the store after what came before; return the SMTP reply to that."""
        return await self._queue().put(None)

    async def fork_writer(self) -> None:
        """Have a child of this process write batches, from now on.

        For a process with one event loop, which has neither threads nor clients yet: the
        child is a copy of it. Where no process can be had, the thread writes batches, too.
        """
        # To make the store may have taken threads, which no copy of a process has.
        self._store.rest()
        try:
            self._child = await WriterProcess.fork(self._store, self._thread)
        except OSError as error:
            _log.warning("no writer process: %s; the server writes by itself", error.strerror)

    def store(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none, and wait until that is done. Raises OSError.

        For other threads than the event loop's. It comes after what the thread was given.
        """
        self._thread.run(partial(self._write_all, mails))

    def reset(self) -> None:
        """Empty the store, and wait until that is done. Raises OSError.

        For other threads than the event loop's. It comes after what the thread was given.
        """
        self._thread.run(self._store.empty)

    def close(self) -> None:
        """Wait for what is being written, and end the threads; a message starts them again."""
        self._long.close()
        self._thread.close()

    def write(self, mails: list[Mail], written: Written) -> None:
        """Have *mails* written, or the store emptied where there are none; then *written*.

        The child has an interpreter of its own. A thread shares the loop's: each of its
        system calls gives the lock away and waits for it behind a busy loop, so that a store
        of many files would halve the server's speed; and to form 300 MiB it would hold
        the loop up for seconds. A lone message that is not large takes the thread, which
        saves 70 us; a small one of a quick store is written here, which saves 240 us, and
        in a test a thread.
        """
        is_lone = len(mails) == 1
        if not mails:
            self._thread.commit_reset(written)
        elif self._is_quick and is_lone and len(mails[0].content) <= _SMALL:
            self._write_here(mails, written)
        elif self._child is None or (is_lone and len(mails[0].content) < _LARGE):
            self._thread.commit(mails, written)
        else:
            self._child.commit(mails, written)

    def _write_all(self, mails: Sequence[Mail]) -> None:
        self._store.write(mails)
        self._store.tidy_up()

    def _empty(self, store: Store) -> None:
        """Empty *store* after all that was asked before."""
        self._long.wait()
        store.empty()

    def _write_here(self, mails: list[Mail], written: Written) -> None:
        begun = time.monotonic()
        written(self._store.commit(mails))
        # A disk can be slow without fsync, too, and would hold up all clients: the thread is
        # there for the next message.
        self._is_quick = time.monotonic() - begun < _LONGEST_ON_LOOP
        self._store.tidy_up()

    def _queue(self) -> _Queue:
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self.write)
        return queue
