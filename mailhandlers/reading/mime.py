"""MIME (RFC 2045, 2046): the headers and the parts of a message, from its octets.

Read as mail is, not as it should be, and bounded: no message is too odd or too large. It
gives what BytesParser gives where that has no complaint.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Callable, Iterator
from email import errors
from email.message import EmailMessage
from typing import NamedTuple

from .budget import Budget, OverBudgetError, in_c
from .parameters import parse as parse_field

DEEPEST = 50
"""How many parts may stand within each other. What is deeper is shown as its text."""
MOST_PARTS = 2000
"""How many parts a message may have. What follows the last is shown as its text."""

# Some put a blank before the colon.
_FIELD = re.compile(r"([!-9;-~]+)[ \t]*:[ \t]*((?:[^\n]*\n[ \t])*[^\n]*)(?:\n|\Z)")
_IDENTITIES = ("7bit", "8bit", "binary", "")


class _Span(NamedTuple):
    """A part of the octets: the lines between two delimiters, or all."""

    start: int
    end: int


class _Delimiter(NamedTuple):
    """A line between two parts, or the one behind the last."""

    start: int
    end: int
    is_last: bool


class Parser:
    """Makes one message and its parts. *make* returns an empty message.

    What *budget* has no room for is left out: the parts, or all.
    """

    def __init__(
        self, make: Callable[[], EmailMessage], data: bytes, budget: Budget | None = None
    ) -> None:
        self._make = make
        self._data = data
        self._budget = budget or Budget()
        self._parts_left = MOST_PARTS

    def fill(self, message: EmailMessage) -> None:
        """Give *message* the headers and the parts that the octets, with LF ends, have."""
        mark = codecs.BOM_UTF8
        start = len(mark) if self._data.startswith(mark) else 0
        with contextlib.suppress(OverBudgetError):
            self._fill(message, _Span(start, len(self._data)), 0)

    def _fill(self, message: EmailMessage, span: _Span, depth: int) -> None:
        body = _Span(self._headers(message, span), span.end)
        kind = message.get_content_type()
        if kind.startswith("multipart/"):
            self._multipart(message, body, depth)
        elif kind.startswith("message/") and depth < DEEPEST:
            self._message(message, kind, body, depth)
        else:
            message.set_payload(self._text(body))

    def _text(self, span: _Span) -> str:
        return self._data[span.start : span.end].decode("ascii", "surrogateescape")

    def _headers(self, message: EmailMessage, span: _Span) -> int:
        """Add the headers at the beginning of *span*; return where the body begins."""
        start, end = span
        if self._data.startswith(b"\n", start):  # no headers
            return min(start + 1, end)
        blank = self._data.find(b"\n\n", start, end)
        stop = blank + 1 if blank >= 0 else end
        self._budget.spend(stop - start)
        block = self._text(_Span(start, stop))
        position, seen = 0, False
        while position < len(block) and block[position] != "\n":
            field = _FIELD.match(block, position)
            if field:
                message.set_raw(field[1], field[2].rstrip("\r\n"))
                position, seen = field.end(), True
                continue
            line = block.find("\n", position) + 1 or len(block)
            first = block[position:line]
            if position == 0 and first.startswith("From "):
                message.set_unixfrom(first.rstrip("\r\n"))
            elif first[0] in " \t":
                message.defects.append(errors.FirstHeaderLineIsContinuationDefect(first))
            elif seen and _FIELD.match(block, line):
                # Headers go on behind a line that is none.
                message.defects.append(errors.InvalidHeaderDefect(first))
            else:
                message.defects.append(errors.MissingHeaderBodySeparatorDefect())
                return start + position
            position = line
        return min(start + position + 1, end)

    def _multipart(self, message: EmailMessage, body: _Span, depth: int) -> None:
        boundary = message.get_boundary()
        if not boundary:
            message.defects.append(errors.NoBoundaryInMultipartDefect())
        lines = list(self._delimiters(boundary, body)) if boundary else []
        if not lines or lines[0].is_last or depth >= DEEPEST:
            if boundary:
                message.defects.append(errors.StartBoundaryNotFoundDefect())
            message.set_payload(self._text(body))
            return
        if lines[0].start > body.start:
            message.preamble = self._text(_Span(body.start, lines[0].start - 1))
        for line, following in zip(lines, [*lines[1:], None], strict=True):
            if line.is_last:
                message.epilogue = self._text(_Span(line.end, body.end))
                return
            end = following.start - 1 if following else body.end
            part = self._make()
            if message.get_content_type() == "multipart/digest":
                part.set_default_type("message/rfc822")
            message.attach(part)
            self._parts_left -= 1
            if self._parts_left <= 0:
                part.set_payload(self._text(_Span(line.end, body.end)))
                return
            self._fill(part, _Span(line.end, max(end, line.end)), depth + 1)
        message.defects.append(errors.CloseBoundaryNotFoundDefect())

    def _delimiters(self, boundary: str, body: _Span) -> Iterator[_Delimiter]:
        delimiter = b"--" + boundary.encode("utf-8", "surrogateescape")
        self._budget.spend(in_c(body.end - body.start))
        found = self._data.find(delimiter, *body)
        left = self._parts_left
        while found >= 0 and left:
            self._budget.spend(len(delimiter))
            behind = found + len(delimiter)
            if found == body.start or self._data[found - 1] == 0x0A:
                line = self._data.find(b"\n", behind, body.end)
                line = line + 1 if line >= 0 else body.end
                rest = self._data[behind:line].rstrip()
                if rest in (b"", b"--"):
                    yield _Delimiter(found, line, rest != b"")
                    if rest:
                        return
                    left -= 1
            found = self._data.find(delimiter, behind, body.end)

    def _message(self, message: EmailMessage, kind: str, body: _Span, depth: int) -> None:
        encoding = parse_field(str(message.get("content-transfer-encoding", "")))
        if encoding.value not in _IDENTITIES:
            message.set_payload(self._text(body))  # against RFC 2046; an attachment
            return
        if kind != "message/delivery-status":
            inner = self._make()
            message.attach(inner)
            self._fill(inner, body, depth + 1)
            return
        position = body.start
        while True:  # RFC 3464: headers for the message, then for each recipient
            block = self._make()
            message.attach(block)
            self._parts_left -= 1
            begin, position = position, self._headers(block, _Span(position, body.end))
            is_last = position in (begin, body.end) or self._parts_left <= 0
            block.set_payload(self._text(_Span(position, body.end)) if is_last else "")
            if is_last:
                return
