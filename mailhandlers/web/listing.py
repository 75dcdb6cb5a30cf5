"""The list of messages: one screen of it, each message in a few words."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ..inbox.criteria import Criteria
from ..mail import Mail
from ..message.message import StoredMessage

ROWS = 50
# Of a message this much is looked at: the subject and the first words stand above it.
_HEAD = 1 << 15
_LONGEST_SNIPPET = 160
_LONGEST_SEARCH = 2.0


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


def screen(mails: Iterable[Mail], criteria: Criteria | None, most: int = ROWS) -> Screen:
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
