"""mboxrd, as https://www.loc.gov/preservation/digital/formats/fdd/fdd000385.shtml has it."""

from __future__ import annotations

import contextlib
import re
from datetime import timezone

from ..mail import Mail
from . import FormatError
from .eml import BLOCK_NAMES, block, split_block
from .folder_names import percent_encoded
from .lf import from_lf, to_lf

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
# What mutt and Dovecot put into the headers of a message that they rewrite in an mbox.
_CLIENT_HEADERS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|Lines):[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*",
    re.MULTILINE | re.IGNORECASE,
)
_BODY_LENGTH = re.compile(
    rb"^Status: [A-Z]+\n(?:X-Status: [A-Z]+\n)?Content-Length: (\d{1,12})\nLines: \d+\Z",
    re.MULTILINE,
)


def quote_from(data: bytes) -> bytes:
    """Return *data* with a ``>`` before every ``From `` line, quoted ones too."""
    return _FROM.sub(rb">\1", data) if b"From " in data else data


def unquote_from(data: bytes) -> bytes:
    """Return what :func:`quote_from` was given."""
    return _QUOTED_FROM.sub(rb"\1", data) if b"From " in data else data


def encode(mail: Mail) -> list[bytes]:
    """Return the mboxrd entry, in pieces, the blank line behind it included."""
    envelope, content = mail
    sender = percent_encoded(envelope.mail_from, safe="@.+-_=!#$&'*/?^`{|}~") or "MAILER-DAEMON"
    date = envelope.received.astimezone(timezone.utc).ctime()
    # A last line without an end gets one; LF form would hide where the message ended.
    whole = content.endswith(b"\n") or not content
    return [
        f"From {sender} {date}\n".encode(),
        block(envelope),
        quote_from(to_lf(content) if whole else content),
        b"\n" if whole else b"\n\n",
    ]


def decode(entry: bytes) -> Mail:
    """Return the mail of which :func:`encode` made *entry*.

    *entry* runs from its ``From `` line up to the next. Headers that mutt or Dovecot
    added since are taken off again. Raises FormatError.
    """
    if not entry.startswith(b"From "):
        raise FormatError("an mbox entry begins with a From line")
    data = unquote_from(_without_torn_from(entry[entry.find(b"\n") + 1 :]))
    envelope, start = split_block(data)
    stored = data[start:]
    with contextlib.suppress(FormatError):
        return Mail(envelope, _from_closed(stored, envelope.size))
    changed = _without_client_headers(stored)
    for candidate in changed:
        with contextlib.suppress(FormatError):
            return Mail(envelope, _from_closed(candidate, envelope.size))
    if _has_body_length(stored):
        # A client that takes Status, Content-Length or Lines of the sender's for its own
        # lost them: what it left is the message now.
        return Mail(envelope, _chopped(changed[0], 1))
    raise FormatError(f"a message of {envelope.size} octets has {len(stored)} here")


def _from_closed(stored: bytes, size: int) -> bytes:
    """Return the content that an entry's blank line, or two, ends; raises FormatError."""
    try:
        return from_lf(_chopped(stored, 1), size)
    except FormatError:
        for newlines in (2, 0):  # the content came without a line end, and is not LF form
            content = _chopped(stored, newlines)
            if len(content) == size:
                return content
        raise


def _chopped(data: bytes, newlines: int) -> bytes:
    return data[:-newlines] if newlines and data.endswith(b"\n" * newlines) else data


def _without_torn_from(data: bytes) -> bytes:
    """Return *data* without the From line that somebody began to append to it."""
    for start in (b"F", b"Fr", b"Fro", b"From"):
        if data.endswith(b"\n\n" + start):
            return data[: -len(start)]
    return data


def _without_client_headers(data: bytes) -> list[bytes]:
    """Return what *data* may have been before a mail client added its headers."""
    head, blank, body = data.partition(b"\n\n")
    kept = _CLIENT_HEADERS.sub(b"", head + b"\n")
    # A message without any header got a blank line, too.
    return [kept[:-1] + blank + body] if kept else [body, b"\n" + body]


def _has_body_length(data: bytes) -> bool:
    """Tell whether a mail client wrote into *data* how long the body is, and it is."""
    head, _, body = data.partition(b"\n\n")
    length = _BODY_LENGTH.search(head)
    return length is not None and int(length[1]) == len(_chopped(body, 1))


def mend(entry: bytes) -> tuple[int, bytes]:
    """Return how much to keep of the last entry of an mbox, and what closes it.

    Our own entry that a crash cut short was never acknowledged: nothing of it is kept.
    Whatever else stands there is kept, up to the blank line that must end it.
    """
    entry = _without_torn_from(entry)
    try:
        decode(entry)
    except FormatError:
        if is_torn(entry):
            return 0, b""
    return len(entry), b"\n\n"[min(2, len(entry) - len(entry.rstrip(b"\n"))) :]


def is_torn(entry: bytes) -> bool:
    """Tell whether *entry* is the beginning, and no more, of an entry of ours."""
    first, newline, data = entry.partition(b"\n")
    if not newline:
        return first.startswith(b"From ") or b"From ".startswith(first)
    data = unquote_from(data)
    try:
        envelope, start = split_block(data)
    except FormatError:
        *lines, last = re.sub(rb"\n[ \t]", b" ", data).split(b"\n")
        if not all(map(bytes.startswith, lines, BLOCK_NAMES)):
            return False
        if len(lines) >= len(BLOCK_NAMES):  # a line may also end where the next was to fold
            return len(lines) == len(BLOCK_NAMES) and not last
        name = BLOCK_NAMES[len(lines)]
        return last.startswith(name) or name.startswith(last)
    return len(data) - start < envelope.size
