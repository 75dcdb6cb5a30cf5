"""What a request names: the criteria of Python, a message, a moment in the store."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError

from ..reading.criteria import Criteria
from ..reading.message import StoredMessage
from .arrivals import Arrivals
from .mailbox import Mailbox, UnknownIdError

_LONGEST_PATTERN = 1000


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
            description="A regular expression (Python's) to search in headers and text.",
            json_schema_extra={"format": "regex"},
        ),
    ] = None,
) -> Criteria:
    """Return the criteria that a request names: those of Python, and as strict."""
    try:
        return Criteria(to=to, mail_from=mail_from, subject=subject, matching=matching)
    except (re.error, RecursionError, OverflowError) as error:
        raise RequestValidationError(
            [{"loc": ("query", "matching"), "msg": f"no regular expression: {error}"}]
        ) from error


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
