"""What the list shows: one screen of messages, each in a few words, and what was searched."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from ..inbox.criteria import Criteria
from ..mail import Mail
from ..message.addresses import comparable
from ..message.message import StoredMessage
from ..stores.store import Entry

_ROWS = 50
# Of a message this much is looked at: the subject and the first words stand above it.
_HEAD = 1 << 15
_LONGEST_SNIPPET = 160
_LONGEST_SEARCH = 2.0
# To count a million of an mbox takes 2 s.
_LONGEST_COUNT = 0.3
_COUNTED = 1000
_TERM = re.compile(
    r"""
    (-?)
    (?:(to|from|subject|has(?=:attachments?(?!\S))
        |(?:before|after)(?=:[0-9]{4}-[0-9]{2}-[0-9]{2}(?!\S))):)?
    (?:"([^"]*)"?|(\S+))
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass
class Row:
    """One message in the list."""

    id: str
    sender: str
    recipients: str
    subject: str
    snippet: str
    received: datetime
    size: int
    attachments: int


@dataclass
class Screen:
    """Some messages, the newest first."""

    rows: list[Row] = field(default_factory=list)
    older: str = ""
    """The id before which the next ones are; empty where there are none."""
    was_searched: bool = True
    """False where the search took too long and stopped at *older*."""
    total: int | None = None
    """How many messages there are, where they were counted."""
    is_counted: bool = False
    """False where there are more than *total*."""

    @property
    def is_of_one_sender(self) -> bool:
        """Whether it is the recipients that tell the messages apart."""
        return len({row.sender for row in self.rows}) == 1 < len(self.rows)


def screen(mails: Iterable[Mail], criteria: Criteria | None, most: int = _ROWS) -> Screen:
    """Return the first *most* of *mails*; those that meet the *criteria*, where given.

    A search that takes more than two seconds ends with what it found.
    """
    found = Screen()
    deadline = time.monotonic() + _LONGEST_SEARCH
    last = ""
    for mail in mails:
        is_late = bool(last) and time.monotonic() > deadline
        if len(found.rows) == most or is_late:
            found.older = last
            found.was_searched = not is_late
            break
        last = mail.envelope.id
        if criteria is None:
            head = StoredMessage.parse(mail.content[:_HEAD], mail.envelope)
            found.rows.append(_row(head, len(mail.content)))
            continue
        message = StoredMessage.parse(mail.content, mail.envelope, mail.is_altered)
        if criteria.match(message):
            found.rows.append(_row(message, len(mail.content)))
    return found


class Tally(Iterator[Entry]):
    """Entries, which are counted as they are taken."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self.taken = 0

    def __next__(self) -> Entry:
        entry = next(self._entries)
        self.taken += 1
        return entry

    def count_rest(self) -> bool:
        """Take the rest; return False where that takes too long."""
        deadline = time.monotonic() + _LONGEST_COUNT
        while next(islice(self, _COUNTED - 1, None), None) is not None:
            if time.monotonic() > deadline:
                return False
        return True


def criteria_for(text: str, zone: tzinfo | None = None) -> Criteria:
    """Return the criteria for messages that hold all that *text* names, ignoring case.

    ``to:bob from:"eva@" subject:welcome 4711``: a part of a recipient, of a sender, of the
    subject, and a word anywhere, in the names of attachments, too. What is in quotes may hold
    spaces. ``has:attachment``; ``after:2026-11-30`` is that day or later, and ``before:`` is
    earlier, as days are in *zone*, or on this computer. What a ``-`` begins may not be so.
    """
    terms = [
        _Term(where.lower(), comparable(quoted or word), bool(minus), quoted or word)
        for minus, where, quoted, word in _TERM.findall(text)
    ]
    if not terms:
        return Criteria()
    terms.sort(key=lambda term: not term.where)  # to look for a word anywhere takes longest

    def holds(message: StoredMessage) -> bool:
        looked_at = _Fields(message, zone)
        return all(looked_at.meet(term) is not term.is_excluded for term in terms)

    return Criteria(where=holds)


class _Term(NamedTuple):
    """What a message must hold, or may not."""

    where: str
    text: str
    is_excluded: bool
    as_typed: str


class _Fields:
    """What is searched in a message, made when it is needed."""

    def __init__(self, message: StoredMessage, zone: tzinfo | None) -> None:
        self._message = message
        self._zone = zone

    def meet(self, term: _Term) -> bool:
        """Tell whether this is so of the message."""
        if term.where == "has":
            return bool(self._message.attachments)
        if term.where in ("before", "after"):
            return (self._day < term.as_typed) is (term.where == "before")
        found: str = getattr(self, f"_{term.where or 'anywhere'}")
        return term.text in found

    @cached_property
    def _subject(self) -> str:
        return comparable(str(self._message["Subject"] or ""))

    @cached_property
    def _to(self) -> str:
        recipients = self._message.envelope.rcpt_tos
        return comparable("\n".join([*recipients, *map(str, self._message.get_all("To", []))]))

    @cached_property
    def _from(self) -> str:
        message = self._message
        return comparable(f"{message.envelope.mail_from}\n{message['From'] or ''}")

    @cached_property
    def _anywhere(self) -> str:
        text = comparable(self._message.searched_text)
        return f"{self._subject}\n{self._to}\n{self._from}\n{text}"

    @cached_property
    def _day(self) -> str:
        received = self._message.envelope.received
        with suppress(OverflowError):  # of the year 1, or 9999
            received = received.astimezone(self._zone)
        return received.date().isoformat()


def _row(message: StoredMessage, size: int) -> Row:
    envelope = message.envelope
    return Row(
        id=envelope.id,
        sender=sender_of(message),
        recipients=", ".join(envelope.rcpt_tos) or "nobody",
        subject=str(message["Subject"] or ""),
        snippet=_snippet(message),
        received=envelope.received,
        size=size,
        attachments=len(message.attachments),
    )


def sender_of(message: StoredMessage) -> str:
    """Return who the message says it is from, in short."""
    for address in getattr(message["From"], "addresses", ()):
        return str(address.display_name or address.addr_spec)
    return message.envelope.mail_from or "nobody"


def _snippet(message: StoredMessage) -> str:
    text = message.shown_text[: 8 * _LONGEST_SNIPPET]
    return " ".join(text.split())[:_LONGEST_SNIPPET]
