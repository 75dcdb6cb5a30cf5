"""MIME (RFC 2045, 2046): the headers and the parts of a message, from its octets.

Read as mail is, not as it should be, and bounded: no message is too odd or too large. It
gives what BytesParser gives where that has no complaint.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Callable
from email import errors
from email.message import EmailMessage
from typing import NamedTuple

from ..block import lines_in_lf
from .budget import Budget, OverBudgetError, in_c
from .content import keep_octets
from .headers import parse_field

DEEPEST = 50
"""How many parts may stand within each other. What is deeper is shown as its text."""
MOST_PARTS = 2000
"""How many parts a message may have. What follows the last is shown as its text."""

# Some put a blank before the colon.
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:[ \t]*")
_VALUE = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*")
_LINE_END = re.compile(rb"\r?\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
# Behind an empty head a text may begin with what looks like a header: only these count.
_BLANK_LINES = re.compile(
    rb"[\r\n]+(?=(?:From|To|Cc|Date|Subject|Message-ID|MIME-Version|Received|Return-Path|"
    rb"Delivered-To|Content-Type|X-Envelope):)",
    re.IGNORECASE,
)
_IDENTITIES = ("7bit", "8bit", "binary", "")


class _Delimiter(NamedTuple):
    """A line between two parts, or the one behind the last; the end of all is one, too."""

    start: int
    end: int
    depth: int
    is_last: bool


class Parser:
    """Makes one message and its parts. *make* returns an empty message.

    The octets are read once, from the first to the last: each line that may be a delimiter
    is looked up among the boundaries of all multiparts that are open there. What *budget* has
    no room for is left out: the parts, or all.

    What messages are given has LF line ends; the octets as they came are kept for attachments.
    """

    def __init__(
        self, make: Callable[[], EmailMessage], data: bytes, budget: Budget | None = None
    ) -> None:
        self._make = make
        self._budget = budget or Budget()
        self._data = data
        self._parts_left = MOST_PARTS
        self._blank = -1  # where the first blank line is that was not read yet
        # The delimiters of the multiparts that are open, each with their depths: a multipart
        # may have its parent's boundary.
        self._open: dict[bytes, list[int]] = {}

    def fill(self, message: EmailMessage, *, skip_blank_lines: bool = False) -> None:
        """Give *message* the headers and the parts that the octets have.

        With *skip_blank_lines* headers may stand behind some, as they do in some files.
        """
        start = len(codecs.BOM_UTF8) if self._data.startswith(codecs.BOM_UTF8) else 0
        if skip_blank_lines and (blank := _BLANK_LINES.match(self._data, start)):
            start = blank.end()
        with contextlib.suppress(OverBudgetError):
            self._fill(message, start, 0)

    def _fill(self, message: EmailMessage, start: int, depth: int) -> _Delimiter:
        """Read a part; return the delimiter at which it ends."""
        start = self._headers(message, start)
        kind = message.get_content_type()
        if kind.startswith("multipart/"):
            return self._multipart(message, kind, start, depth)
        if kind.startswith("message/") and depth < DEEPEST:
            return self._message(message, kind, start, depth)
        return self._single(message, start)

    def _single(self, message: EmailMessage, start: int) -> _Delimiter:
        """Take what stands from *start* on, up to where the part ends, as it is."""
        end = self._delimiter(start)
        self._take(message, start, end)
        return end

    def _take(self, message: EmailMessage, start: int, end: _Delimiter) -> None:
        stop = self._before(end, start)
        message.set_payload(self._text(start, stop))
        keep_octets(message, self._data, start, stop)

    def _before(self, end: _Delimiter, start: int) -> int:
        """Return where what begins at *start* stops: before the line end above *end*."""
        if end.depth < 0:  # the end of all
            return len(self._data)
        stop = end.start - 1
        return max(stop - (self._data[stop - 1 : stop] == b"\r"), start)

    def _text(self, start: int, end: int) -> str:
        octets = self._data[start:end]
        lines = lines_in_lf(octets) if b"\r" in octets else octets
        return lines.decode("ascii", "surrogateescape")

    def _headers(self, message: EmailMessage, start: int) -> int:
        """Add the headers that stand from *start* on; return where the body begins."""
        if self._blank < start:
            blank = _BLANK_LINE.search(self._data, max(start - 1, 0))
            self._blank = blank.start() + 1 if blank else len(self._data)
        self._budget.spend(self._blank - start)
        position, seen = start, False
        while position < len(self._data):
            if end := _LINE_END.match(self._data, position):
                return end.end()
            if self._delimiter_at(position):
                return position
            if field := _NAME.match(self._data, position):
                value = _VALUE.match(self._data, field.end())
                assert value is not None  # it may match nothing, but it matches
                stop = value.end()
                stop -= self._data[stop - 1 : stop] == b"\r"
                text = self._text(value.start(), stop).rstrip("\r")
                message.set_raw(self._text(*field.span(1)), text)
                position, seen = value.end() + 1, True
                continue
            line = self._data.find(b"\n", position) + 1 or len(self._data)
            first = self._text(position, line)
            if position == start and first.startswith("From "):
                message.set_unixfrom(first.rstrip("\r\n"))
            elif first[0] in " \t":
                message.defects.append(errors.FirstHeaderLineIsContinuationDefect(first))
            elif seen and _NAME.match(self._data, line) and not self._delimiter_at(line):
                # Headers go on behind a line that is none.
                message.defects.append(errors.InvalidHeaderDefect(first))
            else:
                message.defects.append(errors.MissingHeaderBodySeparatorDefect())
                return position
            position = line
        return len(self._data)

    def _multipart(
        self, message: EmailMessage, kind: str, start: int, depth: int
    ) -> _Delimiter:
        boundary = message.get_boundary()
        if not boundary:
            message.defects.append(errors.NoBoundaryInMultipartDefect())
            return self._single(message, start)
        delimiter = b"--" + boundary.encode("utf-8", "surrogateescape")
        if depth >= DEEPEST:
            message.defects.append(errors.StartBoundaryNotFoundDefect())
            return self._single(message, start)
        self._open.setdefault(delimiter, []).append(depth)
        line = self._delimiter(start)
        if line.depth == depth and not line.is_last and line.start > start:
            message.preamble = self._text(start, self._before(line, start))
        closed = 0
        while line.depth == depth:
            if line.is_last:
                closed = closed or line.end
                if len(self._open[delimiter]) > 1:  # from here on it is the parent's
                    break
                line = self._delimiter(line.end)  # some write parts behind the last
                continue
            closed = 0
            part = self._make()
            if kind == "multipart/digest":
                part.set_default_type("message/rfc822")
            message.attach(part)
            self._parts_left -= 1
            if self._parts_left <= 0:
                self._close(delimiter)
                return self._single(part, line.end)
            line = self._fill(part, line.end, depth + 1)
        self._close(delimiter)
        end = self._delimiter(line.end) if line.depth == depth else line
        if not message.is_multipart():
            message.defects.append(errors.StartBoundaryNotFoundDefect())
            self._take(message, start, end)
        elif closed:
            message.epilogue = self._text(closed, self._before(end, closed))
        else:
            message.defects.append(errors.CloseBoundaryNotFoundDefect())
        return end

    def _close(self, delimiter: bytes) -> None:
        self._open[delimiter].pop()
        if not self._open[delimiter]:
            del self._open[delimiter]

    def _message(self, message: EmailMessage, kind: str, start: int, depth: int) -> _Delimiter:
        encoding = parse_field(str(message.get("content-transfer-encoding", "")))
        if encoding.value not in _IDENTITIES:  # against RFC 2046; an attachment
            return self._single(message, start)
        if kind != "message/delivery-status":
            inner = self._make()
            message.attach(inner)
            end = self._fill(inner, start, depth + 1)
            keep_octets(message, self._data, start, self._before(end, start))
            return end
        end = self._delimiter(start)
        stop = self._before(end, start)
        position = start
        while True:  # RFC 3464: headers for the message, then for each recipient
            block = self._make()
            message.attach(block)
            self._parts_left -= 1
            begin, position = position, self._headers(block, position)
            if position == begin or position >= stop or self._parts_left <= 0:
                block.set_payload(self._text(position, stop))
                keep_octets(message, self._data, start, stop)
                return end
            block.set_payload("")

    def _delimiter(self, start: int) -> _Delimiter:
        """Return the first delimiter from *start* on, or the end of all."""
        at = self._data.find(b"\n--", max(start - 1, 0)) if self._open else -1
        while at >= 0:
            self._budget.spend(in_c(at + 1 - start))
            if found := self._delimiter_at(at + 1):
                return found
            start = at + 1
            at = self._data.find(b"\n--", start)
        if self._open:
            self._budget.spend(in_c(len(self._data) + 1 - start))
        return _Delimiter(len(self._data) + 1, len(self._data), -1, True)

    def _delimiter_at(self, start: int) -> _Delimiter | None:
        """Return the delimiter that the line at *start* is; the outermost of two counts."""
        if not (self._open and self._data.startswith(b"--", start)):
            return None
        end = self._data.find(b"\n", start) + 1 or len(self._data)
        self._budget.spend(end - start)
        line = self._data[start:end].rstrip()
        found = [
            (self._open[name][-1], is_last)
            for name, is_last in ((line, False), (line[:-2], True))
            if name in self._open and line == name + b"--" * is_last
        ]
        return _Delimiter(start, end, *min(found)) if found else None
