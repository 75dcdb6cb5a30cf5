"""JSON Lines, as https://jsonlines.org has them: one record a message, one message a line."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

from ..block import FormatError, mail_of
from ..disk import log
from ..disk.files import write_all
from ..disk.locks import LOCK_TIMEOUT
from ..mail import Envelope, Mail, gist_in
from .entries import EntryStart, octets_in
from .growing import GrowingStore, Mended
from .memory import GLANCE
from .store import HEAD, Effort, GoneError, NothingYet

_SMALL = 1 << 13
_LONG = 1 << 16

# Characters that act on a terminal, or split a line for somebody.
_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_ESCAPES = {
    code: f"\\u{code:04x}"
    for code in (*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
# How our records begin; another program's may have an id, too.
_ID = re.compile(rb'\{"id": "(?:[^"\\]|\\.|\\\Z)*')
_BEHIND_ID = b'", "received": "'
_OUR_LINE = re.compile(rb"\n" + _ID.pattern + _BEHIND_ID)
_LONG_TEXT = 1 << 16


class JsonLinesStore(GrowingStore):
    """The file of JsonLines."""

    what: ClassVar[str] = "JSON Lines"
    entry_start: ClassVar[EntryStart] = EntryStart(b"")

    def encode(self, mails: Iterable[Mail]) -> Iterable[bytes]:
        return _lines(mails)

    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        if not data.strip(b"\0\r\n\t "):
            raise GoneError(self.path)
        return decode(data)

    def is_one(self, head: bytes) -> bool:
        return is_json_lines(head)

    def is_torn(self, data: bytes, before: int | None) -> bool:
        return is_torn(data.rstrip(b"\0"))

    def mend(self, data: bytes, before: int | None) -> Mended:
        return mend(data)

    def gist(self, fd: int, start: int, end: int) -> str | None:
        if octets_in(fd, end - 2, end) != b"}\n":  # it may be no whole line
            return None
        head = octets_in(fd, start, min(end, start + GLANCE))
        return gist_in(head, 0, len(head), named=True)

    def effort(self, mail: Mail) -> Effort:
        # To interpret an octet takes up to 2 us.
        size = len(mail.content)
        if size > _LONG:
            return Effort.LONG
        return Effort.SMALL if size <= _SMALL else Effort.LARGE


class JsonLinesOutput(NothingYet):
    """JSON Lines on standard output: nobody reads here, or removes, what was written there."""

    instead_of_keep: ClassVar[str] = JsonLinesStore.instead_of_keep
    _may_be_torn = False  # the last line, where there was no room for all of it

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        lines = _lines(mails)
        # What was written can't be taken back: the next line must not go on with it.
        closing = [b"\n"] if self._may_be_torn else []
        self._may_be_torn = True
        write_all(sys.__stdout__.fileno() if sys.__stdout__ else 1, chain(closing, lines))
        self._may_be_torn = False

    def effort(self, mail: Mail) -> Effort:
        return Effort.LARGE  # it may be a pipe that nobody reads


def _lines(mails: Iterable[Mail]) -> Iterator[bytes]:
    """Return the lines for *mails*, in pieces.

    They are interpreted now, before there is a lock that others wait for, and formed one by
    one, as they are written: a long line needs no memory of its own.
    """
    records = [(mail, _record(mail)) for mail in mails]
    return (piece for mail, record in records for piece in encode(mail, record))


def _record(mail: Mail) -> Mapping[str, Any]:
    # 10 ms to import, with its codecs. The command has it before it becomes nobody.
    from ..message.budget import LINE, Budget
    from ..message.message import StoredMessage
    from ..message.record import KEYS

    budget = Budget(LINE)  # others wait meanwhile
    try:
        return StoredMessage.parse(mail.content, budget=budget).summary(budget)
    except Exception:  # noqa: BLE001 - no content may make a server refuse a message
        log().exception("%s can't be parsed; its line has its octets only", mail.envelope.id)
        return dict.fromkeys(KEYS)


def encode(mail: Mail, summary: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield one line, in pieces: the envelope's keys, a parser's *summary*, the content.

    Every line has every key: programs that guess a table's columns look at a few lines.
    The content is ``raw``, or ``raw_base64`` where it is no UTF-8; the other is null.
    """
    envelope, content, _ = mail.sealed()
    record: dict[str, Any] = {**envelope.to_dict(), **summary}
    for last in ("size", "sha256"):
        record[last] = record.pop(last)
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
    # 30 MiB of such characters took 16 s with a call of Python's for each.
    if text.isascii():
        text = text.replace("\x7f", _ESCAPES[0x7F])
    elif _UNSAFE.search(text):
        text = text.translate(_ESCAPES)
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair is no UTF-8


def decode(line: bytes) -> Mail:
    """Return the mail of which :func:`encode` made *line*, altered or not.

    Raises FormatError where no envelope or no content is in it.
    """
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
    return mail_of(envelope, content)


def is_json_lines(head: bytes) -> bool:
    """Tell whether a file that begins with *head* is one of JSON Lines.

    A program may have put lines above the first record of one that is ours.
    """
    if _OUR_LINE.search(b"\n" + head):
        return True
    first, newline, _ = head.lstrip().rstrip(b"\0").partition(b"\n")
    if not first:
        return b"\0" not in head
    # What a crash left of the first append, or a line too long to see its end.
    is_begun = _is_begun(first) or (len(head) >= HEAD and first.startswith(b'{"'))
    return _is_object(first) or (is_begun and not newline)


def is_torn(line: bytes) -> bool:
    """Tell whether *line*, the last of its file, is the rest of an append of ours.

    That is the beginning of a record of ours: no line end, and no whole JSON object.
    """
    return not line.endswith(b"\n") and _is_begun(line) and not _is_object(line)


def mend(line: bytes) -> Mended:
    """Return what to do about the last line of a file before the next is appended.

    An append that nobody finished was not acknowledged, and is cut off. Whatever else
    stands there stays, with a line end behind it.
    """
    line = line.rstrip(b"\0")  # a power cut may leave the length and not the octets
    if is_torn(line):
        return Mended(0)
    return Mended(len(line), b"\n" if line and not line.endswith(b"\n") else b"")


def _is_begun(line: bytes) -> bool:
    start = _ID.match(line)
    if start is None:
        return b'{"id": "'.startswith(line)
    rest = line[start.end() :]
    return rest.startswith(_BEHIND_ID) or _BEHIND_ID.startswith(rest)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
