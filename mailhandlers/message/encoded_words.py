"""Encoded words (RFC 2047): ``=?utf-8?q?caf=C3=A9?=``.

Decoded in time that grows with the text, wherever senders put them: adjacent words of one
charset are one text, since some cut a character in two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from . import charsets
from .transfer import from_base64, from_quoted_printable

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
    value = as_text(value)
    return _one_line("".join(_with_words(value, shown))) if "=?" in value else value


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
            gap = between
            yield gap
        charset, end = label, word.end()
        octets += _octets(word)
    if octets:
        yield shown(charsets.decode(bytes(octets), charset), gap)
    yield value[end:]


def _octets(word: re.Match[str]) -> bytes:
    encoded = word[3].encode("utf-8", "surrogateescape")
    if word[2] in "bB":
        return from_base64(encoded)
    return from_quoted_printable(encoded.replace(b"_", b" "))
