"""Headers with parameters: Content-Type and Content-Disposition (RFC 2045, 2183, 2231).

Read as senders write them: values with blanks and without quotes, a comma or nothing at
all where a semicolon belongs, encoded words for a file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from . import charsets
from .encoded_words import as_text, decoded

_VALUE = re.compile(r"\s*([^\s;,(]*)")
# A quote or an equals sign that belongs to nothing stands between two parameters, too.
_BETWEEN = re.compile(r'[\s;,="]*')
_BLANKS = re.compile(r"\s*")
_COMMENT = re.compile(r"\([^()]*")
_NAME = re.compile(r'[^\s=;,"]+')
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"?')
# Where a value without quotes may end.
_STOP = re.compile(r";|[ \t,]+([\w*-]*)")
_SECTION = re.compile(r"([^*]+)\*(?:(\d{1,4})(\*?))?")
_FILE_NAMES = ("filename", "name")


class Field(NamedTuple):
    """The value of such a header in lower case, and its parameters."""

    value: str
    parameters: dict[str, str]


def parse(header: str) -> Field:
    """Return what *header* says, in time that grows with its length; never raises."""
    text = as_text(header)
    match = _VALUE.match(text)
    assert match is not None  # it may match nothing, but it matches
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[bool, str]]] = {}
    for name, value in _parameters(text, match.end()):
        section = _SECTION.fullmatch(name)
        if section:
            is_encoded = section[2] is None or bool(section[3])
            number = int(section[2] or 0)
            sections.setdefault(section[1], {}).setdefault(number, (is_encoded, value))
        else:
            plain.setdefault(name, decoded(value) if name in _FILE_NAMES else value)
    plain.update((name, _joined(parts)) for name, parts in sections.items())
    return Field(match[1].lower(), plain)


def _parameters(text: str, position: int) -> Iterator[tuple[str, str]]:
    while (position := _behind(_BETWEEN, text, position)) < len(text):
        if text[position] == "(":
            end = _behind(_COMMENT, text, position)
            if text.startswith(")", end):
                position = end + 1
                continue
        end = _behind(_NAME, text, position)
        name, position = text[position:end].lower(), _behind(_BLANKS, text, end)
        if not text.startswith("=", position):
            continue
        position = _behind(_BLANKS, text, position + 1)
        quoted = _QUOTED.match(text, position)
        if quoted:
            yield name, re.sub(r'\\(["\\])', r"\1", quoted[1])
            position = quoted.end()
            continue
        end = _end_of_value(text, position)
        value = text[position:end].strip()
        # A comment may follow, but a file may be called "report (2).pdf".
        yield name, value if name in _FILE_NAMES else value.partition(" (")[0]
        position = end


def _behind(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return where what stands at *position* ends; it may be nothing."""
    match = pattern.match(text, position)
    return match.end() if match else position


def _end_of_value(text: str, position: int) -> int:
    """Return where a value without quotes ends: a semicolon, or another parameter's begin."""
    for stop in _STOP.finditer(text, position):
        if stop[1] is None:
            return stop.start()
        if stop[1] and text.startswith("=", _behind(_BLANKS, text, stop.end())):
            return stop.start()
    return len(text)


def _joined(sections: dict[int, tuple[bool, str]]) -> str:
    """Return the value that RFC 2231 cuts into *sections*, or names a charset for."""
    charset, octets = "", bytearray()
    for number, (is_encoded, value) in sorted(sections.items()):
        if is_encoded and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        raw = value.encode("utf-8", "replace")
        octets += unquote_to_bytes(raw) if is_encoded else raw
    return charsets.decode(bytes(octets), charset)
