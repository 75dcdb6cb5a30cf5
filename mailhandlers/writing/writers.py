"""Who writes while the event loop goes on: a thread, or (child.py) a child process.

Both take a batch and a callback, which they call with the SMTP reply to each message. The
callback may be called in any thread.
"""

from __future__ import annotations

import atexit
import errno
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from ..mail import Mail
from .store import Store

Written = Callable[[list[str]], object]
"""What is called with the replies to a batch; RuntimeError says that its loop is closed."""

IDLE_SECONDS = 2.0
"""How long a thread waits for its next job before it ends."""


class WriterThread:
    """Does one job after the other, whichever loop it comes from, in a thread of its own.

    The thread starts with a job and ends when it had none for :data:`IDLE_SECONDS`, or by
    :meth:`close`. A program that ends waits for the jobs that are there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Held to start the thread, to give it a job and to let it end: a job that comes
        # while it ends starts the next.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def commit(self, mails: Sequence[Mail], written: Written) -> None:
        """Commit *mails* after all that was asked before, then call *written*."""
        try:
            self._submit(partial(self._do, partial(self._store.commit, mails), written))
        except RuntimeError as error:  # no thread can be had
            full = OSError(errno.EAGAIN, str(error))
            written([self._store.refusal(mail, full) for mail in mails])

    def commit_reset(self, written: Written) -> None:
        """Empty the store after all that was asked before, then call *written*."""
        try:
            self._submit(partial(self._do, self._store.commit_reset, written))
        except RuntimeError:
            written(self._store.commit_reset())  # nobody else is writing

    def run(self, work: Callable[[], object]) -> None:
        """Do *work* after all that was asked before; return, or raise, when it is done.

        Raises RuntimeError, too, where no thread can be had.
        """
        done: Future[object] = Future()
        self._submit(partial(_run, work, done))
        done.result()

    def wait(self) -> None:
        """Wait for all that was asked."""
        if self._thread is not None:
            self.run(lambda: None)

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
            with self._lock:
                if self._jobs.empty():
                    self._store.rest()
                    self._thread = None
                    atexit.unregister(self.close)
                    return None
            job = self._next()
        return job

    def _do(self, work: Callable[[], list[str]], written: Written) -> None:
        replies = work()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            written(replies)
        self._store.tidy_up()


def _run(work: Callable[[], object], done: Future[object]) -> None:
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 - it is the caller's, who waits for it
        done.set_exception(error)
