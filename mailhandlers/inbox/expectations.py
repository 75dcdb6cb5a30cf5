"""Mail that is expected: contexts that count only what arrives within them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from ..message.message import StoredMessage
from ..stores.find import find
from ..stores.store import Seen
from .criteria import Criteria
from .cursor import Cursor
from .found import line_of
from .search import no_message
from .waiting import loop_is_running, wait, wait_in_loop

_E = TypeVar("_E", bound="_Expectation")


class _Expectation:
    """Mail that arrives after the ``with`` line, and until some time after its block."""

    _was_entered = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        seconds: float,
        criteria: Criteria,
        explain: Callable[[], str],
    ) -> None:
        self._explain = explain
        self._path = path
        self._seconds = seconds
        self._criteria = criteria
        self._before: Seen | None = None
        self._cursor: Cursor | None = None

    def __enter__(self: _E) -> _E:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish()

    async def __aenter__(self: _E) -> _E:
        import asyncio

        await asyncio.to_thread(self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self._finish_in_loop()

    def __del__(self) -> None:
        if not self._was_entered:
            warnings.warn("expect() and expect_none() need a 'with'", stacklevel=2)

    def _begin(self) -> None:
        self._was_entered = True
        self._before = find(self._path).now()
        self._cursor = Cursor(self._path, self._criteria)

    @property
    def _begun(self) -> Cursor:
        if self._cursor is None:
            raise RuntimeError("expect() needs a 'with', or it can't tell what is new")
        return self._cursor

    def _finish(self) -> None:
        raise NotImplementedError

    async def _finish_in_loop(self) -> None:
        raise NotImplementedError


class Expected(_Expectation):
    """The context of :meth:`.inbox.Inbox.expect`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        seconds: float,
        criteria: Criteria,
        explain: Callable[[], str],
        count: int,
    ) -> None:
        super().__init__(path, seconds, criteria, explain)
        self._count = count
        self._messages: list[StoredMessage] = []

    @property
    def message(self) -> StoredMessage:
        """The first message that came; asking within the block waits for it there.

        Raises NoMessageError.
        """
        self._collect(1)
        return self._messages[0]

    @property
    def messages(self) -> list[StoredMessage]:
        """The messages that came, in order of arrival, as many as were asked for.

        Asking within the block waits for them there. Raises NoMessageError.
        """
        self._collect(self._count)
        return list(self._messages)

    def _finish(self) -> None:
        self._collect(self._count)

    def _collect(self, count: int) -> None:
        deadline = time.monotonic() + self._seconds
        while len(self._messages) < count:
            self._note(wait(self._begun.wait(deadline - time.monotonic())))

    async def _finish_in_loop(self) -> None:
        deadline = time.monotonic() + self._seconds
        while len(self._messages) < self._count:
            waiting = self._begun.wait(deadline - time.monotonic())
            message = await wait_in_loop(waiting)
            self._note(message)

    def _note(self, message: StoredMessage | None) -> None:
        if message is None:
            arrived, _ = find(self._path).since(self._before)
            raise no_message(
                os.path.abspath(self._path),
                self._criteria,
                self._seconds,
                reversed([*arrived]),
                self._explain(),
                only_new=True,
            )
        self._messages.append(message)


class ExpectedNone(_Expectation):
    """The context of :meth:`.inbox.Inbox.expect_none`."""

    def __enter__(self: _E) -> _E:
        if loop_is_running():
            self._was_entered = True
            raise RuntimeError(
                "expect_none() would stop the event loop of this thread, where nothing can "
                "be sent meanwhile: write 'async with inbox.expect_none(...)'"
            )
        return super().__enter__()

    def _finish(self) -> None:
        self._judge(wait(self._begun.wait(self._seconds)))

    async def _finish_in_loop(self) -> None:
        waiting = self._begun.wait(self._seconds)
        message = await wait_in_loop(waiting)
        self._judge(message)

    @staticmethod
    def _judge(message: StoredMessage | None) -> None:
        if message is not None:
            raise AssertionError(f"a message came where none was expected: {line_of(message)}")
