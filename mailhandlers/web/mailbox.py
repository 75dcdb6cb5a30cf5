"""The messages of a store by the ids that the API gives them, and what is before and after.

The id is the envelope's. Messages of other programs may have none, or share one: they have
the name of their file, or a hash of their content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator

from ..block import FormatError
from ..inbox.criteria import Criteria
from ..inbox.misses import RECENT, no_message
from ..inbox.readable import Mails
from ..inbox.remembering import Remembered
from ..mail import Mail, moment_of
from ..message.message import StoredMessage
from ..stores.find import find
from ..stores.store import Entry, GoneError, Memory, absolute

# What may stand in an address as it is. "latest" is the newest.
_SAFE = re.compile(r"(?!latest\Z)[0-9A-Za-z][\w.,=+@~-]{0,254}", re.ASCII)
_REMEMBERED = 20_000
_ANY = Criteria()


class UnknownIdError(LookupError):
    """No message has the id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no message has the id {name!r}")


class Mailbox:
    """A live view of the store at *path*: every call looks again.

    The envelopes of all it returns have the ids by which it finds them.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute(path)
        self.remembered = Remembered(self.path)
        """What is remembered of the store."""
        self.left_out = self.remembered.left_out
        """What can't be read, each said once."""
        # Where ids are that stand inside a file: a look for an older message of a large
        # file would read all the later ones.
        self._places: dict[str, object] = {}

    def messages(
        self, criteria: Criteria, after: str = "", before: str = ""
    ) -> Iterator[StoredMessage]:
        """Yield the messages that meet the *criteria*; which, and order, as :meth:`entries`."""
        return self.among(self.entries(after, before, criteria), criteria)

    def entries(
        self, after: str = "", before: str = "", criteria: Criteria = _ANY
    ) -> Iterator[Entry]:
        """Return what is stored and may meet the *criteria*, the newest first.

        Only what arrived *after* one message, and *before* one, where these ids are given.
        Raises UnknownIdError and StoreError.
        """
        entries = self.remembered.entries(criteria)
        if not (after or before):
            return entries
        memory = self.remembered.whole()
        rank = memory.store.rank
        if before:
            first = rank(self._entry(memory, before))
            entries = (entry for entry in entries if rank(entry) < first)
        if not after:
            return entries
        try:
            last = rank(self._entry(memory, after))
        except UnknownIdError:
            # Cleared since, or replaced: its id tells when it came.
            moment = moment_of(after)
            if moment is None:
                raise
            return (
                entry
                for entry in entries
                if any(mail.envelope.received > moment for mail in self.mails([entry]))
            )
        return itertools.takewhile(lambda entry: rank(entry) > last, entries)

    def among(self, entries: Iterable[Entry], criteria: Criteria) -> Iterator[StoredMessage]:
        """Yield the messages among *entries* that meet the *criteria*."""
        return criteria.among(self.mails(entries))

    def mails(self, entries: Iterable[Entry]) -> Iterator[Mail]:
        """Yield the messages of the *entries* that can be read, none parsed."""
        for entry, mail in Mails(entries, self.left_out).with_entries():
            name = self._name(entry, mail)
            if name != mail.envelope.id:
                mail = mail._replace(envelope=dataclasses.replace(mail.envelope, id=name))
            yield mail
            del mail  # a generator that waits holds one message, not two

    def get(self, name: str) -> StoredMessage:
        """Return the message with this id; raises UnknownIdError."""
        for message in self.among([self._entry(self.remembered.whole(), name)], Criteria()):
            return message
        raise UnknownIdError(name)

    def miss(self, criteria: Criteria, timeout: float, after: str) -> str:
        """Return the text that says why there is no such message, and what came instead."""
        explanation = f"only messages after {after} count" if after else ""
        entries = self.remembered.recent(RECENT)
        return str(no_message(self.path, criteria, timeout, entries, explanation))

    def clear(self, criteria: Criteria) -> None:
        """Remove the messages that meet the *criteria*. Raises OSError."""
        criteria.remove_from(find(self.path))

    def remove(self, name: str) -> None:
        """Remove the message with this id. Raises UnknownIdError and OSError."""
        store = find(self.path)
        store.remove(lambda: [self._entry(store.memory(), name)])

    def _entry(self, memory: Memory, name: str) -> Entry:
        place = self._places.get(name)
        if place is not None:
            for entry in memory.newest_first():
                if entry.key == place and self._is(entry, name):
                    return entry
        # A hash of ours stands nowhere.
        entries = memory.named(name) if moment_of(name) else memory.newest_first()
        for entry in entries:
            if self._is(entry, name):
                return entry
        raise UnknownIdError(name)

    def _is(self, entry: Entry, name: str) -> bool:
        if isinstance(entry.key, str):
            return _file_name(entry.key) == name
        try:
            return self._name(entry, entry.read()) == name
        except (GoneError, FormatError):
            return False

    def _name(self, entry: Entry, mail: Mail) -> str:
        if isinstance(entry.key, str):
            return _file_name(entry.key)
        name = mail.envelope.id
        if not (mail.envelope.protocol and _SAFE.fullmatch(name)):
            name = _hash(mail.content)
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        self._places[name] = entry.key
        return name


def _file_name(key: str) -> str:
    name = key.removesuffix(".eml")
    return name if _SAFE.fullmatch(name) else _hash(os.fsencode(key))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
