"""What the list shows: one screen of messages, each in a few words, and what was searched."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ..inbox.criteria import Criteria
from ..mail import Mail
from ..message.addresses import comparable
from ..message.message import StoredMessage

_ROWS = 50
# Of a message this much is looked at: the subject and the first words stand above it.
_HEAD = 1 << 15
_LONGEST_SNIPPET = 160
_LONGEST_SEARCH = 2.0
_TERM = re.compile(r'(?:(to|from|subject):)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)


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


def criteria_for(text: str) -> Criteria:
    """Return the criteria for messages that hold all that *text* names, ignoring case.

    ``to:bob from:"eva@" subject:welcome 4711``: a part of a recipient, of a sender, of the
    subject, and a word anywhere. What is in quotes may hold spaces.
    """
    wanted: dict[str, list[str]] = {"to": [], "from": [], "subject": [], "": []}
    for where, quoted, word in _TERM.findall(text):
        wanted[where.lower()].append(comparable(quoted or word))
    if not any(wanted.values()):
        return Criteria()

    def holds(message: StoredMessage) -> bool:
        envelope = message.envelope
        fields = {"subject": str(message["Subject"] or "")}
        fields["to"] = "\n".join([*envelope.rcpt_tos, *map(str, message.get_all("To", []))])
        fields["from"] = f"{envelope.mail_from}\n{message['From'] or ''}"
        for where, found in fields.items():
            if not all(word in comparable(found) for word in wanted[where]):
                return False
        if not wanted[""]:
            return True
        shown = comparable("\n".join([*fields.values(), message.searched_text]))
        return all(word in shown for word in wanted[""])

    return Criteria(where=holds)


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
