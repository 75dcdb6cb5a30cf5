"""The search for a message, repeated until it is there or the time is over."""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Iterable, Iterator

from ..formats import FormatError
from ..mail import Mail
from .criteria import Criteria
from .find import find
from .message import StoredMessage
from .store import Entry, GoneError, IsNew, StoreError
from .watch import Watch

_MOST_MISSES = 5
_RECENT = 50
_LONGEST_SHOWN = 200


class NoMessageError(LookupError):
    """No message met the criteria in time; the text says what came instead."""


class Search:
    """A look at a store, repeated until it finds."""

    def __init__(self, path: str | os.PathLike[str], criteria: Criteria) -> None:
        self._path = os.path.abspath(path)
        self._criteria = criteria
        self._only_new: IsNew | None = None

    def skip_present(self) -> None:
        """Take only what arrives from now on."""
        self._only_new = find(self._path).mark()

    def wait(self, timeout: float) -> StoredMessage:
        """Return a message: the newest, or the first new one. Raises NoMessageError."""
        deadline = time.monotonic() + timeout
        watch = Watch(self._path)
        unseen = self._only_new
        first = True
        while True:
            started = time.monotonic()
            if watch.changed() or first:
                first = False
                store = find(self._path, self._criteria.to)
                watch.follow(store.folders)
                # Marked before the look: what comes meanwhile is for the next.
                mark = store.mark() if timeout > 0 else None
                entries = store.newest_first() if unseen is None else store.only(unseen)
                if (message := self._pick(entries)) is not None:
                    return message
                unseen = mark
            now = time.monotonic()
            if now >= deadline:
                raise NoMessageError(self._miss(timeout))
            watch.pause(now - started, deadline)

    def _pick(self, newest_first: Iterator[Entry]) -> StoredMessage | None:
        if self._only_new is None:
            found = Found(self._criteria, strict=True)
            return next(found.messages(newest_first), None)
        oldest_first = reversed(list(newest_first))
        return next(Found(self._criteria).messages(oldest_first), None)

    def _miss(self, timeout: float) -> str:
        """Return why there is no message, for somebody who has only this text."""
        store = find(self._path)
        entries = store.newest_first() if self._only_new is None else store.only(self._only_new)
        found = Found(Criteria())
        others = (
            (self._criteria.count(message), -number, line_of(message))
            for number, message in enumerate(found.messages(itertools.islice(entries, _RECENT)))
        )
        misses = [line for _, _, line in heapq.nlargest(_MOST_MISSES, others)]
        text = f"no message in {self._path}"
        if str(self._criteria):
            text += f" with {self._criteria}"
        if self._only_new is not None:
            text += ", arriving from the 'with' line on"
        if timeout:
            text += f", in {timeout:g} s"
        if misses:
            text += "; the nearest misses:" + "".join(f"\n  {line}" for line in misses)
        elif not os.path.exists(self._path):
            text += "; nothing is there yet"
        else:
            text += "; no other came" if self._only_new else "; it is empty"
        if found.first_bad:
            text += f"\nand no message at all: {found.first_bad}"
        return text


class Found:
    """The messages among entries; what can't be read doesn't hide the rest."""

    def __init__(self, criteria: Criteria, *, strict: bool = False) -> None:
        """*strict* raises StoreError in the end if there was something, but no message."""
        self._criteria = criteria
        self._strict = strict
        self.first_bad = ""

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
    to = ", ".join(message.envelope.rcpt_tos)
    if not to.isprintable():
        to = ascii(to)[1:-1]
    return f"to {_cut(to)}: {_cut(str(message['Subject'] or ''))!r}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
