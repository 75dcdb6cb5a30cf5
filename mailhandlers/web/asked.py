"""What a person writes into the search field: words, and ``to: from: subject:``."""

from __future__ import annotations

import re

from ..inbox.criteria import Criteria
from ..message.addresses import comparable
from ..message.message import StoredMessage

_TERM = re.compile(r'(?:(to|from|subject):)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)


def criteria_for(text: str) -> Criteria:
    """Return the criteria for messages that hold all that *text* names, ignoring case.

    ``to:bob from:"eva@" subject:welcome 4711``: a part of a recipient, of a sender, of the
    subject, and a word anywhere. What is in quotes may hold spaces.
    """
    wanted: dict[str, list[str]] = {"to": [], "from": [], "subject": [], "": []}
    for field, quoted, word in _TERM.findall(text):
        wanted[field.lower()].append(comparable(quoted or word))
    if not any(wanted.values()):
        return Criteria()

    def holds(message: StoredMessage) -> bool:
        envelope = message.envelope
        fields = {"subject": str(message["Subject"] or "")}
        fields["to"] = "\n".join([*envelope.rcpt_tos, *map(str, message.get_all("To", []))])
        fields["from"] = f"{envelope.mail_from}\n{message['From'] or ''}"
        for field, found in fields.items():
            if not all(word in comparable(found) for word in wanted[field]):
                return False
        if not wanted[""]:
            return True
        shown = comparable("\n".join([*fields.values(), message.searched_text]))
        return all(word in shown for word in wanted[""])

    return Criteria(where=holds)
