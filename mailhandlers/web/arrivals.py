"""One look at the store for all clients that wait: each costs an entry in a set, no thread.

A task follows the store as long as a client waits. It tells each client whose criteria a new
message meets.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from ..inbox.criteria import Criteria, Mails
from ..inbox.cursor import EntryCursor
from ..inbox.waiting import until_found, wait_in_loop
from ..mail import Mail
from ..stores.store import Entry, StoreError

_LONGEST_QUEUE = 1000


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
    """The messages that arrive in the store at *path*, for any number of subscriptions."""

    def __init__(self, path: str) -> None:
        self._path = path
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

    async def _follow(self, started: asyncio.Event) -> None:
        try:
            cursor = await asyncio.to_thread(EntryCursor, self._path)
            started.set()
            while True:
                looks = until_found(partial(_look, cursor), cursor.watch, None)
                entries = await wait_in_loop(looks)
                waiting = list(self._subscriptions)
                for subscription, entry in await asyncio.to_thread(
                    _meet, waiting, entries or ()
                ):
                    subscription.put(entry)
        except (StoreError, OSError) as error:
            self._task = None
            started.set()
            for subscription in self._subscriptions:
                subscription.put(error)


def _look(cursor: EntryCursor) -> list[Entry] | None:
    return [*cursor.new()] or None


def _meet(
    subscriptions: Iterable[Subscription], entries: Iterable[Entry]
) -> list[tuple[Subscription, Entry]]:
    """Return which subscription gets which entry; each message is parsed once."""
    met = []
    for entry in entries:
        for message in Criteria().among(Mails([entry])):
            mail = Mail(message.envelope, message.original_content)
            met += [
                (subscription, entry)
                for subscription in subscriptions
                if subscription.criteria.allow(mail) and subscription.criteria.match(message)
            ]
    return met
