"""Header values as EmailMessage offers them, whatever the octets and however many.

The classes are the standard library's, so ``message["To"].addresses`` and
``message["Date"].datetime`` work; what fills them in is ours, never raises, and takes time
in proportion to the length (the standard library's parser is quadratic in encoded words).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from email.headerregistry import (
    Address,
    BaseHeader,
    ContentDispositionHeader,
    ContentTransferEncodingHeader,
    ContentTypeHeader,
    DateHeader,
    Group,
    HeaderRegistry,
    MIMEVersionHeader,
    ParameterizedMIMEHeader,
    SingleAddressHeader,
    UnstructuredHeader,
)
from email.policy import EmailPolicy
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from . import charsets
from .addresses import groups_in
from .transfer import from_base64, from_quoted_printable

PARSER_FAULTS = (
    AttributeError,
    DeprecationWarning,
    IndexError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What the parsers of Python 3.10 to 3.13 raise on input that they did not foresee."""

# The headers of the block on top, which are no text to decode: an address may look like
# an encoded word.
_AS_THEY_ARE = ("return-path", "x-peer", "x-mailfrom", "x-rcptto", "x-envelope")
_ADDRESSES = (
    *("from", "sender", "reply-to", "to", "cc", "bcc"),
    *("resent-from", "resent-sender", "resent-to", "resent-cc", "resent-bcc"),
)
_LONGEST_DATE = 200
_SPECIAL = frozenset('()<>@,:;".[]\\')


def text_of(name: str, raw: str) -> str:
    """Return the text of one header, on one line, for a person to read."""
    if raw.isascii() and "=?" not in raw:  # nearly all
        return as_text(raw).strip()
    name = name.lower()
    if name in _AS_THEY_ARE:
        return as_text(raw).strip()
    if name in _ADDRESSES:
        return decoded(raw, _as_phrase).strip()
    return decoded(raw).strip()


def _as_phrase(text: str, before: str) -> str:
    """Return an encoded word of an address header so that it stays one: quoted if need be."""
    text = re.sub(r'(["\\])', r"\\\1", text)
    return text if before.endswith('"') or _SPECIAL.isdisjoint(text) else f'"{text}"'


class _Header:
    """What all the classes below share: the text, how they are copied and written again."""

    name: str

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        kwds["decoded"] = value
        kwds["parse_tree"] = None

    def fold(self, *, policy: Any) -> str:
        folded: str = _STANDARD(self.name, str(self)).fold(policy=policy)
        return folded

    def __reduce__(self) -> Any:
        return header, (self.name, str(self))


class _Text(_Header, UnstructuredHeader, BaseHeader):
    pass


class _Addresses(_Header, SingleAddressHeader, BaseHeader):
    def init(self, *args: Any, **kwds: Any) -> None:
        BaseHeader.init(self, *args, **kwds)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return tuple(groups_in(str(self)))

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(address for group in self.groups for address in group.addresses)


class _Parameters(_Header):
    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        super().parse(value, kwds)
        kwds["value"], kwds["params"] = parse_field(value)


class _ContentType(_Parameters, ContentTypeHeader, BaseHeader):  # type: ignore[misc]
    def init(self, *args: Any, **kwds: Any) -> None:
        value: str = kwds.pop("value")
        ParameterizedMIMEHeader.init(self, *args, **kwds)
        main, _, sub = value.partition("/")
        self._maintype, self._subtype = (main, sub) if main and sub else ("text", "plain")


class _Disposition(_Parameters, ContentDispositionHeader, BaseHeader):  # type: ignore[misc]
    def init(self, *args: Any, **kwds: Any) -> None:
        self._content_disposition = kwds.pop("value") or None
        ParameterizedMIMEHeader.init(self, *args, **kwds)


class _TransferEncoding(_Header, ContentTransferEncodingHeader, BaseHeader):  # type: ignore[misc]
    def init(self, *args: Any, **kwds: Any) -> None:
        BaseHeader.init(self, *args, **kwds)
        self._cte = parse_field(str(self)).value or "7bit"


class _Short(_Header):
    """A date or a version: nobody's is long, and what can't be parsed is text."""

    standard: Any

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        if len(value) <= _LONGEST_DATE:
            with contextlib.suppress(*PARSER_FAULTS):
                cls.standard.parse(value, kwds)
                return
        cls.standard.parse("", kwds)
        kwds["decoded"] = value


class _Date(_Short, DateHeader, BaseHeader):  # type: ignore[misc]
    standard = DateHeader


class _Version(_Short, MIMEVersionHeader, BaseHeader):  # type: ignore[misc]
    standard = MIMEVersionHeader


_STANDARD = HeaderRegistry()
_CLASSES: dict[str, type[BaseHeader]] = {
    **dict.fromkeys(_ADDRESSES, _Addresses),
    **dict.fromkeys(("date", "resent-date", "orig-date"), _Date),
    "mime-version": _Version,
    "content-type": _ContentType,
    "content-disposition": _Disposition,
    "content-transfer-encoding": _TransferEncoding,
}


def header(name: str, text: str) -> Any:
    """Return one header's value, from its text."""
    return _CLASSES.get(name.lower(), _Text)(name, text)


class Policy(EmailPolicy):
    """The policy ``default``, for messages that nobody vouches for."""

    # What is written again is what was read: no parser looks at it, no line is folded anew.
    verify_generated_headers = False

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return the header's value; never raises."""
        return value if hasattr(value, "name") else header(name, text_of(name, value))

    def fold(self, name: str, value: str) -> str:
        """Return the header as text, in the lines in which it came."""
        if hasattr(value, "name"):  # a header that the user set
            return str(super().fold(name, value))
        raw = value.encode("utf-8", "surrogateescape")
        return f"{name}: {charsets.decode(raw)}".replace("\n", self.linesep) + self.linesep

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return the header's octets, in the lines in which they came."""
        if hasattr(value, "name"):
            return super().fold_binary(name, value)
        folded = f"{name}: {value}".replace("\n", self.linesep) + self.linesep
        return folded.encode("utf-8", "surrogateescape")

    def __reduce__(self) -> Any:
        return Policy, ()


POLICY = Policy()


# Encoded words (RFC 2047): =?utf-8?q?caf=C3=A9?=

Shown = Callable[[str, str], str]
_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bq])\?([^?]*)\?=", re.IGNORECASE)
# A folded line ends before a blank that stays (RFC 5322 section 2.2.3); any other end of
# a line, which an encoded word can bring, becomes one.
_LINE_ENDS = re.compile(r"[\r\n]+([ \t])?")


def decoded(value: str, shown: Shown = lambda text, before: text) -> str:
    """Return a header's text as a person reads it: one line, without surrogates.

    *shown* is given the text of each word, and what stands before it, and returns what is
    put in its place.
    """
    if "=?" not in value:
        return as_text(value)
    # Octets within a word are in its charset, and all others are text by themselves.
    return _one_line("".join(_with_words(_one_line(value), shown)))


def as_text(value: str) -> str:
    """Return a header's octets, which surrogates stand for so far, as one line of text."""
    if not value.isascii():
        value = charsets.decode(value.encode("utf-8", "surrogateescape"))
    return _one_line(value)


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value:
        return _LINE_ENDS.sub(lambda end: end[1] or " ", value)
    return value


def _with_words(value: str, shown: Shown) -> Iterator[str]:
    end = 0
    gap = ""
    charset, octets = "", bytearray()
    for word in _WORD.finditer(value):
        between = value[end : word.start()]
        is_next = end > 0 and not between.strip()
        label = word[1].partition("*")[0].lower()  # RFC 2231 puts a language behind it
        if octets and (label != charset or not is_next):
            yield shown(charsets.decode(bytes(octets), charset), gap)
            octets.clear()
        if not is_next:
            gap = as_text(between)
            yield gap
        charset, end = label, word.end()
        octets += _octets(word)
    if octets:
        yield shown(charsets.decode(bytes(octets), charset), gap)
    yield as_text(value[end:])


def _octets(word: re.Match[str]) -> bytes:
    encoded = word[3].encode("utf-8", "surrogateescape")
    if word[2] in "bB":
        return from_base64(encoded)
    return from_quoted_printable(encoded.replace(b"_", b" "))


# Headers with parameters: Content-Type and Content-Disposition (RFC 2045, 2183, 2231)

_VALUE = re.compile(r"[\s\"]*(?:\([^()]*\)[\s\"]*)*([^\s;,(\"]*)")
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


def parse_field(header: str) -> Field:
    """Return what *header* says, in time that grows with its length; never raises."""
    text = _one_line(header)
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
            plain.setdefault(name, decoded(value) if name in _FILE_NAMES else as_text(value))
    plain.update((name, _joined(name, parts)) for name, parts in sections.items())
    return Field(as_text(match[1]).lower(), plain)


def _parameters(text: str, position: int) -> Iterator[tuple[str, str]]:
    while (position := _behind(_BETWEEN, text, position)) < len(text):
        if text[position] == "(":
            end = _behind(_COMMENT, text, position)
            if text.startswith(")", end):
                position = end + 1
                continue
        end = _behind(_NAME, text, position)
        name, position = as_text(text[position:end].lower()), _behind(_BLANKS, text, end)
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


def _joined(name: str, sections: dict[int, tuple[bool, str]]) -> str:
    """Return the value that RFC 2231 cuts into *sections*, or names a charset for."""
    charset, octets = "", bytearray()
    for number, (is_encoded, value) in sorted(sections.items()):
        if is_encoded and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        raw = value.encode("utf-8", "surrogateescape")
        octets += unquote_to_bytes(raw) if is_encoded else raw
    if name in _FILE_NAMES and b"=?" in octets:  # some put encoded words into sections
        return decoded(octets.decode("ascii", "surrogateescape"))
    return charsets.decode(bytes(octets), charset)
