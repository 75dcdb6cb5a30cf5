"""Reading a store as it grows: each message that arrives, once, in order of arrival."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .criteria import Criteria
from .find import find
from .found import Found
from .message import StoredMessage
from .store import Seen
from .waiting import Wait
from .watch import Watch


class Cursor:
    """Where one has read to in the store at *path*: what arrives behind it is new.

    A store that is removed and made anew is read from its start.
    """

    def __init__(
        self, path: str | os.PathLike[str], criteria: Criteria, *, from_start: bool = False
    ) -> None:
        self.path = os.path.abspath(path)
        self._criteria = criteria
        self._watch = Watch(self.path)
        self._seen: Seen = None
        self._arrived: Iterator[StoredMessage] = iter(())
        if not from_start:
            self._seen = find(self.path, criteria.to).now()

    def wait(self, timeout: float | None) -> Wait[StoredMessage]:
        """Return a wait for the next message that meets the criteria."""
        return Wait(self.next, self._watch, timeout)

    def next(self) -> StoredMessage | None:
        """Return the next message that meets the criteria, or None if none is there yet."""
        message = next(self._arrived, None)
        if message is None:
            store = find(self.path, self._criteria.to)
            self._watch.follow(store.folders)
            entries, self._seen = store.since(self._seen)
            self._arrived = Found(self._criteria).messages(entries)
            message = next(self._arrived, None)
        return message
