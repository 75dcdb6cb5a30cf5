"""What a person sees of a message's text: the links, the codes, the words of a page."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

# A Chinese or Japanese sentence goes on behind a link without a space.
_NO_URL = r"\s<>\"\u2018-\u201f\u2026\u3000-\u3020\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
_URL = re.compile(
    rf"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://(?:(?!\]\()[^{_NO_URL}])+", re.IGNORECASE
)
_LINK = re.compile(r"(?!javascript:|data:|cid:)[a-z][a-z0-9+.-]*:\S", re.IGNORECASE)
_CODE = re.compile(r"\b\d{4,8}\b", re.ASCII)
_TAG = re.compile(r"<[^<>]*>")
_HIDDEN = ("script", "style", "title")
# Tags at whose edges a reader sees no gap.
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small "
        "span strike strong sub sup time tt u var wbr",
    )
)


def codes_in(text: str) -> list[str]:
    """Return the groups of 4 to 8 digits outside of links, each once."""
    return list(dict.fromkeys(_CODE.findall(_URL.sub(" ", text))))


def links_in(text: str) -> list[str]:
    """Return the links that stand in plain text."""
    return [_trimmed(match[0]) for match in _URL.finditer(text)]


def _trimmed(url: str) -> str:
    """Return *url* without the punctuation of the sentence around it."""
    extra = {close: url.count(close) - url.count(open_) for open_, close in ("()", "[]", "{}")}
    end = len(url)
    while url[end - 1] in ".,;:!?'*_~|" or extra.get(url[end - 1], 0) > 0:
        end -= 1
        if url[end] in extra:
            extra[url[end]] -= 1
    return url[:end]


class Page(HTMLParser):
    """The links of a page and the text that it shows."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self._shown: list[str] = []
        self._hidden = 0
        try:
            self.feed(source)
            self.close()
        except AssertionError:  # a marked section that html.parser did not foresee
            self._add(html.unescape(_TAG.sub(" ", self.rawdata)))

    @property
    def text(self) -> str:
        """The text that the page shows."""
        return "".join(self._shown)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the link."""
        self._edge(tag)
        self._hidden += tag in _HIDDEN
        for name, value in attrs:
            if name == "href" and tag not in ("link", "base"):
                link = re.sub(r"[\t\r\n]", "", value or "").strip()
                if _LINK.match(link):
                    self.links.append(link)

    def handle_endtag(self, tag: str) -> None:
        """Note the gap, and the end of what is not shown."""
        self._edge(tag)
        self._hidden -= tag in _HIDDEN and self._hidden > 0

    def handle_data(self, data: str) -> None:
        """Note the text, and the links in it."""
        if not self._hidden:
            self._add(data)

    def _add(self, shown: str) -> None:
        self._shown.append(shown)
        self.links += links_in(shown)

    def _edge(self, tag: str) -> None:
        if tag not in _INLINE:
            self._shown.append("\n")
