"""What is said where no message is found."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ..message.message import StoredMessage
from ..message.visible import visible_line
from ..stores.store import Entry, exists
from .criteria import Criteria
from .readable import Mails
from .waiting import loop_is_running

_MOST_MISSES = 5
RECENT = 50
"""Among how many of the latest messages the nearest misses are."""
_LONGEST_SHOWN = 200


class NoMessageError(LookupError):
    """No message met the criteria in time.

    The text says which store was read, with which criteria and for how long, and which other
    messages came closest. If there was a MailCatcher, it says who connected to it, too.
    """


def no_message(
    path: str,
    criteria: Criteria,
    timeout: float,
    newest_first: Iterable[Entry],
    explanation: str,
    *,
    only_new: bool = False,
    came: Sequence[StoredMessage] = (),
    count: int = 1,
) -> NoMessageError:
    """Return the error for somebody who has only its text.

    *newest_first* are the entries among which it was not; *only_new* tells that no others
    counted; *came* is what did come, of *count* that were asked for; *explanation* is what
    else is known, or empty.
    """
    envelopes = [message.envelope for message in came]
    mails = Mails(newest_first, None)
    recent = itertools.islice(Criteria().among(mails), RECENT)
    others = [
        (criteria.count(message), -number, line_of(message))
        for number, message in enumerate(recent)
        if message.envelope not in envelopes
    ]
    misses = [line for _, _, line in sorted(others, reverse=True)[:_MOST_MISSES]]
    new = "new " if only_new else ""
    text = f"only {len(came)} of {count} {new}messages" if came else f"no {new}message"
    text += f" in {path}"
    if str(criteria):
        text += f" with {criteria}"
    if timeout:
        text += f", in {timeout:g} s"
    if misses:
        text += "; the nearest misses:" + "".join(f"\n  {line}" for line in misses)
    elif not exists(path):
        text += "; nothing is there yet"
    else:
        text += "; no other came" if only_new else "; it is empty"
    if mails.first_bad:
        text += f"\nand no message at all: {mails.first_bad}"
    if explanation:
        text += f"\n{explanation}"
    if timeout and loop_is_running():
        text += (
            "\nThe event loop of this thread stood still meanwhile, and so did all that runs "
            "on it: write 'async with inbox.expect(...)', or 'await inbox.alatest(...)'."
        )
    return NoMessageError(text)


def line_of(message: StoredMessage) -> str:
    """Return what tells *message* from others, in one printable line."""
    to = visible_line(", ".join(message.envelope.rcpt_tos))
    return f"to {_cut(to)}: {_cut(str(message['Subject'] or ''))!r}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
