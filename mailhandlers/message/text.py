"""Plain text as a person sees it: its links, its codes, its paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A Chinese or Japanese sentence goes on behind a link without a space.
_NO_URL = r"\s<>\"\u2018-\u201f\u2026\u3000-\u3020\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
# What follows a scheme: looked for first, since text is full of what could begin one.
_REST = re.compile(rf"://(?:[^{_NO_URL}\]]+|\](?!\())+")
_SCHEME = re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,31}\Z", re.IGNORECASE)
# RFC 3986 appendix C: a link in angle brackets may be broken over lines.
_IN_ANGLES = re.compile(r"<([^<>]*)>")
_LINK = re.compile(r"[a-z][a-z0-9+.-]*://\S", re.IGNORECASE)
# It begins with the digit, and what may stand before it follows: of 2 kB of text, Python's
# search for a digit takes 9 us, and one that looks behind itself everywhere 55.
_CODE = re.compile(
    r"\d(?:"
    r"(?<![\w.,:/-]\d)(?<![\d)][ \u00a0]\d)\d{2}[ \u00a0-]\d{3}(?![\w/-]|[ \u00a0.,:]\d)"
    r"|(?<!\w\d)\d{3,7}\b"
    r")",
    re.ASCII,
)
_LONGEST_SCHEME = 33  # with the character before it
_INDENT = 40  # how far a link that has its line for itself may be indented


def codes_in(text: str) -> list[str]:
    """Return the groups of 4 to 8 digits outside of links, each once.

    ``123 456`` and ``123-456`` are how a code of six digits is shown: it is ``123456``.
    """
    pieces, end = [], 0
    text = _whole(text)
    for start, url in _urls(text):
        pieces.append(text[end:start])
        end = start + len(url)
    found = _CODE.findall(" ".join([*pieces, text[end:]]))
    return list(dict.fromkeys(re.sub(r"\D", "", code) for code in found))


def links_in(text: str) -> Iterator[str]:
    """Yield the links that stand in plain text."""
    yield from (url for _, url in urls_in(_whole(text)))


def _whole(text: str) -> str:
    """Return *text* with its broken links in one piece."""
    if "<" not in text:
        return text
    return _IN_ANGLES.sub(_mended, text)


def _mended(angles: re.Match[str]) -> str:
    if "\n" not in angles[1] or not _LINK.match(angles[1]):
        return angles[0]
    inner = angles[1][:-1] if angles[1][-1].isspace() else angles[1]
    lines = [line.strip(" \t") for line in inner.split("\n")]
    is_link = all(line.split() == [line] for line in lines)
    return f"<{''.join(lines)}>" if is_link else angles[0]


def urls_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield each link that stands in *text* in one piece, and where."""
    for start, url in _urls(text):
        before = text[max(start - _INDENT, 0) : start]
        starts_line = not before.rpartition("\n")[2].strip()
        end = start + len(url)
        is_alone = starts_line and text[end : end + 1] in ("", "\n")
        yield start, _trimmed(url, before[-1:], is_alone)


def _urls(text: str) -> Iterator[tuple[int, str]]:
    for rest in _REST.finditer(text):
        scheme = _SCHEME.search(text[max(rest.start() - _LONGEST_SCHEME, 0) : rest.start()])
        if scheme:
            yield rest.start() - len(scheme[0]), scheme[0] + rest[0]


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
