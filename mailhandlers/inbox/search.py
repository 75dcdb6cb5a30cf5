"""The search for the latest message, and what is said where none is found."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable

from ..message.message import StoredMessage
from ..stores.find import find
from ..stores.store import Entry, Seen
from .criteria import Criteria
from .found import Found, line_of
from .waiting import Wait, loop_is_running
from .watch import Watch

_MOST_MISSES = 5
_RECENT = 50


class NoMessageError(LookupError):
    """No message met the criteria in time.

    The text says which store was read, with which criteria and for how long, and which other
    messages came closest. If there was a MailCatcher, it says who connected to it, too.
    """


class Search:
    """The search for the newest message of a store that meets the criteria."""

    def __init__(self, path: str | os.PathLike[str], criteria: Criteria) -> None:
        self.path = os.path.abspath(path)
        self._criteria = criteria
        self._watch = Watch(self.path)
        self._seen: Seen | None = None
        self._is_first = True

    def wait(self, timeout: float) -> Wait[StoredMessage]:
        """Return a wait for the message."""
        return Wait(self._look, self._watch, timeout)

    def _look(self) -> StoredMessage | None:
        store = find(self.path, self._criteria.to)
        self._watch.follow(store.folders)
        if self._is_first:
            # Before the look: what comes meanwhile is new to the next.
            self._is_first, self._seen = False, store.now()
            found = Found(self._criteria, strict=True)
            return next(found.messages(store.newest_first()), None)
        entries, self._seen = store.since(self._seen)
        return next(Found(self._criteria).messages(reversed([*entries])), None)

    def miss(self, timeout: float, explanation: str) -> NoMessageError:
        """Return the error that tells why there is no message."""
        entries = find(self.path).newest_first()
        return no_message(self.path, self._criteria, timeout, entries, explanation)


def no_message(
    path: str,
    criteria: Criteria,
    timeout: float,
    newest_first: Iterable[Entry],
    explanation: str,
    *,
    only_new: bool = False,
) -> NoMessageError:
    """Return the error for somebody who has only its text.

    *newest_first* are the entries that were not the message; *only_new* tells that no
    others counted; *explanation* is what else is known, or empty.
    """
    found = Found(Criteria())
    others = (
        (criteria.count(message), -number, line_of(message))
        for number, message in enumerate(
            found.messages(itertools.islice(newest_first, _RECENT))
        )
    )
    misses = [line for _, _, line in heapq.nlargest(_MOST_MISSES, others)]
    text = f"no {'new ' if only_new else ''}message in {path}"
    if str(criteria):
        text += f" with {criteria}"
    if timeout:
        text += f", in {timeout:g} s"
    if misses:
        text += "; the nearest misses:" + "".join(f"\n  {line}" for line in misses)
    elif not os.path.exists(path):
        text += "; nothing is there yet"
    else:
        text += "; no other came" if only_new else "; it is empty"
    if found.first_bad:
        text += f"\nand no message at all: {found.first_bad}"
    if explanation:
        text += f"\n{explanation}"
    if timeout and loop_is_running():
        text += (
            "\nThe event loop of this thread stood still meanwhile, and so did all that runs "
            "on it: write 'async with inbox.expect(...)', or 'await inbox.alatest(...)'."
        )
    return NoMessageError(text)
