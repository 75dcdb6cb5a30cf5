"""The addresses in a header (RFC 5322 section 3.4), in time that grows with its length.

The parser of the standard library takes 20 s for 64,000 dots, and gives up on what isn't
quite an address; this one finds the addresses in whatever is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.headerregistry import Address, Group

_TOKEN = re.compile(
    r'(?P<quoted>"[^"\\]*(?:\\.[^"\\]*)*"?)|(?P<comment>\([^()]*\)?)|(?P<angle><[^<>]*>)'
    r'|(?P<mark>[,;:])|(?P<atom>(?:[^\s"(<,;:\[\]]+|\[[^\[\]\s]*\]?|\])+)|(?P<blank>\s+|<)',
    re.DOTALL,
)


def groups_in(text: str) -> list[Group]:
    """Return the groups in *text*; an address outside of any is a group without a name."""
    groups: list[Group] = []
    name: str | None = None
    members: list[Address] = []
    mailbox = _Mailbox()
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind != "mark":
            mailbox.add(kind or "", token)
        elif token == ":" and name is None and mailbox.words and not mailbox.angle:
            name, mailbox = " ".join(mailbox.words), _Mailbox()
        elif token != ":":
            found = list(mailbox.addresses())
            mailbox = _Mailbox()
            if name is None:
                groups += [Group(None, (address,)) for address in found]
                continue
            members += found
            if token == ";":
                groups.append(Group(name, tuple(members)))
                name, members = None, []
    found = list(mailbox.addresses())
    if name is not None:
        groups.append(Group(name, (*members, *found)))
    else:
        groups += [Group(None, (address,)) for address in found]
    return groups


def addresses_in(text: str) -> Iterator[str]:
    """Yield the bare addresses in *text*."""
    for group in groups_in(text):
        yield from (address.addr_spec for address in group.addresses)


class _Mailbox:
    """What was read since the last comma."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.angle = ""
        self._comment = ""
        self._is_apart = True

    def add(self, kind: str, token: str) -> None:
        if kind == "angle":
            self.angle = self.angle or token
        elif kind == "comment":
            self._comment = self._comment or token.strip("()").strip()
        elif kind == "quoted":
            self._word(re.sub(r"\\(.)", r"\1", token[1:].removesuffix('"'), flags=re.DOTALL))
        elif kind == "atom":
            self._word(token)
        self._is_apart = kind in ("blank", "comment")

    def _word(self, word: str) -> None:
        if self._is_apart or not self.words:
            self.words.append(word)
        else:  # "eva m"@example.com is one word
            self.words[-1] += word

    def addresses(self) -> Iterator[Address]:
        words = self.words
        if self.angle:
            spec = self.angle.strip("<> ")
            if spec.startswith("@"):  # a route, which nobody has used since RFC 1123
                spec = spec.rpartition(":")[2]
            yield _address(" ".join(words) or self._comment, spec)
        elif any("@" in word for word in words):
            yield from (_address(self._comment, word) for word in words if "@" in word)
        elif len(words) == 1:
            yield _address(self._comment, words[0])


def _address(display_name: str, spec: str) -> Address:
    local, at, domain = spec.rpartition("@")
    if not at:
        local, domain = spec, ""
    if local[:1] == '"' and local[-1:] == '"' and len(local) > 1:
        local = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    return Address(display_name, local, domain)
