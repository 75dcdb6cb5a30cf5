"""Reading back: find a message, wait for it, count, filter, clear.

The format of a store is found from its path. Every call looks again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

from ..message.message import StoredMessage
from ..stores.find import find
from ..stores.store import Seen
from .criteria import Criteria, Found, Unpack, Wanted
from .cursor import Cursor
from .expecting import Expected, ExpectedNone
from .misses import NoMessageError, no_message
from .waiting import Wait, Watch, wait, wait_in_loop


def read_latest(
    path: str | os.PathLike[str], *, timeout: float = 0, **criteria: Unpack[Wanted]
) -> StoredMessage:
    """Return the newest message of the store at *path* that meets all *criteria*.

    *path* is a file or a folder that a handler or another mail program wrote. If there is no
    such message yet, this waits for one, up to *timeout* seconds.

    The criteria are keywords; one that is left out, or None, allows every message:

    ``to`` (str)
        One of the envelope's recipients, in any case. A blind copy counts.
    ``mail_from`` (str)
        The envelope's sender, in any case. ``""`` is the sender of a bounce.
    ``subject`` (str or compiled pattern)
        The whole subject, or a pattern to search in it.
    ``matching`` (str or compiled pattern)
        A regular expression to search in the decoded headers and the text.
    ``where`` (function)
        A function that is given the message, and returns whether it is wanted.

    Raises NoMessageError if no such message came in time, StoreError if *path* holds
    something else than mail, TypeError for a criterion that is none, and :exc:`re.error` for a
    pattern that is none.
    """
    return Inbox(path).latest(timeout=timeout, **criteria)


def read_messages(
    path: str | os.PathLike[str], **criteria: Unpack[Wanted]
) -> Iterator[StoredMessage]:
    """Yield the messages of the store at *path* that meet all *criteria*, oldest first.

    The criteria are those of :func:`read_latest`. One message is in memory at a time. A store
    that is missing or empty has no messages. Raises StoreError if *path* holds something else
    than mail, and for the criteria what :func:`read_latest` raises.
    """
    wanted = Criteria.of(criteria)
    return Found(wanted, strict=True).messages(find(path, wanted.to).oldest_first())


class Inbox:
    """The messages of the store at *path*, as they are at the moment of each call.

    *path* is a file or a folder that a handler or another mail program wrote; it need not
    exist yet. ``len(inbox)`` counts its messages, and ``for message in inbox`` yields them,
    oldest first. Every method reads the store anew, and only :meth:`clear` changes it.

    All methods take the criteria of :func:`read_latest` as keywords, such as
    ``to="bob@example.com"``, and raise StoreError if *path* holds something else than mail.
    """

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
        """Return the newest message that meets all *criteria*.

        If there is none yet, this waits for one, up to *timeout* seconds. Raises
        NoMessageError if none came in time.
        """
        search = Search(self.path, Criteria.of(criteria))
        message = wait(search.wait(timeout))
        if message is None:
            raise search.miss(timeout, self.explain())
        return message

    async def alatest(self, *, timeout: float = 0, **criteria: Unpack[Wanted]) -> StoredMessage:
        """Do the same as :meth:`latest` in asyncio: the event loop runs while this waits."""
        search = Search(self.path, Criteria.of(criteria))
        message = await wait_in_loop(search.wait(timeout))
        if message is None:
            raise search.miss(timeout, self.explain())
        return message

    def messages(self, **criteria: Unpack[Wanted]) -> list[StoredMessage]:
        """Return a list of the messages that meet all *criteria*, oldest first."""
        return list(read_messages(self.path, **criteria))

    def follow(
        self,
        *,
        timeout: float | None = None,
        from_start: bool = False,
        **criteria: Unpack[Wanted],
    ) -> Follow:
        """Return an iterator that yields each message once, as they arrive.

        It is for ``for`` and for ``async for``. It begins with the first message that arrives
        after this call or, if *from_start* is true, with those that are there already. It ends
        when no message came for *timeout* seconds; None means that it never ends. A MailFile
        holds one message: of several within a few milliseconds only the last is seen.
        """
        return Follow(self.path, Criteria.of(criteria), timeout=timeout, from_start=from_start)

    def expect(
        self, *, timeout: float = 30, count: int = 1, **criteria: Unpack[Wanted]
    ) -> Expected:
        """Return a context for ``with`` or ``async with``, in which mail is to arrive.

        Only messages that arrive after the ``with`` line count. The end of the block waits
        until there are *count* of them, up to *timeout* seconds from there, and raises
        NoMessageError if there are fewer. ``expected.message`` is the first of them and
        ``expected.messages`` the list of *count*; both may be used in the block, too, where
        they wait.

        In asyncio write ``async with``: a ``with`` stops the event loop while it waits, and so
        the program that is to send the mail.
        """
        return Expected(self.path, timeout, Criteria.of(criteria), self.explain, count)

    def expect_none(self, *, within: float = 1, **criteria: Unpack[Wanted]) -> ExpectedNone:
        """Return a context for ``with`` or ``async with``, in which no mail may arrive.

        The end of the block waits for another *within* seconds. If a message that meets all
        *criteria* arrived since the ``with`` line, or arrives now, it raises AssertionError. In
        asyncio only ``async with`` will do: ``with`` raises RuntimeError.
        """
        return ExpectedNone(self.path, within, Criteria.of(criteria), self.explain)

    def clear(self) -> None:
        """Remove all messages. A server that writes to the store may go on running."""
        find(self.path).clear()

    def explain(self) -> str:
        """Return what is to be added to the text of a NoMessageError; here it is empty.

        A subclass that knows more about the server tells it here, as MailCatcher does.
        """
        return ""


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


class Search:
    """The search for the newest message of a store that meets the criteria."""

    def __init__(self, path: str | os.PathLike[str], criteria: Criteria) -> None:
        self.path = os.path.abspath(path)
        self._criteria = criteria
        self._watch = Watch(self.path)
        self._seen: Seen = None
        self._is_first = True

    def wait(self, timeout: float) -> Wait[StoredMessage]:
        """Return a wait for the message."""
        return Wait(self._look, self._watch, timeout)

    def _look(self) -> StoredMessage | None:
        store = find(self.path, self._criteria.to)
        self._watch.follow(store.folders)
        if self._is_first:
            # Before the look: what comes meanwhile is new to the next.
            self._is_first, self._seen = False, store.now()
            found = Found(self._criteria, strict=True)
            return next(found.messages(store.newest_first()), None)
        entries, self._seen = store.since(self._seen)
        return next(Found(self._criteria).messages(reversed([*entries])), None)

    def miss(self, timeout: float, explanation: str) -> NoMessageError:
        """Return the error that tells why there is no message."""
        entries = find(self.path).newest_first()
        return no_message(self.path, self._criteria, timeout, entries, explanation)
