"""Reading back: find a message, wait for it, count, filter, clear.

The format of a store is found from its path. Every call looks again.
"""

from __future__ import annotations

import operator
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import SupportsIndex, overload

from ..mail import Mail
from ..message.message import StoredMessage
from ..stores.find import find
from ..stores.store import Getter, absolute
from .criteria import Criteria, Unpack, Wanted
from .cursor import Cursor, EntryCursor
from .expecting import Expected, ExpectedNone
from .misses import RECENT, NoMessageError, no_message
from .readable import Mails
from .remembering import Remembered
from .waiting import Steps, checked_seconds, until_found, wait, wait_in_loop


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
    ``since`` (str)
        The id of a message: it arrived after that one, which need not be there any more.
    ``where`` (function)
        A function that is given the message, and returns whether it is wanted.

    Raises NoMessageError if no such message came in time, StoreError if *path* holds
    something else than mail, TypeError for a criterion that is none, and ValueError for an id
    that is none; :exc:`re.error` for a pattern that is none.
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
    return Inbox(path)._messages(Criteria.of(criteria))


class Inbox:
    """The messages of the store at *path*, as they are at the moment of each call.

    *path* is a file or a folder that a handler or another mail program wrote; it need not
    exist yet. ``len(inbox)`` counts its messages, and ``for message in inbox`` yields them,
    oldest first. ``inbox[0]`` is the oldest, ``inbox[-1]`` the newest, ``inbox[-3:]`` a list of
    the last three; IndexError says that there are fewer. Every method looks at the store anew,
    and only :meth:`clear` changes it.

    An Inbox remembers who sent each message to whom, so that a second question costs what is
    new since and what is found: keep the object where you ask often. A file that an editor
    changed in place, one of many, counts as it was until it is read.

    All methods take the criteria of :func:`read_latest` as keywords, such as
    ``to="bob@example.com"``, and raise StoreError if *path* holds something else than mail.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._remembered = Remembered(path)

    def __iter__(self) -> Iterator[StoredMessage]:
        return self._messages(Criteria())

    def __len__(self) -> int:
        count, unsure = self._remembered.whole().count()
        mails = Mails(unsure, self._remembered.left_out, strict=not count)
        return count + sum(1 for _ in mails)

    def __reversed__(self) -> Iterator[StoredMessage]:
        return _parsed(self._mails(newest_first=True))

    @overload
    def __getitem__(self, index: SupportsIndex) -> StoredMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[StoredMessage]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> StoredMessage | list[StoredMessage]:
        if isinstance(index, slice):
            return list(_parsed(self._chosen(index)))
        number = operator.index(index)
        is_newest_first = number < 0  # which reads no other message
        skipped = -number - 1 if is_newest_first else number
        mails = self._mails(is_newest_first)
        for message in _parsed(islice(mails, skipped, skipped + 1)):
            return message
        raise IndexError(f"there is no message {number} in {os.fspath(self.path)}")

    def _chosen(self, chosen: slice) -> Iterable[Mail]:
        """Return the mail of a slice; of one that counts from the end only that is read."""
        start, stop, step = chosen.start, chosen.stop, chosen.step
        if start is not None and start < 0 and (stop is None or stop < 0) and (step or 1) > 0:
            last = list(islice(self._mails(newest_first=True), -start))
            return last[::-1][:stop:step]
        numbers = range(len(self))[chosen]
        found = {number: mail for number, mail in enumerate(self._mails()) if number in numbers}
        return [found[number] for number in numbers if number in found]

    def _mails(self, newest_first: bool = False) -> Iterator[Mail]:
        known = self._remembered
        order = known.newest_first if newest_first else known.oldest_first
        return iter(order(Criteria()))

    def __bool__(self) -> bool:
        return True  # an empty inbox is an inbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {os.fspath(self.path)!r}>"

    def latest(self, *, timeout: float = 0, **criteria: Unpack[Wanted]) -> StoredMessage:
        """Return the newest message that meets all *criteria*.

        If there is none yet, this waits for one, up to *timeout* seconds. Raises
        NoMessageError if none came in time.
        """
        return wait(self._latest(timeout, Criteria.of(criteria)))

    async def alatest(self, *, timeout: float = 0, **criteria: Unpack[Wanted]) -> StoredMessage:
        """Do the same as :meth:`latest` in asyncio: the event loop runs while this waits."""
        return await wait_in_loop(self._latest(timeout, Criteria.of(criteria)))

    def messages(self, **criteria: Unpack[Wanted]) -> list[StoredMessage]:
        """Return a list of the messages that meet all *criteria*, oldest first."""
        return list(self._messages(Criteria.of(criteria)))

    def by_recipient(self) -> dict[str, Sequence[StoredMessage]]:
        """Return the messages to each recipient of an envelope, oldest first.

        A recipient is spelled as in the first of its messages; capitals make no other. The
        messages are read when they are asked for, their number is there at once::

            came = {to: len(messages) for to, messages in inbox.by_recipient().items()}
            assert came == dict.fromkeys(subscribers, 1)

        One that was removed meanwhile raises NoMessageError when it is asked for.
        """
        found = self._remembered.by_recipient()
        return {recipient: _Messages(entries) for recipient, entries in found.items()}

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
        if timeout is not None:
            timeout = checked_seconds("timeout", timeout)
        cursor = Cursor(
            self.path, Criteria.of(criteria), self._remembered, from_start=from_start
        )
        return Follow(cursor, timeout)

    def expect(
        self,
        *,
        timeout: float = 30,
        count: int = 1,
        exactly: int | None = None,
        **criteria: Unpack[Wanted],
    ) -> Expected:
        """Return a context for ``with`` or ``async with``, in which mail is to arrive.

        Only messages that arrive after the ``with`` line count. The end of the block waits
        until there are *count* of them, up to *timeout* seconds from there, and raises
        NoMessageError if there are fewer. More may come. ``expected.message`` is the first of
        them and ``expected.messages`` the list of *count*; both may be used in the block, too,
        where they wait.

        With *exactly* instead of *count*, no more may come: as soon as the block has ended and
        so many are there, it waits for another half second, and raises AssertionError if one
        more came. A MailFile, which keeps the latest message alone, can't tell: that raises
        StoreError.

        In asyncio write ``async with``: a ``with`` stops the event loop while it waits, and so
        the program that is to send the mail. With *exactly* it raises RuntimeError there.
        """
        wanted, known = Criteria.of(criteria), self._remembered
        seconds = checked_seconds("timeout", timeout)
        return Expected(self.path, seconds, wanted, known, count, exactly, self.explain)

    def expect_none(self, *, within: float = 1, **criteria: Unpack[Wanted]) -> ExpectedNone:
        """Return a context for ``with`` or ``async with``, in which no mail may arrive.

        The end of the block waits for another *within* seconds. If a message that meets all
        *criteria* arrived since the ``with`` line, or arrives now, it raises AssertionError. In
        asyncio only ``async with`` will do: ``with`` raises RuntimeError.
        """
        seconds = checked_seconds("within", within)
        return ExpectedNone(self.path, seconds, Criteria.of(criteria), self._remembered)

    def clear(self, **criteria: Unpack[Wanted]) -> None:
        """Remove the messages that meet all *criteria*; without any, all messages.

        A server that writes to the store may go on running, and what it stores meanwhile stays.
        A message of several recipients is removed for all of them. An mbox or a file of JSON
        Lines is written anew without the messages: all of them are gone, or, where this raises
        OSError, none. Raises ValueError for a criterion that is None: by mistake, it would
        remove everybody's.
        """
        for name, value in criteria.items():
            if value is None:
                raise ValueError(f"clear({name}=None) would remove any message: leave it out")
        Criteria.of(criteria).remove_from(find(self.path))

    def explain(self) -> str:
        """Return what is to be added to the text of a NoMessageError; here it is empty.

        A subclass that knows more about the server tells it here, as MailCatcher does.
        """
        return ""

    def _messages(self, criteria: Criteria) -> Iterator[StoredMessage]:
        return criteria.among(self._remembered.oldest_first(criteria))

    def _latest(self, timeout: float, criteria: Criteria) -> Steps[StoredMessage]:
        timeout = checked_seconds("timeout", timeout)

        def miss() -> NoMessageError:
            entries = self._remembered.recent(RECENT)
            path = absolute(self.path)
            return no_message(path, criteria, timeout, entries, self.explain())

        def there() -> StoredMessage | None:
            return next(criteria.among(self._remembered.newest_first(criteria)), None)

        def arrived() -> StoredMessage | None:
            entries = reversed([*cursor.new()])
            return next(criteria.among(Mails(entries, self._remembered.left_out)), None)

        if timeout:  # the cursor first: what comes during the look is new to it
            cursor = yield partial(
                EntryCursor, self.path, criteria.to, remembered=self._remembered
            )
        message: StoredMessage | None = yield there
        if message is None and timeout:
            message = yield from until_found(arrived, cursor.watch, timeout)
        if message is None:
            raise (yield miss)
        return message


def _parsed(mails: Iterable[Mail]) -> Iterator[StoredMessage]:
    return Criteria().among(mails)


class _Messages(Sequence[StoredMessage]):
    """Some messages, each of which is read when it is asked for."""

    def __init__(self, getters: Sequence[Getter]) -> None:
        self._getters = getters

    def __len__(self) -> int:
        return len(self._getters)

    @overload
    def __getitem__(self, place: int) -> StoredMessage: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[StoredMessage]: ...
    def __getitem__(self, place: int | slice) -> StoredMessage | Sequence[StoredMessage]:
        if isinstance(place, slice):
            return _Messages(self._getters[place])
        entry = self._getters[place]()
        for message in Criteria().among(Mails([entry], None)):
            return message
        raise NoMessageError(f"{entry.place}: this message was removed meanwhile")


class Follow(Iterator[StoredMessage], AsyncIterator[StoredMessage]):
    """Each message once, in order of arrival: for ``for`` and for ``async for``.

    It ends when none came for *timeout* seconds; None goes on for ever.
    """

    def __init__(self, cursor: Cursor, timeout: float | None) -> None:
        self._cursor = cursor
        self._timeout = timeout

    def __next__(self) -> StoredMessage:
        message = wait(self._cursor.until_next(self._timeout))
        if message is None:
            raise StopIteration
        return message

    async def __anext__(self) -> StoredMessage:
        message = await wait_in_loop(self._cursor.until_next(self._timeout))
        if message is None:
            raise StopAsyncIteration
        return message
