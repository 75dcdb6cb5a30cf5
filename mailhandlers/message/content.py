"""What a part holds, its transfer encoding and its charset undone."""

from __future__ import annotations

import re
from email.message import EmailMessage
from typing import cast

from . import charsets
from .headers import parse_field
from .text import unflowed
from .transfer import ENCODINGS

_META = re.compile(rb"<meta\s[^>]*", re.IGNORECASE)
_CHARSET = re.compile(rb"charset\s{0,9}=\s{0,9}[\"']?([\w.:-]+)", re.IGNORECASE)
_HEAD_OF_PAGE = 4096


def parts_of(part: EmailMessage) -> list[EmailMessage]:
    """Return the parts of *part*, or the message in it."""
    return cast("list[EmailMessage]", part.get_payload()) if part.is_multipart() else []


def raw_header(part: EmailMessage, name: str) -> str | None:
    """Return the first header called *name* (in lower case) as it is stored, or None."""
    for found, value in part.raw_items():
        if found.lower() == name:
            return str(value)
    return None


def transfer_encoding(part: EmailMessage) -> str:
    """Return the name of the transfer encoding, in lower case; "" where there is none."""
    return parse_field(raw_header(part, "content-transfer-encoding") or "").value


def keep_octets(part: EmailMessage, data: bytes, start: int, end: int) -> None:
    """Remember where in *data* stands what *part* holds, as it was sent."""
    part.__dict__["_sent"] = (getattr(part, "_payload", None), data, start, end)


def octets(part: EmailMessage) -> bytes:
    """Return what *part* holds, as it was sent; for a message within the message its source."""
    data = _as_sent(part)
    if data is None:
        if part.is_multipart():
            return b"".join(inner.as_bytes() for inner in parts_of(part))
        data = as_stored(part)
    undo = ENCODINGS.get(transfer_encoding(part))
    return undo(data) if undo else data


def _as_sent(part: EmailMessage) -> bytes | None:
    """Return the octets of *part* as they came, None where the user has changed it since."""
    payload, data, start, end = part.__dict__.get("_sent", (None, b"", 0, 0))
    is_whole = payload is not None and getattr(part, "_payload", None) is payload
    return bytes(data[start:end]) if is_whole else None


def is_single(part: EmailMessage) -> bool:
    """Tell whether *part* holds octets of its own rather than parts."""
    return isinstance(getattr(part, "_payload", None), str)


def as_stored(part: EmailMessage) -> bytes:
    """Return the octets of *part* before its transfer encoding is undone."""
    payload = getattr(part, "_payload", None)  # get_payload() decodes it
    return payload.encode("utf-8", "surrogateescape") if isinstance(payload, str) else b""


def stored_text(part: EmailMessage) -> str | None:
    """Return the payload before its transfer encoding is undone, None where there is none."""
    payload = getattr(part, "_payload", None)
    if payload is None or (isinstance(payload, str) and payload.isascii()):
        return payload
    return charsets.decode(as_stored(part), part.get_content_charset())


def text(part: EmailMessage) -> str:
    """Return the text of *part*, whatever its charset, with LF line ends."""
    data = octets(part)
    charset = part.get_content_charset()
    if charsets.codec_of(charset) is None and part.get_content_type() == "text/html":
        metas = _META.finditer(data, 0, _HEAD_OF_PAGE)
        found = next(filter(None, (_CHARSET.search(meta[0]) for meta in metas)), None)
        charset = found[1].decode("ascii", "replace") if found else charset
    decoded = charsets.decode(data, charset)
    return decoded.replace("\r\n", "\n") if "\r" in decoded else decoded


def shown_text(part: EmailMessage) -> str:
    """Return the text of *part* as it is shown: flowed paragraphs (RFC 3676) in one line."""
    if str(part.get_param("format", "")).lower() != "flowed":
        return text(part)
    return unflowed(text(part), str(part.get_param("delsp", "")).lower() == "yes")


def plain_bytes(message: EmailMessage) -> bytes:
    """Return *message* as octets, without looking at what is in it."""
    raw = "".join(f"{name}: {value}\n" for name, value in message.raw_items())
    inner = b"".join(map(plain_bytes, parts_of(message))) or as_stored(message)
    return raw.encode("utf-8", "surrogateescape") + b"\n" + inner
