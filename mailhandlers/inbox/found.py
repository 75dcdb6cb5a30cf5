"""The messages among the entries of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..formats import FormatError
from ..mail import Mail
from ..message.message import StoredMessage
from ..message.visible import visible_line
from ..stores.store import Entry, GoneError, StoreError
from .criteria import Criteria

_LONGEST_SHOWN = 200


class Found:
    """The messages among entries; what can't be read doesn't hide the rest."""

    def __init__(self, criteria: Criteria, *, strict: bool = False) -> None:
        """*strict* raises StoreError in the end if there was something, but no message."""
        self._criteria = criteria
        self._strict = strict
        self.first_bad = ""
        """Where the first entry that can't be read stands, and why it can't; or empty."""

    def messages(self, entries: Iterable[Entry]) -> Iterator[StoredMessage]:
        """Yield the messages that meet the criteria."""
        for mail in self.contents(entries):
            if self._criteria.allow(mail):
                message = StoredMessage.parse(mail.content, mail.envelope, mail.is_altered)
                del mail  # a generator that waits holds one message, not two
                if self._criteria.match(message):
                    yield message
                del message

    def contents(self, entries: Iterable[Entry]) -> Iterator[Mail]:
        """Yield what can be read."""
        any_good = False
        for entry in entries:
            try:
                mail = entry.read()
            except GoneError:
                continue
            except FormatError as error:
                self.first_bad = self.first_bad or f"{entry.place}: {error}"
                continue
            any_good = True
            yield mail
            del mail
        if self._strict and self.first_bad and not any_good:
            raise StoreError(self.first_bad)


def line_of(message: StoredMessage) -> str:
    """Return what tells *message* from others, in one printable line."""
    to = visible_line(", ".join(message.envelope.rcpt_tos))
    return f"to {_cut(to)}: {_cut(str(message['Subject'] or ''))!r}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
