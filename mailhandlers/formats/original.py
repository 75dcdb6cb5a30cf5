"""What was received, found again in what a store holds of it by now.

Mail clients mark a message by headers of their own, and other programs edit it. The
envelope's checksum tells what came; without one, as version 1.0 stored, the length does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..mail import Envelope, Mail, sha256
from .lf import from_lf

# What mutt and Dovecot put into the headers of a message that they rewrite.
_CLIENT_HEADERS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|Lines):[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*",
    re.MULTILINE | re.IGNORECASE,
)


def mail_of(envelope: Envelope, stored: bytes, closings: Sequence[int] = (0,)) -> Mail:
    """Return the message that *stored* holds: as received, or as it is now.

    *closings* are the numbers of line ends that the format may have put behind it, the
    usual one first.
    """
    for form in _unmarked(stored):
        for newlines in closings:
            content = _received(_chopped(form, newlines), envelope)
            if content is not None:
                return Mail(envelope, content)
    return Mail(envelope, _chopped(stored, closings[0]), is_altered=True)


def is_short(stored: bytes, size: int) -> bool:
    """Tell whether *stored* is shorter than a message of *size* octets is in any form."""
    return longest(stored) < size


def longest(stored: bytes) -> int:
    """Return how many octets were received at most, if *stored* is all of them."""
    return len(stored) + (0 if b"\r\n" in stored else stored.count(b"\n"))


def _received(stored: bytes, envelope: Envelope) -> bytes | None:
    if len(stored) == envelope.size and _fits(stored, envelope):
        return stored
    if len(stored) < envelope.size == longest(stored):
        content = from_lf(stored)
        if _fits(content, envelope):
            return content
    return None


def _fits(content: bytes, envelope: Envelope) -> bool:
    return envelope.sha256 in (None, sha256(content))


def _unmarked(stored: bytes) -> Iterator[bytes]:
    """Yield what *stored* may have been before a mail client added its headers."""
    yield stored
    head, blank, body = stored.partition(b"\n\n")
    kept = _CLIENT_HEADERS.sub(b"", head + b"\n")
    if kept:
        yield kept[:-1] + blank + body
    else:  # a message without any header got a blank line, too
        yield body
        yield b"\n" + body


def _chopped(data: bytes, newlines: int) -> bytes:
    return data[:-newlines] if newlines and data.endswith(b"\n" * newlines) else data
