"""What a record of a message tells: the keys of JSON Lines and of the HTTP API.

A server imports this before it becomes ``nobody``, a user that may not read Python's files.
So this imports all that a message may need, the codecs too.
"""

from __future__ import annotations

import email.generator  # noqa: F401
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any

from . import charsets, content
from .body import Body
from .budget import Budget, in_c
from .headers import PARSER_FAULTS

charsets.load()
_LONGEST_DATE = 200


KEYS = (
    *("subject", "from", "to", "cc", "date", "message_id", "headers"),
    *("text", "html", "links", "codes", "attachments"),
)
"""The keys of a record, in order."""


def record(headers: Sequence[tuple[str, str]], body: Body, budget: Budget) -> dict[str, Any]:
    """Return the record of a message with these *headers*, every key in it.

    None is where there is nothing to tell. What *budget*, with which the message was parsed,
    has no room for is None: the texts, with the links and the codes in them, and the size of
    an attachment. Where it had no room for the structure, all of these are None, and all
    attachments; where it had none for the message's own headers, all is.
    """
    found: dict[str, Any] = dict.fromkeys(KEYS)
    if headers or not budget.is_over:
        found |= _of_headers(headers)
    if not budget.is_over:
        if budget.takes(sum(len(content.as_stored(text.part)) for text in body.texts)):
            found |= _of_texts(body, str(found["subject"] or ""))
        found["attachments"] = [
            {
                "filename": attachment.filename,
                "content_type": attachment.content_type,
                "size": len(attachment.content)
                if budget.takes(_decoding(attachment.part))
                else None,
            }
            for attachment in body.attachments
        ]
    return found


def _of_headers(headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    first = {name.lower(): value for name, value in reversed(headers)}
    return {
        "subject": first.get("subject"),
        "from": first.get("from"),
        "to": first.get("to"),
        "cc": first.get("cc"),
        "date": _iso_date(first.get("date", "")),
        "message_id": first.get("message-id"),
        "headers": [[name, value] for name, value in headers],
    }


def _of_texts(body: Body, subject: str) -> dict[str, Any]:
    kinds = {text.is_html for text in body.texts}
    return {
        "text": body.text if False in kinds else None,
        "html": body.html if True in kinds else None,
        "links": body.links,
        "codes": body.codes(subject),
    }


def _decoding(attachment: EmailMessage) -> float:
    """Return what it costs to decode an attachment.

    That is done in C, once for each padding of base64, and else once for each line.
    """
    cost = 0.0
    for part in attachment.walk():
        data = content.as_stored(part)
        is_base64 = content.transfer_encoding(part) == "base64"
        cost += in_c(len(data)) + data.count(b"=" if is_base64 else b"\n")
    return cost


def _iso_date(text: str) -> str | None:
    if len(text) > _LONGEST_DATE:
        return None
    try:
        return parsedate_to_datetime(text).isoformat()
    except PARSER_FAULTS:
        return None
