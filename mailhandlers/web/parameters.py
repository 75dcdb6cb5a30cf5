"""What a request names: the criteria of Python, a message, a moment in the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import regex
from fastapi import Depends, HTTPException, Path, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from ..inbox.criteria import Criteria
from ..message.message import StoredMessage
from .arrivals import Arrivals
from .mailbox import Mailbox, UnknownIdError

_LONGEST_PATTERN = 1000
_MATCHING_SECONDS = 1.0


class LimitedPattern:
    """A pattern of a stranger, who has one second of matching in all.

    A pattern can take for ever, and with :mod:`re` nothing ends it. The library `regex` ends,
    and lets other threads run meanwhile, as long as it searches in a str.
    """

    def __init__(self, pattern: str) -> None:
        """Compile *pattern*. Raises RequestValidationError."""
        self.pattern = pattern
        self._seconds_left = _MATCHING_SECONDS
        try:
            # As near to `re` as it can be.
            self._compiled = regex.compile(
                pattern, regex.VERSION0 | regex.MULTILINE, cache_pattern=False
            )
        except (regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
            raise _refused("matching", f"no regular expression: {error}") from error

    def search(self, string: str) -> object:
        """Return None where nothing matches. Raises RequestValidationError after a second."""
        started = time.thread_time()
        try:
            # For the library, less than 0 is no limit.
            left = max(self._seconds_left, 0)
            return self._compiled.search(string, timeout=left)
        except (TimeoutError, MemoryError) as error:
            raise _refused(
                "matching",
                f"it takes more than {_MATCHING_SECONDS:g} s to search for this: make it "
                "simpler, or add other criteria",
            ) from error
        finally:
            self._seconds_left -= time.thread_time() - started


def _refused(parameter: str, reason: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", parameter), "msg": reason}])


def check_names(request: Request) -> None:
    """Refuse a parameter that the route doesn't have, or only once.

    Whoever mistypes a criterion would be given, or remove, any messages.
    """
    known = {"token", *_names(request.scope["route"].dependant)}
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise _refused(name, f"there is no such parameter here: {', '.join(sorted(known))}")
        if count > 1:
            raise _refused(name, "it is given more than once")


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _names(each)


def mailbox_of(request: Request) -> Mailbox:
    """Return the mailbox of this application."""
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox


def arrivals_of(request: Request) -> Arrivals:
    """Return what arrives there."""
    arrivals: Arrivals = request.app.state.arrivals
    return arrivals


def criteria_of(
    to: Annotated[str | None, Query(description="One of the envelope's recipients.")] = None,
    mail_from: Annotated[
        str | None, Query(description="The reverse-path; empty for a bounce.")
    ] = None,
    subject: Annotated[str | None, Query(description="The whole subject.")] = None,
    matching: Annotated[
        str | None,
        Query(
            max_length=_LONGEST_PATTERN,
            description="A regular expression to search in headers and text, for one second.",
            json_schema_extra={"format": "regex"},
        ),
    ] = None,
) -> Criteria:
    """Return the criteria that a request names: those of Python, and as strict."""
    pattern = None if matching is None else LimitedPattern(matching)
    return Criteria(to=to, mail_from=mail_from, subject=subject, matching=pattern)


def message_of(
    mailbox: MailboxParameter,
    id: Annotated[str, Path(description="The id of a message.")],  # noqa: A002
) -> StoredMessage:
    """Return the message that a request names."""
    try:
        return mailbox.get(id)
    except UnknownIdError as error:
        raise HTTPException(404, str(error)) from error


MailboxParameter = Annotated[Mailbox, Depends(mailbox_of)]
ArrivalsParameter = Annotated[Arrivals, Depends(arrivals_of)]
CriteriaParameter = Annotated[Criteria, Depends(criteria_of)]
MessageParameter = Annotated[StoredMessage, Depends(message_of)]
After = Annotated[
    str, Query(description="Only messages that arrived after the one with this id.")
]
