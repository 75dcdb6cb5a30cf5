"""Reading a store as it grows: each message that arrives, once, in order of arrival."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from ..block import FormatError
from ..disk import system
from ..message.message import StoredMessage
from ..stores.entries import HeldFile
from ..stores.find import find, find_held
from ..stores.growing import GrowingStore
from ..stores.store import Entry, Seen, Store, StoreError, absolute
from .criteria import Criteria
from .readable import Mails
from .remembering import Remembered
from .waiting import Steps, Watch, until_found


class EntryCursor:
    """Where one has read to in the store at *path*: what arrives behind it is new.

    A store that is removed and made anew is read from its start. A file that grows may be
    renamed the moment after a message came: it is kept open, and read to its end.

    With a *recipient*, the folders of PerRecipientDir come down to one. Raises StoreError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        recipient: str | None = None,
        *,
        from_start: bool = False,
        remembered: Remembered | None = None,
    ) -> None:
        """Begin with what comes from now on, or *from_start* with what is there.

        What is *remembered* of the store isn't listed again: 20,000 folders take 0.3 s.
        """
        self._path = absolute(path)
        self._recipient = recipient
        self.watch = Watch(self._path)
        """Tells whether there may be something new."""
        self._seen: Seen | None = None
        self._held = self._hold()
        if from_start:
            pass
        elif remembered is not None and self._held is None:
            self._seen = remembered.seen(recipient)
        else:
            self._seen = self._store().now()

    def new(self) -> Iterator[Entry]:
        """Return the entries that arrived since this was called last. Raises StoreError."""
        rest: Iterator[Entry] = iter(())
        if self._held is None or not self._held.is_in_place():
            before, after = self._held, self._hold()
            store = find_held(before) if before is not None else None
            if store is not None and store.grows:
                rest, self._seen = store.since(self._seen)
                if after is None:  # what is being appended to it now is for the next call
                    return rest
            self._held = after
        store = self._store()
        self.watch.follow(store.folders, store.pause)
        entries, self._seen = store.since(self._seen)
        return chain(rest, entries)

    def _store(self) -> Store:
        # Another file may be at the path in this moment: what is held is the one to read.
        if self._held is not None:
            store = find_held(self._held)
            if store.grows:
                return store
        return find(self._path, self._recipient)

    def _hold(self) -> HeldFile | None:
        # There is none, or find() tells what is wrong.
        with suppress(OSError, FormatError, StoreError):
            held = HeldFile(self._path)
            # MailFile replaces its file, also an empty one.
            if system.CAN_REPLACE_OPEN or isinstance(find_held(held), GrowingStore):
                return held
        return None


class Cursor:
    """The messages that arrive in a store and meet the criteria, each once."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        criteria: Criteria,
        remembered: Remembered,
        *,
        from_start: bool = False,
    ) -> None:
        self._criteria = criteria
        self._left_out = remembered.left_out
        self._entries = EntryCursor(
            path, criteria.to, from_start=from_start, remembered=remembered
        )
        self._arrived: Iterator[StoredMessage] = iter(())
        self.watch = self._entries.watch

    def next(self) -> StoredMessage | None:
        """Return the next message that meets the criteria, or None if none is there yet."""
        message = next(self._arrived, None)
        if message is None:
            self._arrived = self._criteria.among(Mails(self._entries.new(), self._left_out))
            message = next(self._arrived, None)
        return message

    def until_next(self, timeout: float | None) -> Steps[StoredMessage | None]:
        """Wait for the next message that meets the criteria, or return None."""
        return until_found(self.next, self.watch, timeout)
