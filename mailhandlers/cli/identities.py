"""The id that a message has in the store it is copied to: its own, or one made for it.

Messages that a handler stored have one. Those of other programs have the name of a file or
none at all, and a file may claim any id: one that is no safe file name is replaced by one
made of the moment of arrival and a hash of the content. The same message gets the same id
in each copy of its store, and a later one an id that sorts later.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

from ..mail import EPOCH, Identity, Mail

# A unique name as Maildirs have it, without flags, and short enough to add to.
_NAME = re.compile(
    r"(?P<second>[0-9]{9,12})\.(?:M(?P<part>[0-9]{6}))?[\w.,=+%@~-]{1,150}", re.A
)
_MADE = re.compile(r"[0-9]{10,12}\.M[0-9]{6}P0Q(?P<key>[0-9]{6}\.[0-9a-f]{32})\.copied")


class Identities:
    """Which messages a store has, by their ids, and which are new to it."""

    def __init__(self, stored: Iterable[str]) -> None:
        """Know the ids of the messages that are *stored* there."""
        self._taken = {_key(name) for name in stored}
        self._contents: dict[str, int] = {}
        self._last = 0
        self.known = 0
        """How many messages were no news."""

    def new(self, mails: Iterable[Mail]) -> Iterator[Mail]:
        """Yield those of *mails* that are new, each with the id it has from now on."""
        for mail in mails:
            named = self._named(mail)
            key = _key(named.envelope.id)
            if key in self._taken:
                self.known += 1
            else:
                self._taken.add(key)
                yield named

    def _named(self, mail: Mail) -> Mail:
        name = mail.envelope.id.partition(":")[0]  # flags may follow, in a Maildir
        parts = _NAME.fullmatch(name)
        if parts is not None:
            moment = int(parts["second"]) * 1_000_000 + int(parts["part"] or 0)
            self._last = max(self._last, moment)
        else:
            name = self._made(mail)
        if name == mail.envelope.id:
            return mail
        return mail._replace(envelope=dataclasses.replace(mail.envelope, id=name))

    def _made(self, mail: Mail) -> str:
        moment = (mail.envelope.received - EPOCH) // timedelta(microseconds=1)
        self._last = max(self._last + 1, moment)
        digest = hashlib.sha256(mail.content).hexdigest()[:32]
        # A store may hold the same content twice, and its copy does, too.
        number = self._contents[digest] = self._contents.get(digest, 0) + 1
        return Identity.at(self._last, 0, number, f"{digest}.copied").id


def _key(name: str) -> str:
    """Return what tells a message from others.

    An id that was made has a moment that depends on those before it, which may be removed.
    """
    made = _MADE.fullmatch(name)
    return made["key"] if made else name
