"""JSON Lines, as https://jsonlines.org has them: one record a message, one message a line."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..mail import Envelope, Mail
from . import FormatError

# Characters that act on a terminal, split a line for somebody, or are no UTF-8 at all.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_RECORD = b'{"id": "'
_LONG_TEXT = 1 << 16


def encode(mail: Mail, summary: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield one line, in pieces: the envelope's keys, a parser's *summary*, the content.

    Every line has every key: programs that guess a table's columns look at a few lines.
    The content is ``raw``, or ``raw_base64`` where it is no UTF-8; the other is null.
    """
    envelope, content = mail
    record: dict[str, Any] = {**envelope.to_dict(), **summary}
    record["size"] = record.pop("size")
    record["raw"] = record["raw_base64"] = None
    try:
        record["raw"] = content.decode()
    except UnicodeDecodeError:
        record["raw_base64"] = base64.b64encode(content).decode()
    if len(content) <= _LONG_TEXT:
        yield _safe(json.dumps(record, ensure_ascii=False) + "\n")
        return
    before = "{"
    for key, value in record.items():
        yield f'{before}"{key}": '.encode()
        yield from _json(value)
        before = ", "
    yield b"}\n"


def _json(value: object) -> Iterator[bytes]:
    """Yield *value* as JSON, in pieces, so that long text holds no other thread up."""
    if not isinstance(value, str) or len(value) <= _LONG_TEXT:
        yield _safe(json.dumps(value, ensure_ascii=False))
        return
    yield b'"'
    for i in range(0, len(value), _LONG_TEXT):
        yield _safe(json.dumps(value[i : i + _LONG_TEXT], ensure_ascii=False)[1:-1])
    yield b'"'


def _safe(text: str) -> bytes:
    if not text.isascii() or "\x7f" in text:
        text = _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode()


def decode(line: bytes) -> Mail:
    """Return the mail of which :func:`encode` made *line*, or raise FormatError."""
    try:
        record = json.loads(line)
        envelope = Envelope.from_dict(record)
        raw = record.get("raw")
        if isinstance(raw, str):
            content = raw.encode()
        else:
            content = base64.b64decode(str(record.get("raw_base64")), validate=True)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise FormatError(f"no record of a message: {error}") from error
    if len(content) != envelope.size:
        raise FormatError(f"a message of {envelope.size} octets has {len(content)} here")
    return Mail(envelope, content)


def mend(line: bytes) -> tuple[int, bytes]:
    """Return how much to keep of the last line of a file, and what closes it.

    Our own line that a crash cut short was never acknowledged: nothing of it is kept.
    """
    if line.endswith(b"\n") or not line:
        return len(line), b""
    try:
        decode(line)
    except FormatError:
        if line.startswith(_RECORD) or _RECORD.startswith(line):
            return 0, b""
    return len(line), b"\n"
