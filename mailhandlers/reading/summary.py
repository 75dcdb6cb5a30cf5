"""What a record of a message tells: the keys of JSON Lines and of the HTTP API.

A server imports this before it becomes ``nobody``, a user that may not read Python's files.
So this imports all that a message may need, the codecs too.
"""

from __future__ import annotations

import email.generator  # noqa: F401
from email.utils import parsedate_to_datetime
from typing import Any

from . import attachments, charsets, html_text  # noqa: F401
from .headers import PARSER_FAULTS
from .readable import Readable

charsets.load()
_LONGEST_DATE = 200


KEYS = (
    *("subject", "from", "to", "cc", "date", "message_id", "headers"),
    *("text", "html", "links", "codes", "attachments"),
)
"""The keys of a record, in order."""


def summary(message: Readable) -> dict[str, Any]:
    """Return the record, every key in it, None where there is nothing to tell."""
    headers = [[name, str(value)] for name, value in message.own_texts()]
    first = {name.lower(): value for name, value in reversed(headers)}
    kinds = {part.get_content_type() for part in message.bodies_and_attachments[0]}
    return {
        "subject": first.get("subject"),
        "from": first.get("from"),
        "to": first.get("to"),
        "cc": first.get("cc"),
        "date": _iso_date(first.get("date", "")),
        "message_id": first.get("message-id"),
        "headers": headers,
        "text": message.text if "text/plain" in kinds else None,
        "html": message.html if "text/html" in kinds else None,
        "links": message.links,
        "codes": message.codes,
        "attachments": [
            {
                "filename": attachment.filename,
                "content_type": attachment.content_type,
                "size": len(attachment.content),
            }
            for attachment in message.attachments
        ],
    }


def _iso_date(text: str) -> str | None:
    if len(text) > _LONGEST_DATE:
        return None
    try:
        return parsedate_to_datetime(text).isoformat()
    except PARSER_FAULTS:
        return None
