"""HTML as a person sees it: its tags and text, the links in it, and the text that it shows.

It is cut as https://html.spec.whatwg.org/#tokenization has it.
Not html.parser: that is quadratic in ``<!-- <a`` (3.5 s for 39 kB) until Python 3.13.4,
and reads some pages otherwise from version to version. Here each construct ends at its
mark or at the end of the page, so the time grows with the length, whatever stands there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.entities import html5
from typing import NamedTuple

from .codes import Marked
from .text import is_link, links_in, seen

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_ATTRIBUTE = re.compile(
    r"[\s/]*([^\s/>][^\s/>=]*)(?:\s*=\s*(?:\"([^\"]*)(\"|\Z)|'([^']*)('|\Z)|([^\s>]*)))?"
)
_TAG_END = re.compile(r"[\s/]*>")
_RAW = ("script", "style", "xmp", "iframe", "noembed", "noframes", "plaintext")
_RCDATA = ("title", "textarea")
_REFERENCE = re.compile(r"&(?:#(?:[xX][\da-fA-F]+|\d+);?|[a-zA-Z][a-zA-Z\d]*;?)")
_LONGEST_NUMBER = 10  # &#x10FFFF;
_LONGEST_NAME = 33  # html.unescape looks at no more

_SPACE = re.compile(r"\s+")
_NO_LINK = re.compile(r"[\t\r\n]")
# Tags at whose edges a reader sees no gap.
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small "
        "span strike strong sub sup time tt u var wbr",
    )
)
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)
_STRONG = frozenset(
    ["b", "strong", "big", "code", "kbd", "mark", "tt", "h1", "h2", "h3", "h4", "h5", "h6"]
)
_STRONG_STYLE = re.compile(
    r"letter-spacing|font-weight\s{0,9}:\s{0,9}(?:bold|[6-9]00)|font-size\s{0,9}:\s{0,9}x*-large",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"font-size\s{0,9}:\s{0,9}([0-9]{1,4}(?:\.[0-9]{1,9})?)\s{0,9}(px|pt|r?em|%)", re.IGNORECASE
)
_LARGE = {"px": 20, "pt": 15, "em": 1.3, "rem": 1.3, "%": 130}


class Text(NamedTuple):
    """Text between tags."""

    text: str


class Start(NamedTuple):
    """A start tag, its name and attribute names in lower case, the first of a name counting."""

    tag: str
    attributes: dict[str, str]


class End(NamedTuple):
    """An end tag."""

    tag: str


class Raw(NamedTuple):
    """What stands between the tags of a script, a style sheet or a title: no tags."""

    tag: str
    text: str


def tokens(page: str) -> Iterator[Text | Start | End | Raw]:
    """Yield the tokens of *page* in order. Comments are left out. Never raises."""
    position, length = 0, len(page)
    while position < length:
        mark = page.find("<", position)
        if mark < 0:
            mark = length
        if mark > position:
            yield Text(unescaped(page[position:mark]))
        if mark == length:
            return
        tag = _TAG.match(page, mark)
        if tag is None:
            position = _behind_comment(page, mark)
            if position < 0:  # a "<" that begins nothing
                yield Text("<")
                position = mark + 1
            continue
        name = tag[2].lower()
        attributes, position = _attributes(page, tag.end())
        if position < 0:  # a tag that never ends is nothing
            return
        if tag[1]:
            yield End(name)
            continue
        yield Start(name, attributes)
        if name in _RAW or name in _RCDATA:
            end = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(page, position)
            stop = end.start() if end and name != "plaintext" else length
            text = page[position:stop]
            yield Raw(name, unescaped(text) if name in _RCDATA else text)
            position = stop


def _behind_comment(page: str, mark: int) -> int:
    if page.startswith("<!--", mark):
        if page.startswith((">", "->"), mark + 4):
            return page.index(">", mark) + 1
        end = re.compile("--!?>").search(page, mark + 4)
        return end.end() if end else len(page)
    if page[mark + 1 : mark + 2] in ("!", "?", "/"):
        return page.find(">", mark) + 1 or len(page)
    return -1


def _attributes(page: str, position: int) -> tuple[dict[str, str], int]:
    """Return the attributes of a tag, and where it ends, or -1 where it doesn't."""
    found: dict[str, str] = {}
    while not (end := _TAG_END.match(page, position)):
        match = _ATTRIBUTE.match(page, position)
        if (
            match is None or match[3] == "" or match[5] == ""
        ):  # the quote that begins a value never ends
            return found, -1
        value = match[2] or match[4] or match[6] or ""
        found.setdefault(match[1].lower(), unescaped(value, in_attribute=True))
        position = match.end()
    return found, end.end()


def unescaped(text: str, in_attribute: bool = False) -> str:
    """Return *text* with its character references replaced.

    In an attribute ``&copy=2`` isn't one: links are full of such names.
    """
    if "&" not in text:
        return text

    def character(match: re.Match[str]) -> str:
        reference = match[0]
        if reference.startswith("&#"):
            return html.unescape(reference) if len(reference) <= _LONGEST_NUMBER else "\ufffd"
        if in_attribute and not reference.endswith(";"):
            is_name = reference[1:] in html5 and text[match.end() : match.end() + 1] != "="
            return html5[reference[1:]] if is_name else reference
        if in_attribute:
            return html5.get(reference[1:], reference)
        return html.unescape(reference[:_LONGEST_NAME]) + reference[_LONGEST_NAME:]

    return _REFERENCE.sub(character, text)


class Page:
    """What a page shows: its text, line by line, its links, and what marks a code in it."""

    def __init__(self, source: str) -> None:
        self.links: list[str] = []
        self._shown: list[str] = []
        self._length = 0
        self._from = 0  # where the text begins that no link was looked for in yet
        self._blanks = 2  # how many ends of lines stand last
        self._edges: list[int] = []
        self._strong: list[tuple[int, int]] = []
        self._muted: list[tuple[int, int]] = []
        self._read(source)
        self._take_links()

    @property
    def text(self) -> str:
        """The text that the page shows, with a blank for all that stands between two words."""
        return "".join(self._shown).strip()

    @property
    def marked(self) -> Marked:
        """The text, and where it is marked."""
        return Marked("".join(self._shown), self._edges, self._strong, self._muted)

    def _read(self, source: str) -> None:
        emphases: dict[str, list[bool]] = {}
        strong, strong_from, muted_from, preformatted = 0, 0, -1, 0
        for token in tokens(source):
            if isinstance(token, Text):
                self._add(token.text, preformatted > 0)
                continue
            if isinstance(token, Raw):
                continue
            tag, is_start = token.tag, isinstance(token, Start)
            if tag not in _INLINE:
                self._end_line()
            if tag == "pre":
                preformatted = max(preformatted + (1 if is_start else -1), 0)
            if not self._edges or self._edges[-1] != self._length:
                self._edges.append(self._length)
            if tag in ("a", "area"):
                self._take_links()  # a link in the text ends where another link begins
                if muted_from >= 0:
                    self._muted.append((muted_from, self._length))
                    muted_from = -1
            if isinstance(token, Start):
                if tag not in ("link", "base") and (href := token.attributes.get("href")):
                    link = _NO_LINK.sub("", href).strip()
                    if is_link(link):
                        self._take_links()
                        self.links.append(link)
                    elif tag == "a" and link and not link.startswith("#"):
                        muted_from = self._length
                if tag not in _VOID:
                    is_strong = _is_strong(token)
                    emphases.setdefault(tag, []).append(is_strong)
                    strong_from = strong_from if strong else self._length
                    strong += is_strong
            elif emphases.get(tag) and emphases[tag].pop():
                strong -= 1
                if not strong:
                    self._strong.append((strong_from, self._length))
        self._edges.append(self._length)
        if strong:
            self._strong.append((strong_from, self._length))

    def _add(self, text: str, is_preformatted: bool) -> None:
        if is_preformatted and "\n" in text:
            first, *lines = text.split("\n")
            self._add(first, False)
            for line in lines:
                self._put("\n")
                self._add(line, False)
            return
        text = _SPACE.sub(" ", seen(text))
        if self._blanks or (self._shown and self._shown[-1].endswith(" ")):
            text = text.removeprefix(" ")
        if text:
            self._put(text)

    def _end_line(self) -> None:
        """End the line, and leave one empty line at most."""
        if self._shown and self._shown[-1].endswith(" "):
            self._shown[-1] = self._shown[-1][:-1]
            self._length -= 1
            self._blanks = 0
        if self._blanks < 2:
            self._put("\n")

    def _put(self, text: str) -> None:
        self._blanks = self._blanks + 1 if text == "\n" else 0
        self._shown.append(text)
        self._length += len(text)

    def _take_links(self) -> None:
        self.links += links_in("".join(self._shown[self._from :]))
        self._from = len(self._shown)


def _is_strong(token: Start) -> bool:
    """Tell whether a person sees that this element stands out."""
    if token.tag in _STRONG:
        return True
    style = token.attributes.get("style", "")
    if style and _STRONG_STYLE.search(style):
        return True
    size = _SIZE.search(style) if style else None
    return size is not None and float(size[1]) >= _LARGE[size[2].lower()]
