"""What a message must be to be the one that a test looks for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

from ..mail import Mail, moment_of
from ..message.addresses import comparable
from ..message.message import StoredMessage
from ..stores.store import Entry, Store
from .readable import LeftOut, Mails

__all__ = ["Criteria", "Pattern", "Unpack", "Wanted"]

if TYPE_CHECKING or sys.version_info >= (3, 11):
    from typing import Unpack
else:

    class Unpack:
        """For Python 3.10: something that :func:`typing.get_type_hints` can look up."""

        def __class_getitem__(cls, item: object) -> object:
            return item


@runtime_checkable
class Pattern(Protocol):
    """What searches in a text: a compiled pattern of :mod:`re`, or of a library like it."""

    @property
    def pattern(self) -> str:
        """What it was made of."""

    def search(self, string: str, /) -> object:
        """Return None where nothing in *string* matches."""


class Wanted(TypedDict, total=False):
    """The criteria as keyword arguments, for type checkers; :class:`Criteria` tells more."""

    to: str | None
    mail_from: str | None
    subject: str | Pattern | None
    matching: str | Pattern | None
    since: str | None
    where: Callable[[StoredMessage], object] | None


@dataclass(frozen=True)
class Criteria:
    """What a message must be. None asks for nothing."""

    to: str | None = None
    """One of the envelope's recipients, ignoring case; its domain in Unicode or Punycode."""
    mail_from: str | None = None
    """The reverse-path, ignoring case; empty for a bounce."""
    subject: str | Pattern | None = None
    """The subject, or a compiled pattern to search in it."""
    matching: str | Pattern | None = None
    """A regular expression to search in :attr:`.StoredMessage.searched_text`, line by line."""
    since: str | None = None
    """The id of a message after which it arrived; that may be gone by now."""
    where: Callable[[StoredMessage], object] | None = None
    """A function that is true of the message."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Criteria:
        """Return the criteria *given* by name; raises TypeError for what is none."""
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                known = ", ".join(names)
                raise TypeError(f"there is no criterion {name!r}: choose from {known}")
        return cls(**given)

    def __post_init__(self) -> None:
        for name in ("to", "mail_from", "subject", "matching", "since"):
            value = getattr(self, name)
            if value is None or isinstance(value, str):  # a Protocol takes 10 us to tell
                continue
            text = value.pattern if isinstance(value, Pattern) else value
            pattern_allowed = name in ("subject", "matching") or text is value
            if not (isinstance(text, str) and pattern_allowed):
                raise TypeError(f"the criterion {name!r} can't be {value!r}")
        if not (self.where is None or callable(self.where)):
            raise TypeError(f"the criterion 'where' is a function, not {self.where!r}")
        if self.since is not None and moment_of(self.since) is None:
            raise ValueError(
                f"since={self.since!r} is no id of a message, which begins with the time"
            )
        if isinstance(self.matching, str):  # a mistake in it shows at once
            object.__setattr__(self, "matching", re.compile(self.matching, re.MULTILINE))

    def allow(self, mail: Mail) -> bool:
        """Tell what the envelope alone can tell, before the content is parsed."""
        return all(self._of_envelope(mail))

    def match(self, message: StoredMessage) -> bool:
        """Tell whether *message*, which :meth:`allow` allows, meets the rest."""
        return all(self._of_content(message)) and (
            self.where is None or bool(self.where(message))
        )

    def among(self, mails: Iterable[Mail]) -> Iterator[StoredMessage]:
        """Yield the messages among *mails* that meet all criteria."""
        for mail in mails:
            if self.allow(mail):
                message = StoredMessage.parse(mail.content, mail.envelope, mail.is_altered)
                del mail  # a generator that waits holds one message, not two
                if self.match(message):
                    yield message
                del message

    def remove_from(self, store: Store) -> None:
        """Remove the messages of *store* that meet all criteria. Raises OSError."""
        if self == Criteria():
            store.clear()
        else:
            store.remove(lambda: self.entries_among(store.oldest_first()))

    def entries_among(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the *entries* that hold a message that meets all criteria.

        What can't be read is said on the log.
        """
        for entry, mail in Mails(entries, LeftOut()).with_entries():
            if any(True for _ in self.among([mail])):
                yield entry

    def count(self, message: StoredMessage) -> int:
        """Return how many criteria a near miss meets.

        ``where`` is not asked: a message that meets all others was refused by it.
        """
        mail = Mail(message.envelope, message.original_content)
        return sum(self._of_envelope(mail)) + sum(self._of_content(message))

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(
            f"{name}={_source(value)}" for name, value in given if value is not None
        )

    def _of_envelope(self, mail: Mail) -> Iterator[bool]:
        envelope = mail.envelope
        if self.to is not None:
            yield comparable(self.to) in map(comparable, envelope.rcpt_tos)
        if self.mail_from is not None:
            yield comparable(self.mail_from) == comparable(envelope.mail_from)
        if self.since is not None:
            name = _without_flags(envelope.id)
            moment = moment_of(name) or envelope.received
            since = _without_flags(self.since)
            yield (moment, name) > (moment_of(since), since)

    def _of_content(self, message: StoredMessage) -> Iterator[bool]:
        if self.subject is not None:
            subject = str(message["Subject"] or "")
            if isinstance(self.subject, str):
                yield self.subject == subject
            else:
                yield self.subject.search(subject) is not None
        if self.matching is not None:
            assert not isinstance(self.matching, str)  # compiled when it was made
            yield self.matching.search(message.searched_text) is not None


def _without_flags(name: str) -> str:
    return name.partition(":")[0]  # those of a Maildir's file


def _source(value: object) -> str:
    return f"/{value.pattern}/" if isinstance(value, Pattern) else repr(value)
