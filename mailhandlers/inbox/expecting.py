"""Mail that is expected: contexts that count only what arrives within them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TypeVar

from ..message.message import StoredMessage
from ..stores.find import find
from ..stores.latest import LatestStore
from ..stores.store import Entry, StoreError, absolute
from .criteria import Criteria
from .cursor import Cursor, EntryCursor
from .misses import NoMessageError, line_of, no_message
from .remembering import Remembered
from .waiting import Steps, loop_is_running, until_found, wait, wait_in_loop

# How many seconds to wait for one message more than are expected exactly.
_ONE_MORE = 0.5

_E = TypeVar("_E", bound="_Expectation")


class _Expectation:
    """Mail that arrives after the ``with`` line, and until some time after its block."""

    _is_forgotten = False
    _silence = ""
    """The call for which it matters that nothing comes; empty where it doesn't."""
    _cursor: Cursor

    def __init__(
        self,
        path: str | os.PathLike[str],
        seconds: float,
        criteria: Criteria,
        remembered: Remembered,
    ) -> None:
        self._path = absolute(path)
        self._remembered = remembered
        self._seconds = seconds
        self._criteria = criteria
        self._is_forgotten = True

    def __enter__(self: _E) -> _E:
        self._is_forgotten = False
        if self._silence and loop_is_running():
            raise RuntimeError(
                f"{self._silence} would stop the event loop of this thread, where nothing can "
                f"be sent meanwhile: write 'async with inbox.{self._silence}'"
            )
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            wait(self._finish())

    async def __aenter__(self: _E) -> _E:
        import asyncio

        self._is_forgotten = False
        await asyncio.to_thread(self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await wait_in_loop(self._finish())

    def __del__(self) -> None:
        if self._is_forgotten:
            warnings.warn("expect() and expect_none() need a 'with'", stacklevel=2)

    def _begin(self) -> None:
        self._cursor = Cursor(self._path, self._criteria, self._remembered)

    def _finish(self) -> Steps[None]:
        raise NotImplementedError


class Expected(_Expectation):
    """The context of :meth:`.inbox.Inbox.expect`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        seconds: float,
        criteria: Criteria,
        remembered: Remembered,
        count: int,
        exactly: int | None,
        explain: Callable[[], str],
    ) -> None:
        for name, number in (("count", count), ("exactly", exactly)):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"{name} is how many messages are to come, not {number!r}")
        if exactly is not None:
            if count != 1:
                raise ValueError("count= is for 'at least', exactly= for 'no more': give one")
            self._silence = f"expect(exactly={exactly})"
        super().__init__(path, seconds, criteria, remembered)
        self._count = exactly or count
        self._explain = explain
        self._messages: list[StoredMessage] = []
        self._arrived: list[Entry] = []

    @property
    def message(self) -> StoredMessage:
        """The first message that came; asking within the block waits for it there.

        Raises NoMessageError.
        """
        return wait(self._collect(1))[0]

    @property
    def messages(self) -> list[StoredMessage]:
        """The messages that came, in order of arrival, as many as were asked for.

        Asking within the block waits for them there. Raises NoMessageError.
        """
        return list(wait(self._collect(self._count)))

    def _begin(self) -> None:
        # Whatever arrives, to tell what came instead.
        self._all = EntryCursor(self._path, remembered=self._remembered)
        super()._begin()

    def _finish(self) -> Steps[None]:
        yield from self._collect(self._count)
        if not self._silence:
            return
        if isinstance((yield partial(find, self._path)), LatestStore):
            raise StoreError(
                f"{self._path} keeps the latest message alone, so how many came can't be told: "
                "exactly= is for other stores"
            )
        message = yield from self._cursor.until_next(_ONE_MORE)
        if message is not None:
            expected = "one was" if self._count == 1 else f"{self._count} were"
            raise AssertionError(
                f"another message came where exactly {expected} expected: {line_of(message)}"
            )

    def _collect(self, count: int) -> Steps[list[StoredMessage]]:
        if self._is_forgotten:
            raise RuntimeError("expect() needs a 'with', or it can't tell what is new")
        look = partial(self._look, count)
        messages = yield from until_found(look, self._cursor.watch, self._seconds)
        if messages is None:
            raise (yield partial(self._miss, count))
        return messages

    def _look(self, count: int) -> list[StoredMessage] | None:
        missing = count - len(self._messages)
        self._messages += islice(iter(self._cursor.next, None), max(missing, 0))
        return self._messages if len(self._messages) >= count else None

    def _miss(self, count: int) -> NoMessageError:
        self._arrived += self._all.new()
        return no_message(
            self._path,
            self._criteria,
            self._seconds,
            reversed(self._arrived),
            self._explain(),
            only_new=True,
            came=self._messages,
            count=count,
        )


class ExpectedNone(_Expectation):
    """The context of :meth:`.inbox.Inbox.expect_none`."""

    _silence = "expect_none()"

    def _finish(self) -> Steps[None]:
        message = yield from self._cursor.until_next(self._seconds)
        if message is not None:
            raise AssertionError(f"a message came where none was expected: {line_of(message)}")
