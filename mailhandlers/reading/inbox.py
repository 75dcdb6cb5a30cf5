"""Reading back: find a message, wait for it, count, filter, clear.

The format of a store is found from its path. Every call looks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .criteria import Criteria, Wanted
from .expectations import Expected, ExpectedNone
from .find import find
from .message import StoredMessage
from .search import Found, Search

if TYPE_CHECKING:
    from typing_extensions import Unpack


def read_latest(
    path: str | os.PathLike[str], *, timeout: float = 0, **criteria: Unpack[Wanted]
) -> StoredMessage:
    """Return the newest message of the store at *path* that meets the *criteria*.

    Waits up to *timeout* seconds for one. The criteria are ``to`` (one of the envelope's
    recipients), ``mail_from``, ``subject`` (a string, or a compiled pattern to search),
    ``matching`` (a pattern to search in headers and text) and ``where`` (a function of
    the message). Raises NoMessageError, and StoreError where *path* holds no store.
    """
    return Search(path, Criteria.of(criteria)).wait(timeout)


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
        return read_latest(self.path, timeout=timeout, **criteria)

    def messages(self, **criteria: Unpack[Wanted]) -> list[StoredMessage]:
        """Return the messages that meet the *criteria*, oldest first."""
        return list(read_messages(self.path, **criteria))

    def expect(self, *, timeout: float = 30, **criteria: Unpack[Wanted]) -> Expected:
        """Return a context whose ``message`` is the first that arrives from its start on.

        Its end waits for it, up to *timeout* seconds, and raises NoMessageError.
        """
        return Expected(self.path, timeout, Criteria.of(criteria))

    def expect_none(self, *, within: float = 1, **criteria: Unpack[Wanted]) -> ExpectedNone:
        """Return a context in which, and *within* seconds after which, no mail may come.

        Its end raises AssertionError as soon as one does.
        """
        return ExpectedNone(self.path, within, Criteria.of(criteria))

    def clear(self) -> None:
        """Remove all messages; the server may run on."""
        find(self.path).clear()
