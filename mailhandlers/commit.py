"""Group commit: when messages are written, and who writes them.

Each event loop has a queue, and one batch of a queue is written at a time. What arrives
meanwhile is the next batch: one lock, one write and one wait for the disk serve many messages
when many come. A lone message is a batch of one, and waits for nobody.

Where the disk is quick, the loop writes its batch itself: to wake up a thread costs 240 us a
message, and each system call of a thread waits for the interpreter behind a busy loop. What
may take long is written by a thread: on a slow disk, large messages, while a lock is held.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import takewhile
from math import inf
from queue import Empty, SimpleQueue
from typing import NamedTuple
from weakref import WeakKeyDictionary

from .disk import locks
from .mail import Mail
from .stores.store import Effort, Store

_log = logging.getLogger("mailhandlers")

STORED = "250 OK"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"
FAILED = "451 4.3.0 Local error in storing the message, try again later"
NOT_EMPTIED = "451 4.3.0 Local error in emptying the store, try again later"

IDLE_SECONDS = 2.0
"""How long a thread waits for its next job before it ends."""

LONGEST_ON_LOOP = 0.010
"""How long a loop may write a batch, in seconds: all its sessions stand still meanwhile.

A disk that takes longer is slow: then the thread writes."""

# A loop that stood still for too long doesn't write for so many times as long: a disk that
# stalls now and then takes a hundredth of its time. Each further try that fails doubles that.
_DISTRUST = 100
_MOST_ROUNDS = 3
LONGEST_GATHERING = 0.05  # where a large message took seconds

Written = Callable[[list[str]], object]
"""What is called with the reply to each message; RuntimeError says that its loop is closed."""


class Commits:
    """Stores the messages of any number of event loops, batch by batch.

    With *is_quick* the first batch is written by its loop; without, by the thread, which shows
    whether the disk is quick.
    """

    def __init__(self, store: Store, *, is_quick: bool = False) -> None:
        self._store = store
        self._thread = WriterThread(self._tidy_up, store.rest)
        # A message that takes long has a thread of its own, and keeps no other waiting.
        self._long = WriterThread(self._tidy_up, store.rest)
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()
        # Held by who writes, a loop or the thread: a store is written by one at a time, but
        # for what takes long. A loop never waits for it.
        self._writing = threading.Lock()
        # Before that moment no loop writes; not before it is known what the disk is like.
        # (time.monotonic() has steps of 16 ms on Windows.)
        self._not_before = 0.0 if is_quick else inf
        self._distrust = _DISTRUST
        # How many messages a loop writes before it goes on with its sessions: ever more, until
        # they take a third of the longest time.
        self._most = 1

    async def commit(self, mail: Mail) -> str:
        """Return the SMTP reply to *mail*, once it is stored or refused."""
        if self._store.effort(mail) is Effort.LONG:
            return await _Queue(self._write_long).put(mail)
        return await self._queue().put(mail)

    async def commit_reset(self) -> str:
        """Empty the store after what came before; return the SMTP reply to that."""
        return await self._queue().put(None)

    def store(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none, and wait until that is done. Raises OSError.

        For other threads than the event loop's. It comes after what the thread was given.
        """
        self._thread.run(partial(self._add, mails))

    def reset(self) -> None:
        """Empty the store, and wait until that is done. Raises OSError.

        For other threads than the event loop's. It comes after what the thread was given.
        """
        self._thread.run(self._clear)

    def close(self) -> None:
        """Wait for what is being written, and end the threads; a message starts them again."""
        self._long.close()
        self._thread.close()
        self._store.rest()  # what a loop has used

    def _queue(self) -> _Queue:
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self._write)
        return queue

    def _write(self, mails: list[Mail], written: Written) -> list[str] | None:
        """Write *mails*, or empty the store where there are none.

        Returns the replies to the first ones, and the others are to come again; or None where
        none is known yet: then *written* is called with all.
        """
        some = mails[: self._most]
        if not mails:
            self._thread.do(self._commit_clear, written)
        elif not self.write_here(some):
            self._thread.do(partial(self._commit, mails), written)
        else:
            return [STORED] * len(some)
        return None

    def _write_long(self, mails: list[Mail], written: Written) -> None:
        self._long.do(lambda: self._replies(mails, _errors_of(self._store, mails)), written)

    def write_here(self, mails: Sequence[Mail]) -> bool:
        """Store all *mails* in the loop's own thread where that is quick; tell whether it was.

        Otherwise nothing has changed.
        """
        if (
            time.perf_counter() < self._not_before
            or any(self._store.effort(mail) is not Effort.SMALL for mail in mails)
            or not self._writing.acquire(blocking=False)
        ):
            return False
        started = time.perf_counter()
        try:
            # Whatever the error is, a lock that is held above all: the thread tries again, and
            # tells it.
            is_stored = _attempt(self._store, mails, patience=0) is None
        finally:
            self._writing.release()
        self._note(time.perf_counter() - started, len(mails))
        if is_stored:
            asyncio.get_running_loop().call_soon(self._tidy_up_here)
        return is_stored

    def _tidy_up_here(self) -> None:
        """Tidy up in the loop's own thread, unless somebody writes, who does it then."""
        if self._writing.acquire(blocking=False):
            started = time.perf_counter()
            try:
                self._store.tidy_up()
            finally:
                self._writing.release()
            self._note(time.perf_counter() - started)

    def _note(self, seconds: float, messages: int = 0) -> None:
        """Note how long the disk has taken, for how many messages."""
        share = LONGEST_ON_LOOP / 3 / max(seconds, 1e-6)
        if seconds > LONGEST_ON_LOOP or (messages == 1 and share < 1):
            self._not_before = time.perf_counter() + self._distrust * seconds
            self._distrust *= 2
            return
        self._distrust = _DISTRUST
        if messages and share < 1:
            self._most = max(1, int(messages * share))
        elif messages >= self._most and share > 1:
            # Most of the time may be one wait, which more messages could share.
            self._most = max(self._most + 1, int(messages * share))

    def _commit(self, mails: Sequence[Mail]) -> list[str]:
        started = time.perf_counter()
        with self._writing:
            errors = _errors_of(self._store, mails)
        # A large message, which the other thread writes, may have filled the disk for a while:
        # when that has ended there is room again.
        if any(map(_is_full, errors)) and self._long.wait():
            with self._writing:
                errors = [
                    _attempt(self._store, [mail], locks.LOCK_TIMEOUT)
                    if _is_full(error)
                    else error
                    for mail, error in zip(mails, errors, strict=True)
                ]
        # Later ones tell nothing: a thread waits for a busy loop longer than for the disk.
        if self._not_before == inf:
            self._not_before = 0.0
            self._note(time.perf_counter() - started, len(mails))
        return self._replies(mails, errors)

    def _replies(self, mails: Sequence[Mail], errors: Sequence[Exception | None]) -> list[str]:
        """Return the SMTP reply to each of *mails*, and log what was refused."""
        return [
            STORED if error is None else _refusal(self._store, mail, error)
            for mail, error in zip(mails, errors, strict=True)
        ]

    def _commit_clear(self) -> list[str]:
        try:
            self._clear()
        except Exception as error:  # noqa: BLE001 - as in _attempt
            _tell(self._store, error, "the store is not emptied", NOT_EMPTIED)
            return [NOT_EMPTIED]
        return [STORED]

    def _add(self, mails: Sequence[Mail]) -> None:
        with self._writing:
            self._store.add(mails)
            self._store.tidy_up()

    def _tidy_up(self) -> None:
        with self._writing:
            self._store.tidy_up()

    def _clear(self) -> None:
        """Empty the store after all that was asked before."""
        self._long.wait()
        with self._writing:
            self._store.clear()


class _Waiting(NamedTuple):
    """What a client waits for: that its mail is stored, or (None) that the store is empty."""

    mail: Mail | None
    reply: asyncio.Future[str]


def _has_mail(waiting: _Waiting) -> bool:
    return waiting.mail is not None


class _Queue:
    """What the clients of one event loop wait for, in order of arrival.

    A client may leave at any time: the queue keeps its mail, which is written all the same,
    in its turn. What happens next never depends on a client.
    """

    def __init__(self, write: Callable[[list[Mail], Written], list[str] | None]) -> None:
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
        self._pace.arrived(loop.time())
        if not self._is_busy:
            self._is_busy = True
            self._gather(loop)
        elif self._gathering is not None and len(self._waiting) >= self._pace.clients:
            self._write_batch(loop)
        return waiting.reply

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a batch written when further messages had their time to come."""
        seconds = self._pace.seconds_to_gather(len(self._waiting))
        if seconds:
            self._gathering = loop.call_later(seconds, self._write_batch, loop)
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

        mails = [waiting.mail for waiting in batch if waiting.mail is not None]
        replies = self._write(mails, written)
        if replies is not None:
            self._waiting[:0] = batch[len(replies) :]
            # It has not waited for the disk: there is nothing to gain by gathering.
            self._answer(loop, batch[: len(replies)], replies, loop.time())

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
        self._pace.learn(len(batch), len(self._waiting), started, loop.time())
        if self._waiting:
            self._gather(loop)
        else:
            self._is_busy = False


class _Pace:
    """How long a batch waits for further messages: learnt from the batch before it.

    Where messages come slower than they are written, the loop goes on for a few rounds, each
    of which brings more. To wait for all clients would leave the loop idle meanwhile.

    Where clients that were answered come again in less than half the time of a write, the
    batch waits for all of them. Without, 50 clients fell into two groups, one of which waited
    while the other's messages were written: 25 to 33 ms each in new files, on a disk whose
    flush takes 3 ms, where all 50 messages took 33.
    """

    def __init__(self) -> None:
        self.rounds = 1
        self.clients = 0
        self._written_seconds = 0.0
        self._answered_at = 0.0
        self._answered = 0
        self._came_again = 0
        self._seconds_a_client = 0.0

    def arrived(self, now: float) -> None:
        """Note that a message came at the moment *now*."""
        self._came_again += 1
        if self._came_again == self._answered:
            self._seconds_a_client = (now - self._answered_at) / self._came_again

    def learn(self, written: int, waiting: int, started: float, now: float) -> None:
        """Note that a batch of so many was *written* and answered, and others are *waiting*."""
        self.rounds = min(written, _MOST_ROUNDS)
        self.clients = written + waiting
        self._written_seconds = now - started
        self._answered_at = now
        self._answered = written
        self._came_again = 0

    def seconds_to_gather(self, waiting: int) -> float:
        """Return how long to wait for others where some are *waiting*; 0 is not at all."""
        missing = self.clients - waiting
        longest = min(self._written_seconds / 2, LONGEST_GATHERING)
        return longest if 0 < missing * self._seconds_a_client < longest else 0.0


class WriterThread:
    """Does one job after the other, whichever loop it comes from, in a thread of its own.

    The thread starts with a job and ends when it had none for :data:`IDLE_SECONDS`, or by
    :meth:`close`. A program that ends waits for the jobs that are there.
    """

    def __init__(self, tidy_up: Callable[[], None], rest: Callable[[], None]) -> None:
        """Call *tidy_up* after a job that was answered, and *rest* before the thread ends."""
        self._tidy_up = tidy_up
        self._rest = rest
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Held to start the thread, to give it a job and to let it end: a job that comes
        # while it ends starts the next.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], list[str]], written: Written) -> None:
        """Do *work* after all that was asked before, then call *written* with its replies.

        Where no thread can be had, for a limit of the system, it is done at once.
        """
        job = partial(self._do, work, written)
        try:
            self._submit(job)
        except RuntimeError:
            job()

    def run(self, work: Callable[[], object]) -> None:
        """Do *work* after all that was asked before; return, or raise, when it is done.

        Raises RuntimeError, too, where no thread can be had.
        """
        done: Future[object] = Future()
        self._submit(partial(_run, work, done))
        done.result()

    def wait(self) -> bool:
        """Wait for all that was asked; return False where nothing was, for a while."""
        if self._thread is None:
            return False
        with suppress(RuntimeError):  # it has ended just now, and no other can be had
            self.run(lambda: None)
        return True

    def close(self) -> None:
        """Wait for all that was asked, and for the thread to end."""
        with self._lock:
            thread = self._thread
            if thread is not None:
                self._jobs.put(None)
        if thread is not None:
            thread.join()

    def _submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon, for which Python doesn't wait, unless there is a job: see close.
                thread = threading.Thread(
                    target=self._work, name="mailhandlers-writer", daemon=True
                )
                thread.start()
                self._thread = thread
                atexit.register(self.close)
            self._jobs.put(job)

    def _work(self) -> None:
        while job := self._next():
            job()

    def _next(self) -> Callable[[], None] | None:
        job: Callable[[], None] | None = None
        with suppress(Empty):
            job = self._jobs.get(timeout=IDLE_SECONDS)
        if job is None:  # idle, or told to end
            # Not with the lock: this may wait for the disk, and a loop with a job for the lock.
            self._rest()
            with self._lock:
                if self._jobs.empty():
                    self._thread = None
                    atexit.unregister(self.close)
                    return None
            job = self._next()
        return job

    def _do(self, work: Callable[[], list[str]], written: Written) -> None:
        replies = work()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            written(replies)
        try:
            self._tidy_up()
        except Exception:  # noqa: BLE001 - as in _attempt
            # Such as MemoryError. Without this thread, all clients would wait for ever.
            _log.exception("an error of this program, behind a message that is stored")


def _run(work: Callable[[], object], done: Future[object]) -> None:
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 - it is the caller's, who waits for it
        done.set_exception(error)


def _attempt(store: Store, mails: Sequence[Mail], patience: float) -> Exception | None:
    """Store all *mails* or none; return the error that prevented it."""
    try:
        store.add(mails, patience)
    except Exception as error:  # noqa: BLE001
        # An error nobody foresaw may not end the writer: its clients would wait for ever.
        return error
    return None


def _errors_of(store: Store, mails: Sequence[Mail]) -> list[Exception | None]:
    """Store *mails*; return the error that prevented that, for each.

    One message that can't be written must not refuse those that came with it: a batch that
    fails is written message by message.
    """
    error = _attempt(store, mails, locks.LOCK_TIMEOUT)
    # After a lock that wasn't had, the next attempt would wait as long again; and after an
    # object store that gave no answer.
    is_final = error is None or isinstance(error, (locks.LockTimeoutError, TimeoutError))
    if is_final or len(mails) == 1:
        return [error] * len(mails)
    return [each for mail in mails for each in _errors_of(store, [mail])]


def _is_full(error: Exception | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _refusal(store: Store, mail: Mail, error: Exception) -> str:
    """Return the SMTP reply to a *mail* that *error* kept out, and log why."""
    reply = DISK_FULL if _is_full(error) else FAILED
    envelope = mail.envelope
    who = f"from {envelope.mail_from!a}, sent by {envelope.peer}"
    _tell(store, error, f"refused mail {envelope.id} {who}", reply)
    return reply


def _tell(store: Store, error: Exception, consequence: str, reply: str) -> None:
    """Say why, in one line; with the place in this program where nobody foresaw it."""
    foreseen = isinstance(error, (OSError, MemoryError))
    _log.error(
        "%s: %s; %s: %s",
        getattr(error, "filename", None) or store.path,
        getattr(error, "strerror", None) or type(error).__name__,
        consequence,
        reply,
        exc_info=None if foreseen else error,
    )
