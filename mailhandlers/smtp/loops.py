"""The event loop of a server in a thread: one for all of this process, as long as one runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import closing
from selectors import DefaultSelector, SelectSelector
from typing import Any, TypeVar

_T = TypeVar("_T")
_LAST_ROUNDS = 0.1
"""The seconds that cancelled tasks have to end."""
MOST_TO_SELECT = 500
"""How many connections there are at once, where there is a limit: the others wait."""


class LoopThread:
    """An event loop in a thread of its own, until :meth:`end`.

    It may end before: a hook that raises SystemExit ends its loop, and so does what the system
    refuses to the loop. Then the clients and all who wait for an outcome would wait for ever:
    so it lets the clients go, and :meth:`run` raises the reason.
    """

    def __init__(self) -> None:
        """Start it. Raises OSError or RuntimeError where the system has no more to give."""
        self.failure: str | None = None
        """Why it has ended, in a sentence, or None."""
        self._lock = threading.Lock()
        self._awaited: dict[Future[Any], Coroutine[Any, Any, Any]] = {}
        self._selector = DefaultSelector()
        # Not what asyncio, or the user's policy, has for all: under Windows that has no
        # add_reader, and takes a socket only once.
        self._loop = asyncio.SelectorEventLoop(self._selector)
        # A daemon: a program that forgets to stop its server can end.
        self._thread = threading.Thread(
            target=self._live, name="mailhandlers-server", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run *coroutine* in the loop, and return or raise what it does.

        Raises RuntimeError where the thread has ended, or ends meanwhile.
        """
        with self._lock:
            if self.failure is not None:
                coroutine.close()
                raise RuntimeError(self.failure)
            outcome = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._awaited[outcome] = coroutine
        try:
            return outcome.result()
        except CancelledError:
            raise RuntimeError(self.failure) from None
        finally:
            del self._awaited[outcome]

    def is_full(self) -> bool:
        """Tell whether one more connection would be one too many for the system.

        Where there is nothing newer than select(2), as under Windows, its 513th ends the loop.
        """
        is_old = isinstance(self._selector, SelectSelector)
        return is_old and len(self._selector.get_map()) >= MOST_TO_SELECT

    def end(self) -> None:
        """End it, and wait for that."""
        if self.failure is None:
            self.run(self._loop.shutdown_default_executor())
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def check_caller(self) -> None:
        """Raise RuntimeError in this thread itself, in which :meth:`run` never returns."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "the server's own thread can't wait for it: start and stop it in another"
            )

    def _live(self) -> None:
        reason = "its loop was stopped"
        try:
            self._loop.run_forever()
        except BaseException as error:
            reason = repr(error)
            raise
        finally:
            with self._lock:
                self.failure = f"the server's thread has ended: {reason}"
            try:
                with closing(_cancel_all()) as last:
                    self._loop.run_until_complete(last)
            finally:
                self._loop.close()
                for outcome, coroutine in [*self._awaited.items()]:
                    if not outcome.done():  # the loop had no time to begin, nor to cancel it
                        coroutine.close()
                        outcome.set_exception(RuntimeError(self.failure))


async def _cancel_all() -> None:
    """Cancel all other tasks of this loop: asyncio.Runner does so, of Python 3.11."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST_ROUNDS)
    await asyncio.sleep(0)  # the loop closes the sockets in its next round


class SharedLoop:
    """One :class:`LoopThread` for all, from the first :meth:`hold` to the last release.

    To start a thread and a loop takes 0.3 ms: tests that hold it for a session save that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._thread: LoopThread | None = None

    def hold(self) -> LoopThread:
        """Return a loop that runs until it is released as often as it was held.

        In place of one whose thread has ended there is a new one from then on.
        """
        with self._lock:
            if self._thread is None or self._thread.failure is not None:
                self._thread = LoopThread()
            self._holders += 1
            return self._thread

    def release(self) -> None:
        """Let the loop end, and wait for that, if nobody else holds it."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._thread is not None:
                thread, self._thread = self._thread, None
                thread.end()


LOOP = SharedLoop()
"""The loop of all servers of this process."""
