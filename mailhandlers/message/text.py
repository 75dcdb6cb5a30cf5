"""Plain text as a person sees it: its links, its paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# A Chinese or Japanese sentence goes on behind a link without a space.
_NO_URL = r"\s<>\"\u2018-\u201f\u2026\u3000-\u3020\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
# What follows a scheme: looked for first, since text is full of what could begin one.
_REST = re.compile(rf"://(?:[^{_NO_URL}\]]+|\](?!\())+")
_SCHEME = re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,31}\Z", re.IGNORECASE)
# RFC 3986 appendix C: a link in angle brackets may be broken over lines.
_IN_ANGLES = re.compile(r"<([a-z][a-z0-9+.-]{0,31}://[^<>\"]*)>", re.IGNORECASE)
_LINK = re.compile(
    r"(?!(?:javascript|vbscript|data|cid|mid|blob|about|mailto|tel|callto|fax|sms|mms):)"
    r"[a-z][a-z0-9+.-]*:\S",
    re.IGNORECASE,
)
# Soft hyphens, joiners of graphemes and words, blanks without width, a byte order mark.
_UNSEEN = re.compile("[\u00ad\u034f\u180e\u200b\u2060\ufeff]+")
_BLANK = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_LONGEST_SCHEME = 33  # with the character before it
_INDENT = 40  # how far a link that has its line for itself may be indented


class Url(NamedTuple):
    """A link that stands in a text, from *start* to *end*."""

    start: int
    end: int
    url: str


def seen(text: str) -> str:
    """Return *text* without what nobody sees, and with a space for each kind of blank."""
    return text if text.isascii() else _BLANK.sub(" ", _UNSEEN.sub("", text))


def links_in(text: str) -> Iterator[str]:
    """Yield the links to follow that stand in plain text."""
    return (url for _, _, url in urls_in(text) if is_link(url))


def is_link(url: str) -> bool:
    """Tell whether *url* leads somewhere: to the web, or into the sender's own program."""
    return _LINK.match(url) is not None


def urls_in(text: str) -> Iterator[Url]:
    """Yield each URL that stands in *text*, and where."""
    end = 0
    for angles in _IN_ANGLES.finditer(text):
        if url := _whole(angles[1]):
            yield from _bare_urls(text, end, angles.start())
            yield Url(angles.start(1), angles.end(1), url)
            end = angles.end()
    yield from _bare_urls(text, end, len(text))


def _whole(inner: str) -> str:
    """Return the URL that stands in angle brackets; empty where it isn't one alone.

    It may be broken over lines, or hold blanks, but hardly both.
    """
    lines = [line.strip() for line in inner.strip().split("\n")]
    if len(lines) > 1 and not all(line.split() == [line] for line in lines):
        return ""
    url = "".join(lines)
    return "" if url.endswith("://") else url


def _bare_urls(text: str, begin: int, stop: int) -> Iterator[Url]:
    for rest in _REST.finditer(text, begin, stop):
        before = text[max(rest.start() - _LONGEST_SCHEME, begin) : rest.start()]
        if scheme := _SCHEME.search(before):
            start, end = rest.start() - len(scheme[0]), rest.end()
            line = text[max(start - _INDENT, 0) : start].rpartition("\n")[2]
            is_alone = not line.strip() and text[end : end + 1] in ("", "\n")
            url = _trimmed(text[start:end], line[-1:], is_alone)
            yield Url(start, start + len(url), url)


def _trimmed(url: str, before: str, is_alone: bool) -> str:
    """Return *url* without the punctuation of the sentence around it.

    A token may end in ``_ ~ * !``: they are taken off where they close what stands
    *before* the link, and ``!`` unless the link has its line for itself.
    """
    marks = ".,;:?'|" + ("" if is_alone else "!") + (before if before in "*_~!" else "")
    if url[-1] not in marks and url[-1] not in ")]}":  # nearly all
        return url
    extra = {close: url.count(close) - url.count(open_) for open_, close in ("()", "[]", "{}")}
    end = len(url)
    while url[end - 1] in marks or extra.get(url[end - 1], 0) > 0:
        end -= 1
        if url[end] in extra:
            extra[url[end]] -= 1
    return url[:end]


def unflowed(text: str, delete_space: bool) -> str:
    """Return ``format=flowed`` text (RFC 3676) with each paragraph in one line."""
    lines: list[list[str]] = []
    open_depth = -1  # how deep the paragraph is quoted that the next line may go on with
    for line in text.split("\n"):
        unquoted = line.lstrip(">")
        depth = len(line) - len(unquoted)
        content = unquoted.removeprefix(" ")
        flows = content.endswith(" ") and content != "-- "
        if flows and delete_space:
            content = content[:-1]
        if depth == open_depth and content != "-- ":
            lines[-1].append(content)
        else:
            lines.append([f"{'>' * depth} " if depth else "", content])
        open_depth = depth if flows else -1
    return "\n".join(map("".join, lines))
