"""Following a store: its messages as they arrive, one after the other."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

from ..message.message import StoredMessage
from .criteria import Criteria
from .cursor import Cursor
from .waiting import wait, wait_in_loop


class Follow(Iterator[StoredMessage], AsyncIterator[StoredMessage]):
    """Each message once, in order of arrival: for ``for`` and for ``async for``.

    It ends when none came for *timeout* seconds; None goes on for ever.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        criteria: Criteria,
        *,
        timeout: float | None,
        from_start: bool,
    ) -> None:
        self._cursor = Cursor(path, criteria, from_start=from_start)
        self._timeout = timeout

    def __next__(self) -> StoredMessage:
        message = wait(self._cursor.wait(self._timeout))
        if message is None:
            raise StopIteration
        return message

    async def __anext__(self) -> StoredMessage:
        message = await wait_in_loop(self._cursor.wait(self._timeout))
        if message is None:
            raise StopAsyncIteration
        return message
