"""What an Inbox remembers of its store: a second question costs what is new, and found."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from ..stores.find import find
from ..stores.memory import Status, status_of
from ..stores.store import Entry, Getter, Memory, Seen, Sought, Store
from .criteria import Criteria
from .readable import LeftOut, Mails

_MOST_PARTS = 16


class Remembered:
    """The memory of the store at *path*, which is renewed each time it is used.

    Several threads may use it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self.left_out = LeftOut()
        """What was said already that can't be read."""
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._status: Status = 0
        self._whole: Memory | None = None
        # PerRecipientDir has a folder for each recipient, of which each has a memory.
        self._parts: dict[tuple[str, ...], Memory] = {}

    def entries(self, criteria: Criteria) -> Iterator[Entry]:
        """Return what may meet the *criteria*, the latest first. Raises StoreError."""
        memory, sought = self._memory(criteria)
        return memory.newest_first(sought)

    def newest_first(self, criteria: Criteria) -> Mails:
        """Return the mail that may meet the *criteria*, the latest first. Raises StoreError.

        To iterate raises StoreError where there is something, but no message.
        """
        memory, sought = self._memory(criteria)
        return self._mails(memory.newest_first(sought), memory)

    def oldest_first(self, criteria: Criteria) -> Mails:
        """Return the same in order of arrival."""
        memory, sought = self._memory(criteria)
        return self._mails(memory.oldest_first(sought), memory)

    def _mails(self, entries: Iterator[Entry], memory: Memory) -> Mails:
        return Mails(entries, self.left_out, strict=True, elsewhere=memory.holds_mail)

    def by_recipient(self) -> dict[str, list[Getter]]:
        """Return what gets the messages to each recipient, in order of arrival."""
        return self.whole().by_recipient(lambda entry: Mails([entry], self.left_out))

    def whole(self) -> Memory:
        """Return the memory of all messages, as they are now. Raises StoreError."""
        with self._lock:
            store = self._found()
            self._whole = _renewed(self._whole, store)
            return self._whole

    def recent(self, count: int) -> Iterator[Entry]:
        """Return the latest entries, about *count*, for people. Raises StoreError."""
        with self._lock:
            store = self._found()
        part = store.recent(count)
        return self.whole().newest_first() if part is store else part.newest_first()

    def seen(self, recipient: str | None) -> Seen | None:
        """Return what is there now, for :meth:`.Store.since`. Raises StoreError."""
        memory, _ = self._memory(Criteria(to=recipient))
        return memory.seen()

    def _memory(self, criteria: Criteria) -> tuple[Memory, Sought]:
        if criteria.to is not None:
            with self._lock:
                store = self._found()
                part = store.part(criteria.to)
                if part is not store:
                    name = tuple(part.folders)
                    known = self._parts.pop(name, None)
                    if len(self._parts) == _MOST_PARTS:
                        del self._parts[next(iter(self._parts))]
                    self._parts[name] = _renewed(known, part)
                    return self._parts[name], Sought(mail_from=criteria.mail_from)
        return self.whole(), Sought(criteria.to, criteria.mail_from)

    def _found(self) -> Store:
        """Return the store, which is looked for anew where the path has changed."""
        status = status_of(os.fspath(self._path))
        # For 20,000 folders this takes 10 ms.
        is_same = self._store and status and status == self._status
        if self._store is None or not is_same or not self._store.is_as_found():
            self._store = find(self._path)
            self._status = status
        return self._store


def _renewed(memory: Memory | None, store: Store) -> Memory:
    return memory.renewed(store) if memory and memory.is_of(store) else store.memory()
