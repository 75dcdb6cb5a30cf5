"""HTML as a person sees it: the links in it and the text that it shows."""

from __future__ import annotations

import re

from .html_tokens import End, Start, Text, tokens
from .plain_text import links_in

_LINK = re.compile(r"(?!javascript:|data:|cid:)[a-z][a-z0-9+.-]*:\S", re.IGNORECASE)
_NO_LINK = re.compile(r"[\t\r\n]")
# Tags at whose edges a reader sees no gap.
_INLINE = frozenset(
    re.findall(
        r"\w+",
        "a abbr b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small "
        "span strike strong sub sup time tt u var wbr",
    )
)


class Page:
    """The links of a page and the text that it shows."""

    def __init__(self, source: str) -> None:
        self.links: list[str] = []
        self._shown: list[str] = []
        self._from = 0
        for token in tokens(source):
            if isinstance(token, Text):
                self._shown.append(token.text)
                continue
            if isinstance(token, (Start, End)) and token.tag not in _INLINE:
                self._shown.append("\n")
            if isinstance(token, (Start, End)) and token.tag in ("a", "area"):
                self._take_links()  # a link in the text ends where another link begins
            if isinstance(token, Start) and token.tag not in ("link", "base"):
                link = _NO_LINK.sub("", token.attributes.get("href", "")).strip()
                if _LINK.match(link):
                    self._take_links()
                    self.links.append(link)
        self._take_links()

    @property
    def text(self) -> str:
        """The text that the page shows."""
        return "".join(self._shown)

    def _take_links(self) -> None:
        self.links += links_in("".join(self._shown[self._from :]))
        self._from = len(self._shown)
