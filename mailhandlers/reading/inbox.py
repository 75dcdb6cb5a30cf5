"""Reading back: find a message, wait for it, count, filter, clear.

The format of a store is found from its path. Every call looks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from .criteria import Criteria, Unpack, Wanted
from .expectations import Expected, ExpectedNone
from .find import find
from .follow import Follow
from .found import Found
from .message import StoredMessage
from .search import Search
from .waiting import wait, wait_in_loop


def read_latest(
    path: str | os.PathLike[str], *, timeout: float = 0, **criteria: Unpack[Wanted]
) -> StoredMessage:
    """Return the newest message of the store at *path* that meets the *criteria*.

    Waits up to *timeout* seconds for one. The criteria are ``to`` (one of the envelope's
    recipients), ``mail_from``, ``subject`` (a string, or a compiled pattern to search),
    ``matching`` (a pattern to search in headers and text) and ``where`` (a function of
    the message). Raises NoMessageError, and StoreError where *path* holds no store.
    """
    return Inbox(path).latest(timeout=timeout, **criteria)


def read_messages(
    path: str | os.PathLike[str], **criteria: Unpack[Wanted]
) -> Iterator[StoredMessage]:
    """Yield the messages of the store at *path* that meet the *criteria*, oldest first.

    One message is in memory at a time. Raises StoreError where *path* holds no store.
    """
    wanted = Criteria.of(criteria)
    return Found(wanted, strict=True).messages(find(path, wanted.to).oldest_first())


class Inbox:
    """A live view of the store at *path*: every call looks again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def __iter__(self) -> Iterator[StoredMessage]:
        return read_messages(self.path)

    def __len__(self) -> int:
        entries = find(self.path).newest_first()
        return sum(1 for _ in Found(Criteria(), strict=True).contents(entries))

    def __bool__(self) -> bool:
        return True  # an empty inbox is an inbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {os.fspath(self.path)!r}>"

    def latest(self, *, timeout: float = 0, **criteria: Unpack[Wanted]) -> StoredMessage:
        """Return the newest message, as :func:`read_latest` does."""
        search = Search(self.path, Criteria.of(criteria))
        message = wait(search.wait(timeout))
        if message is None:
            raise search.miss(timeout, self.explain())
        return message

    async def alatest(self, *, timeout: float = 0, **criteria: Unpack[Wanted]) -> StoredMessage:
        """Return the newest message, as :meth:`latest` does; the event loop runs on.

        For asyncio, and for anyio on top of it.
        """
        search = Search(self.path, Criteria.of(criteria))
        message = await wait_in_loop(search.wait(timeout))
        if message is None:
            raise search.miss(timeout, self.explain())
        return message

    def messages(self, **criteria: Unpack[Wanted]) -> list[StoredMessage]:
        """Return the messages that meet the *criteria*, oldest first."""
        return list(read_messages(self.path, **criteria))

    def follow(
        self,
        *,
        timeout: float | None = None,
        from_start: bool = False,
        **criteria: Unpack[Wanted],
    ) -> Follow:
        """Return an iterator of each message once, in order of arrival, as they arrive.

        It begins with what arrives after this call; *from_start*, with what is there. It
        ends when none came for *timeout* seconds; None goes on for ever. It is an async
        iterator as well: ``async for message in inbox.follow()``. Of messages that
        MailFile replaces within a few milliseconds, only the last is seen.
        """
        return Follow(self.path, Criteria.of(criteria), timeout=timeout, from_start=from_start)

    def expect(
        self, *, timeout: float = 30, count: int = 1, **criteria: Unpack[Wanted]
    ) -> Expected:
        """Return a context for ``with`` or ``async with``: mail that arrives from its start on.

        Its ``message`` is the first, its ``messages`` are *count*. Its end waits for them,
        up to *timeout* seconds, and raises NoMessageError. Under a running event
        loop, ``async with`` lets that run on, and ``with`` stops it.
        """
        return Expected(self.path, timeout, Criteria.of(criteria), self.explain, count)

    def expect_none(self, *, within: float = 1, **criteria: Unpack[Wanted]) -> ExpectedNone:
        """Return a context in which, and *within* seconds after which, no mail may come.

        Its end raises AssertionError as soon as one does. Under a running event loop it is
        for ``async with``; ``with`` raises RuntimeError.
        """
        return ExpectedNone(self.path, within, Criteria.of(criteria), self.explain)

    def clear(self) -> None:
        """Remove all messages; the server may run on."""
        find(self.path).clear()

    def explain(self) -> str:
        """Return what else is known where no message came, or nothing."""
        return ""
