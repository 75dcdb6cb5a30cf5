"""A stored message as tests want it: an EmailMessage that no content can make raise."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from email.errors import MessageError
from email.feedparser import BytesFeedParser
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, cast

from ..formats.eml import block_headers
from ..formats.lf import lines_in_lf
from ..mail import UNKNOWN, Envelope
from .visible import Page, codes_in, links_in

# What the header parsers of Python 3.10 to 3.13 raise on input that they did not foresee;
# the warning is of a charset named unicode_escape, where warnings are errors.
PARSER_FAULTS = (
    AttributeError,
    DeprecationWarning,
    IndexError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
# What turning a broken message into bytes again raises besides.
_GENERATOR_FAULTS = (*PARSER_FAULTS, LookupError, MessageError)
_DEEPEST = 50
_BLOCK = 1 << 16
# The headers of the block on top, which are no text to decode: an address may look like
# an encoded word.
_AS_THEY_ARE = ("return-path", "x-peer", "x-mailfrom", "x-rcptto", "x-envelope")
_LINE_END = re.compile(r"\r\n?|\n")
_ADDRESS = re.compile(r"[^\s<>()\",;:]+@[^\s<>()\",;:]+")


class _Policy(EmailPolicy):
    """The policy ``default``, with text where a header can't be parsed."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        if hasattr(value, "name"):  # a header that the user set
            return value
        # The octets of UTF-8 are surrogates so far, which the parsers don't know.
        value = _LINE_END.sub("", value)
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if name.lower() in _AS_THEY_ARE:
            return value
        for kind in (name, "X-Unparsed"):
            with contextlib.suppress(*PARSER_FAULTS):
                return self.header_factory(kind, value)
            # EmailMessage asks the MIME headers for their parts, the others for their text.
            if name.lower().startswith(("content-", "mime-")):
                return self.header_factory(name, "")
        return value


_POLICY = _Policy()


class StoredMessage(EmailMessage):
    """One message read back, with its envelope.

    All of :class:`email.message.EmailMessage` works, ``message["Subject"]``,
    ``get_body()`` and ``iter_attachments()`` among it. The five headers above the
    message are ours and come first, so ``message["X-RcptTo"]`` is never a forger's.
    Line ends are LF here; :attr:`original_content` has them as they came.
    """

    envelope: Envelope
    """The SMTP facts; of another program's message what its headers tell."""
    original_content: bytes
    """What the server received, byte for byte; what is there now, where it is altered."""
    is_altered: bool
    """Whether another program changed the message since the server received it."""

    def __init__(self, policy: EmailPolicy | None = None) -> None:
        super().__init__(policy or _POLICY)
        self.envelope = UNKNOWN
        self.original_content = b""
        self.is_altered = False
        self._on_top = 0

    @classmethod
    def parse(
        cls, content: bytes, envelope: Envelope = UNKNOWN, is_altered: bool = False
    ) -> StoredMessage:
        """Return *content* as a message; never raises, whatever the bytes."""
        lines = lines_in_lf(content)
        try:
            message = _parsed(cls, lines)
            too_deep = not _is_shallow(message)
        except RecursionError:
            too_deep = True
        if too_deep:  # parts within parts within parts: nobody's mail, read as its text
            parser: BytesParser[Any] = BytesParser(cls, policy=_POLICY)
            message = parser.parsebytes(lines, headersonly=True)
        message.envelope = envelope
        message.original_content = content
        message.is_altered = is_altered
        if envelope.protocol:  # else another program's headers stand for it
            message._put_on_top(block_headers(envelope))
        return message

    def __bool__(self) -> bool:
        return True  # a message without headers is a message

    def own_items(self) -> list[tuple[str, Any]]:
        """Return the headers of the message itself, without the five on top."""
        return self.items()[self._on_top :]

    def _put_on_top(self, headers: list[tuple[str, str]]) -> None:
        own = list(self.raw_items())
        for name in {name.lower() for name, _ in own}:
            del self[name]
        for name, value in headers + own:
            self.set_raw(name, value)
        self._on_top = len(headers)

    @cached_property
    def text(self) -> str:
        """The plain text of the message, attachments aside; empty where there is none."""
        return "\n".join(_text(part) for part in self._shown_parts("text/plain"))

    @cached_property
    def html(self) -> str:
        """The HTML of the message, attachments aside; empty where there is none."""
        return "\n".join(_text(part) for part in self._shown_parts("text/html"))

    @cached_property
    def links(self) -> list[str]:
        """The links of text and HTML in order of appearance, each once."""
        found: list[str] = []
        for part in self._shown_parts("text/plain", "text/html"):
            found += _page(part).links if _is_html(part) else links_in(_text(part))
        return list(dict.fromkeys(found))

    @cached_property
    def codes(self) -> list[str]:
        """The groups of 4 to 8 digits that a person would see, in order, each once.

        Digits in a link don't count. HTML counts where the plain text has none.
        """
        pages = (_page(part).text for part in self._shown_parts("text/html"))
        return codes_in(self.text) or codes_in("\n".join(pages))

    @cached_property
    def bcc(self) -> list[str]:
        """The envelope's recipients that no To or Cc header names."""
        named = {address.casefold() for address in self._addresses("To", "Cc")}
        return [rcpt for rcpt in self.envelope.rcpt_tos if rcpt.casefold() not in named]

    def get_content_type(self) -> str:
        """Return the type; a multipart whose boundary never comes is the text it is."""
        kind = super().get_content_type()
        if kind.startswith("multipart/") and isinstance(getattr(self, "_payload", None), str):
            return "text/plain"
        return kind

    def get_content(self, *args: Any, **options: Any) -> Any:
        """Return the content as EmailMessage does, and text in any charset as text."""
        if self.get_content_maintype() == "text" and not args and not options:
            return _text(self)
        return super().get_content(*args, **options)

    def summary(self) -> dict[str, Any]:
        """Return what a record of the message tells, ready for :func:`json.dumps`.

        What is missing or can't be parsed is None.
        """
        headers = [[name, self._header_text(name, raw)] for name, raw in self.raw_items()]
        first = {str(name).lower(): value for name, value in reversed(headers)}
        return {
            "subject": first.get("subject"),
            "from": first.get("from"),
            "to": first.get("to"),
            "cc": first.get("cc"),
            "date": _iso_date(first.get("date")),
            "message_id": first.get("message-id"),
            "headers": headers,
            "text": self.text if [*self._shown_parts("text/plain")] else None,
            "html": self.html if [*self._shown_parts("text/html")] else None,
            "attachments": [
                {
                    "filename": _filename(part),
                    "content_type": part.get_content_type(),
                    "size": _size(part),
                }
                for part in _leaves(self)
                if not _is_shown(part)
            ],
        }

    def _header_text(self, name: str, raw: str) -> str | None:
        # Nearly all headers have nothing to decode, and the parsers take their time.
        if raw.isascii() and "=?" not in raw:
            return _LINE_END.sub("", raw).strip()
        return _plain(self.policy.header_fetch_parse(name, raw))

    def _addresses(self, *names: str) -> Iterator[str]:
        for value in itertools.chain(*(self.get_all(name, []) for name in names)):
            try:
                yield from [address.addr_spec for address in value.addresses]
            except PARSER_FAULTS:
                yield from _ADDRESS.findall(value)

    def _shown_parts(self, *types: str) -> Iterator[EmailMessage]:
        for part in _leaves(self):
            if _is_shown(part) and part.get_content_type() in types:
                yield part


def _parsed(kind: type[StoredMessage], data: bytes) -> StoredMessage:
    """Return *data*, with LF line ends, as BytesParser would."""
    blank = data.find(b"\n\n") + 2
    if blank > 1:
        message = _fed(kind, data[:blank])
        # A body of one part is what stands behind the headers: the parser would look at
        # each of its lines, and hold four octets for one. A multipart without its parts
        # has a defect.
        if message.get_payload() == "" and not message.defects:
            message.set_payload(data[blank:].decode("ascii", "surrogateescape"))
            return message
    return _fed(kind, data)


def _fed(kind: type[StoredMessage], data: bytes) -> StoredMessage:
    parser: BytesFeedParser[Any] = BytesFeedParser(kind, policy=_POLICY)
    # In blocks, too, since BytesParser holds four octets for each of a large message.
    for start in range(0, len(data), _BLOCK):
        parser.feed(data[start : start + _BLOCK])
    return cast("StoredMessage", parser.close())


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts that hold no parts; a message within the message is one of them."""
    pending = [message]
    while pending:
        part = pending.pop()
        if part.get_content_maintype() == "multipart":
            pending += reversed(_parts(part))
        else:
            yield part


def _is_shallow(message: EmailMessage) -> bool:
    """Tell whether the parts in parts are few enough for methods that call themselves."""
    level = [message]
    for _ in range(_DEEPEST):
        level = [inner for part in level for inner in _parts(part)]
    return not level


def _parts(part: EmailMessage) -> list[EmailMessage]:
    return cast("list[EmailMessage]", part.get_payload()) if part.is_multipart() else []


def _is_html(part: EmailMessage) -> bool:
    return part.get_content_type() == "text/html"


def _is_shown(part: EmailMessage) -> bool:
    shown = part.get_content_type() in ("text/plain", "text/html")
    return shown and not part.is_attachment()


def _text(part: EmailMessage) -> str:
    data = _octets(part) or b""
    try:
        text = data.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError, DeprecationWarning):  # no charset of text
        text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n") if "\r" in text else text


def _octets(part: EmailMessage) -> bytes | None:
    try:
        payload = part.get_payload(decode=True)
    except PARSER_FAULTS:
        payload = str(part.get_payload()).encode("utf-8", "surrogateescape")
    return payload if isinstance(payload, bytes) else None


def _iso_date(text: str | None) -> str | None:
    try:
        return parsedate_to_datetime(text or "").isoformat()
    except PARSER_FAULTS:
        return None


def _filename(part: EmailMessage) -> str | None:
    try:
        return _plain(part.get_filename())
    except PARSER_FAULTS:
        return None


def _size(part: EmailMessage) -> int | None:
    octets = _octets(part)
    if octets is not None:
        return len(octets)
    try:  # a message within the message has no bytes of its own
        return sum(len(inner.as_bytes()) for inner in _parts(part))
    except _GENERATOR_FAULTS:
        return None


def _plain(value: str | None) -> str | None:
    """Return a header's text without surrogates, which no other program reads."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _page(part: EmailMessage) -> Page:
    return Page(_text(part))
