"""One look at the store for all clients that wait: each costs an entry in a set, no thread.

A task follows the store as long as a client waits. It tells each client whose criteria a new
message meets.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from anyio import move_on_after

from ..inbox.criteria import Criteria
from ..inbox.cursor import EntryCursor
from ..inbox.readable import LeftOut, Mails
from ..inbox.waiting import until_found, wait_in_loop
from ..mail import Mail
from ..message.message import StoredMessage
from ..stores.store import Entry, StoreError
from .mailbox import Mailbox, UnknownIdError
from .query import search

_LONGEST_QUEUE = 1000
_MOST_MISSED = 100
_QUIET_SECONDS = 15


class Subscription:
    """What arrived for one client that waits."""

    def __init__(self, criteria: Criteria) -> None:
        self.criteria = criteria
        self._entries: asyncio.Queue[Entry | Exception] = asyncio.Queue()

    async def next(self) -> Entry:
        """Return the next entry that meets the criteria. Raises StoreError and OSError."""
        entry = await self._entries.get()
        if isinstance(entry, Exception):
            raise entry
        return entry

    def put(self, entry: Entry | Exception) -> None:
        """Add what arrived. A client that takes nothing away has to ask again in the end."""
        if self._entries.qsize() == _LONGEST_QUEUE:
            entry = ConnectionAbortedError("more messages arrived than were taken")
        if self._entries.qsize() <= _LONGEST_QUEUE:
            self._entries.put_nowait(entry)


class Arrivals:
    """The messages that arrive in *mailbox*, for any number of subscriptions."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._subscriptions: set[Subscription] = set()
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()

    @asynccontextmanager
    async def subscribed(self, criteria: Criteria) -> AsyncIterator[Subscription]:
        """Collect what arrives from here on and meets all *criteria* but a pattern.

        That may take long, and the others would wait: each client searches for its own.
        """
        subscription = Subscription(dataclasses.replace(criteria, matching=None))
        self._subscriptions.add(subscription)
        if self._task is None:
            self._started = asyncio.Event()
            self._task = asyncio.create_task(self._follow(self._started))
        try:
            await self._started.wait()
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions and self._task:
                self._task.cancel()
                self._task = None

    async def messages(
        self, criteria: Criteria, after: str
    ) -> AsyncIterator[StoredMessage | None]:
        """Yield what arrives, and first the newest that arrived since the message *after*.

        None is for 15 s without any, after which a proxy may need to hear something.
        """
        mailbox = self._mailbox
        async with self.subscribed(criteria) as subscription:
            sent = set()
            if after:
                for message in await search(criteria, _missed, mailbox, criteria, after):
                    sent.add(message.envelope.id)
                    yield message
            while True:
                entry = None
                with move_on_after(_QUIET_SECONDS):
                    entry = await subscription.next()
                if entry is None:
                    yield None
                    continue
                found = mailbox.among([entry], criteria)
                for message in await search(criteria, list, found):
                    if message.envelope.id not in sent:
                        yield message

    async def _follow(self, started: asyncio.Event) -> None:
        try:
            cursor = await asyncio.to_thread(
                EntryCursor, self._mailbox.path, remembered=self._mailbox.remembered
            )
            started.set()
            while True:
                looks = until_found(partial(_look, cursor), cursor.watch, None)
                entries = await wait_in_loop(looks)
                waiting = list(self._subscriptions)
                for subscription, entry in await asyncio.to_thread(
                    _meet, waiting, entries or (), self._mailbox.left_out
                ):
                    subscription.put(entry)
        except (StoreError, OSError) as error:
            self._task = None
            started.set()
            for subscription in self._subscriptions:
                subscription.put(error)


def _missed(mailbox: Mailbox, criteria: Criteria, after: str) -> list[StoredMessage]:
    try:
        newest = itertools.islice(mailbox.messages(criteria, after), _MOST_MISSED)
        return list(newest)[::-1]
    except UnknownIdError:
        return []


def _look(cursor: EntryCursor) -> list[Entry] | None:
    return [*cursor.new()] or None


def _meet(
    subscriptions: Iterable[Subscription], entries: Iterable[Entry], left_out: LeftOut
) -> list[tuple[Subscription, Entry]]:
    """Return which subscription gets which entry; each message is parsed once."""
    met = []
    for entry in entries:
        for message in Criteria().among(Mails([entry], left_out)):
            mail = Mail(message.envelope, message.original_content)
            met += [
                (subscription, entry)
                for subscription in subscriptions
                if subscription.criteria.allow(mail) and subscription.criteria.match(message)
            ]
    return met
