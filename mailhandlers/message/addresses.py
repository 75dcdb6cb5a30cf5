"""The addresses in a header (RFC 5322 section 3.4), in time that grows with its length.

The parser of the standard library takes 20 s for 64,000 dots, and gives up on what isn't
quite an address; this one finds the addresses in whatever is there.
"""

from __future__ import annotations

import encodings.punycode  # noqa: F401 - what reads mail may be nobody, who can't read files
import re
import unicodedata
from collections.abc import Iterator
from email.headerregistry import Address, Group
from itertools import chain
from typing import NamedTuple

_TOKEN = re.compile(
    r'(?P<quoted>"[^"\\]*(?:\\.[^"\\]*)*"?)|(?P<comment>\([^()]*\)?)|(?P<angle><[^<>]*>)'
    r'|(?P<mark>[,;:])|(?P<atom>(?:[^\s"(<,;:\[\]]+|\[[^\[\]\s]*\]?|\])+)|(?P<blank>\s+|<)',
    re.DOTALL,
)
_LONGEST_LABEL = 63
_PUNYCODE = re.compile(r"(?<![\w-])xn--([a-z0-9-]{1,59})(?![\w-])", re.IGNORECASE)
# What makes the part before the @ a quoted string.
_QUOTED = frozenset('()<>@,:;"[]\\ \t')


def groups_in(text: str) -> list[Group]:
    """Return the groups in *text*; an address outside of any is a group without a name."""
    return [
        Group(name, tuple(_address(*member) for member in members))
        for name, members in _groups(text)
    ]


def addresses_in(text: str) -> Iterator[str]:
    """Yield the bare addresses in *text*."""
    for _, members in _groups(text):
        yield from (_bare(spec) for _, spec in members)


def comparable(address: str) -> str:
    """Return what all spellings of *address* have in common: no capitals, no Punycode.

    A domain may be written in Unicode or with labels like ``xn--mnchen-3ya`` (RFC 5891).
    """
    if "xn--" not in address.casefold() and address.isascii():  # nearly all
        return address.casefold()
    decoded = _PUNYCODE.sub(_from_punycode, address)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", decoded).casefold())


def spellings(address: str) -> list[str]:
    """Return *address* as it is, and in other forms that are the same to :func:`comparable`.

    An accent is a part of its letter or stands behind it, as Linux and macOS have it; a domain
    is in Unicode or in Punycode.
    """
    found = []
    for form in (address, *(unicodedata.normalize(f, address) for f in ("NFC", "NFD"))):
        local, at, domain = form.rpartition("@")
        labels = _PUNYCODE.sub(_from_punycode, domain).split(".")
        domains = (domain, ".".join(labels), ".".join(map(_in_punycode, labels)))
        found += [f"{local}{at}{each}" for each in domains]
    return list(dict.fromkeys(found))


def _from_punycode(label: re.Match[str]) -> str:
    try:
        return label[1].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):  # such as xn--a
        return label[0]


def _in_punycode(label: str) -> str:
    if label.isascii() or len(label) > _LONGEST_LABEL:
        return label
    label = unicodedata.normalize("NFC", label.lower())
    return f"xn--{label.encode('punycode', 'replace').decode('ascii')}"


class _Named(NamedTuple):
    """A mailbox as it was written: its name or comment, and its address."""

    display_name: str
    spec: str


def _groups(text: str) -> Iterator[tuple[str | None, list[_Named]]]:
    name: str | None = None
    members: list[_Named] = []
    mailbox = _Mailbox()
    for match in chain(_TOKEN.finditer(text), [None]):
        kind, token = (match.lastgroup, match[0]) if match else ("mark", ";")
        if kind != "mark":
            mailbox.add(kind or "", token)
        elif token == ":":
            if name is None and mailbox.words and not mailbox.angle:
                name, mailbox = " ".join(map("".join, mailbox.words)), _Mailbox()
        else:
            if not mailbox.is_empty:
                members += mailbox.read()
                mailbox = _Mailbox()
            if name is None:
                for member in members:
                    yield None, [member]
                members.clear()
            elif token == ";":
                yield name, members
                name, members = None, []


class _Mailbox:
    """What was read since the last comma."""

    __slots__ = ("_comment", "_is_apart", "angle", "is_empty", "words")

    def __init__(self) -> None:
        self.words: list[list[str]] = []
        self.angle = ""
        self.is_empty = True
        self._comment = ""
        self._is_apart = True

    def add(self, kind: str, token: str) -> None:
        if kind == "atom":
            self._word(token)
        elif kind == "quoted":
            self._word(_unescaped(token[1:].removesuffix('"')))
        elif kind == "angle":
            self.angle = self.angle or token
        elif kind == "comment":
            self._comment = self._comment or token.strip("()").strip()
        self._is_apart = kind in ("blank", "comment")
        self.is_empty = False

    def _word(self, word: str) -> None:
        if self._is_apart or not self.words:
            self.words.append([word])
        else:  # "eva m"@example.com is one word
            self.words[-1].append(word)

    def read(self) -> list[_Named]:
        words = ["".join(word) for word in self.words]
        if self.angle:
            spec = self.angle.strip("<> ")
            if spec.startswith("@"):  # a route, which nobody has used since RFC 1123
                spec = spec.rpartition(":")[2]
            return [_Named(" ".join(words) or self._comment, spec)]
        specs = words if len(words) == 1 else [word for word in words if "@" in word]
        return [_Named(self._comment, spec) for spec in specs]


def _unescaped(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if "\\" in quoted else quoted


def _bare(spec: str) -> str:
    """Return the address *spec* as it is written without a name."""
    local, at, domain = spec.rpartition("@")
    if not at:
        local, domain = spec, ""
    if not _QUOTED.isdisjoint(local):
        return _address("", spec).addr_spec
    return f"{local}@{domain}" if domain else local or "<>"


def _address(display_name: str, spec: str) -> Address:
    local, at, domain = spec.rpartition("@")
    if not at:
        local, domain = spec, ""
    if local[:1] == '"' and local[-1:] == '"' and len(local) > 1:
        local = _unescaped(local[1:-1])
    return Address(display_name, local, domain)
