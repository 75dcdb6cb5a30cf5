"""Header values as EmailMessage offers them, whatever the octets and however many.

The classes are the standard library's, so ``message["To"].addresses`` and
``message["Date"].datetime`` work; what fills them in is ours, never raises, and takes time
in proportion to the length (the standard library's parser is quadratic in encoded words).
"""

from __future__ import annotations

import contextlib
import re
from email import headerregistry
from email.headerregistry import Address, Group, HeaderRegistry, UnstructuredHeader
from email.policy import EmailPolicy
from functools import cached_property
from typing import Any

from . import charsets, encoded_words, parameters
from .addresses import groups_in

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
_ADDRESSES = frozenset(
    name
    for name, kind in HeaderRegistry().registry.items()
    if issubclass(kind, headerregistry.AddressHeader)
)
_LONGEST_DATE = 200
_SPECIAL = frozenset('()<>@,:;".[]\\')


def text_of(name: str, raw: str) -> str:
    """Return the text of one header, on one line, for a person to read."""
    if raw.isascii() and "=?" not in raw:  # nearly all
        return encoded_words.as_text(raw).strip()
    name = name.lower()
    if name in _AS_THEY_ARE:
        return encoded_words.as_text(raw).strip()
    if name in _ADDRESSES:
        return encoded_words.decoded(raw, _as_phrase).strip()
    return encoded_words.decoded(raw).strip()


def _as_phrase(text: str, before: str) -> str:
    """Return an encoded word of an address header so that it stays one: quoted if need be."""
    text = re.sub(r'(["\\])', r"\\\1", text)
    return text if before.endswith('"') or _SPECIAL.isdisjoint(text) else f'"{text}"'


class _Readable:
    """What all the classes below share: how they are copied and written again."""

    name: str

    def fold(self, *, policy: Any) -> str:
        folded: str = _STANDARD(self.name, str(self)).fold(policy=policy)
        return folded

    def __reduce__(self) -> Any:
        return header, (self.name, str(self))


class _Text(_Readable):
    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        kwds["decoded"] = value
        kwds["parse_tree"] = None


class _Addresses(_Text):
    def init(self, *args: Any, **kwds: Any) -> None:
        headerregistry.BaseHeader.init(self, *args, **kwds)  # type: ignore[arg-type]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return tuple(groups_in(str(self)))

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(address for group in self.groups for address in group.addresses)


class _Parameters(_Text):
    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        super().parse(value, kwds)
        kwds["value"], kwds["params"] = parameters.parse(value)


class _ContentType(_Parameters, headerregistry.ContentTypeHeader):
    def init(self, *args: Any, **kwds: Any) -> None:
        value: str = kwds.pop("value")
        headerregistry.ParameterizedMIMEHeader.init(self, *args, **kwds)
        main, _, sub = value.partition("/")
        self._maintype, self._subtype = (main, sub) if main and sub else ("text", "plain")


class _Disposition(_Parameters, headerregistry.ContentDispositionHeader):
    def init(self, *args: Any, **kwds: Any) -> None:
        self._content_disposition = kwds.pop("value") or None
        headerregistry.ParameterizedMIMEHeader.init(self, *args, **kwds)


class _TransferEncoding(_Text, headerregistry.ContentTransferEncodingHeader):
    def init(self, *args: Any, **kwds: Any) -> None:
        headerregistry.BaseHeader.init(self, *args, **kwds)  # type: ignore[arg-type]
        self._cte = parameters.parse(str(self)).value or "7bit"


class _Short(_Readable):
    """A date or a version: nobody's is long, and what can't be parsed is text."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        if len(value) <= _LONGEST_DATE:
            with contextlib.suppress(*PARSER_FAULTS):
                super().parse(value, kwds)  # type: ignore[misc]
                return
        super().parse("", kwds)  # type: ignore[misc]
        kwds["decoded"] = value


_STANDARD = HeaderRegistry()
_REGISTRY = HeaderRegistry(
    default_class=type("_Unstructured", (_Text, UnstructuredHeader), {}), use_default_map=False
)
for _name, _kind in _STANDARD.registry.items():
    if issubclass(_kind, headerregistry.ContentTypeHeader):
        _bases: tuple[type, ...] = (_ContentType,)
    elif issubclass(_kind, headerregistry.ContentDispositionHeader):
        _bases = (_Disposition,)
    elif issubclass(_kind, headerregistry.ContentTransferEncodingHeader):
        _bases = (_TransferEncoding,)
    elif issubclass(_kind, headerregistry.AddressHeader):
        _bases = (_Addresses, _kind)
    elif issubclass(_kind, (headerregistry.DateHeader, headerregistry.MIMEVersionHeader)):
        _bases = (_Short, _kind)
    else:
        _bases = (_Text, _kind)
    _REGISTRY.map_to_type(_name, type(f"_{_kind.__name__}", _bases, {}))
# The registry makes a class at each call: 17 s for a message of 200,000 headers.
_CLASSES = {name: _REGISTRY[name] for name in _REGISTRY.registry}
_OTHER = _REGISTRY["X-Other"]


def header(name: str, text: str) -> Any:
    """Return one header's value, from its text."""
    return _CLASSES.get(name.lower(), _OTHER)(name, text)


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
