"""Messages that other programs stored: is it one, and what envelope its headers give."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from datetime import datetime, timezone

from ..mail import Envelope
from ..message.addresses import addresses_in
from ..message.message import StoredMessage

_FIELD = rb"[A-Za-z][!-9;-~]*[ \t]*:"
_HEADER = re.compile(rb"(?:>?From [^\n]*\n)?" + _FIELD)
# A line of some other file may have a colon, too; a message has one of these.
_MAIL = re.compile(
    rb"^(?:From|Sender|Reply-To|To|Cc|Bcc|Date|Subject|Received|Message-ID|MIME-Version|"
    rb"Content-Type|Return-Path|Delivered-To|X-[!-9;-~]+)[ \t]*:",
    re.MULTILINE | re.IGNORECASE,
)
_BLANK = re.compile(rb"^\r?\n", re.MULTILINE)


def is_mail(head: bytes) -> bool:
    """Tell whether a file that begins with *head* is a message, for what one can tell."""
    head = _begun(head)
    return _HEADER.match(head) is not None and _MAIL.search(_headers(head)) is not None


def envelope(content: bytes, name: str, when: float) -> Envelope:
    """Return the envelope that the headers of *content* give, as far as they do.

    Delivery agents put theirs first; aiosmtpd's Mailbox puts its X- headers last. Where
    neither left any, the message's own sender and recipients stand for them.
    """
    values: dict[str, list[str]] = {}
    for header, text in StoredMessage.parse(_headers(content)).own_texts():
        values.setdefault(header.lower(), []).append(text)

    def first(*names: str) -> list[str]:
        return next(filter(None, (values.get(name, []) for name in names)), [])

    senders = first("x-mailfrom")[-1:] or first("return-path", "sender", "from")
    recipients = first("x-rcptto")[-1:] or first("delivered-to")
    everybody = values.get("to", []) + values.get("cc", [])
    return Envelope(
        id=name,
        received=_moment(when),
        peer=values.get("x-peer", [""])[-1],
        helo="",
        protocol="",
        tls=None,
        auth=None,
        mail_from=next(iter(_addresses(senders[:1])), ""),
        mail_options=[],
        rcpt_tos=_addresses(recipients or everybody),
        size=len(content),
    )


def _begun(content: bytes) -> bytes:
    """Return *content* from where a message begins that an editor or a shell has saved."""
    return content.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")


def _headers(content: bytes) -> bytes:
    content = _begun(content)
    blank = _BLANK.search(content)
    return content[: blank.start()] if blank else content


def _addresses(values: Iterable[str]) -> list[str]:
    found = (address for value in values for address in addresses_in(value))
    return list(dict.fromkeys(address for address in found if address != "<>"))


def _moment(when: float) -> datetime:
    try:
        return datetime.fromtimestamp(when, timezone.utc)
    except (OverflowError, ValueError, OSError):  # a year that nobody will see
        return datetime.fromtimestamp(0, timezone.utc)
