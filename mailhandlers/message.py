"""A stored message as tests want it: an EmailMessage that no content can make raise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from email.utils import getaddresses
from functools import cached_property
from html.parser import HTMLParser
from typing import Any, cast

from .envelope import Envelope

# What the header parsers of Python 3.10 to 3.14 raise on input they did not foresee.
PARSER_FAULTS = (
    MessageError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s<>\"]+", re.IGNORECASE)
_LINK = re.compile(r"(?!javascript:|data:|cid:)[a-z][a-z0-9+.-]*:\S", re.IGNORECASE)
_CODE = re.compile(r"\b\d{4,8}\b", re.ASCII)


class _Policy(EmailPolicy):
    """The policy ``default``, with text where a header can't be parsed."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        try:
            return super().header_fetch_parse(name, value)
        except PARSER_FAULTS:
            # EmailMessage asks the MIME headers for their parts, the others for their text.
            if name.lower().startswith("content-"):
                return self.header_factory(name, "")
            return self.header_factory("X-Unparsed", value)


_POLICY = _Policy()


class StoredMessage(EmailMessage):
    """One message read back, with its envelope.

    All of :class:`email.message.EmailMessage` works, ``message["Subject"]``,
    ``get_body()`` and ``iter_attachments()`` among it. The five headers above the
    message are ours and come first, so ``message["X-RcptTo"]`` is never a forger's.
    Line ends are LF here; :attr:`original_content` has them as they came.
    """

    envelope: Envelope | None
    """The SMTP facts, or None where another program stored the message without any."""
    original_content: bytes
    """What the server received, byte for byte."""

    def __init__(self, policy: EmailPolicy | None = None) -> None:
        super().__init__(policy or _POLICY)
        self.envelope = None
        self.original_content = b""
        self._on_top = 0

    @classmethod
    def parse(cls, content: bytes, envelope: Envelope | None = None) -> StoredMessage:
        """Return *content* as a message; never raises, whatever the bytes."""
        parser: BytesParser[Any] = BytesParser(cls, policy=_POLICY)
        lines = content.replace(b"\r\n", b"\n")
        message: StoredMessage
        try:
            message = parser.parsebytes(lines)
        except RecursionError:  # parts within parts within parts
            message = parser.parsebytes(lines, headersonly=True)
        message.envelope = envelope
        message.original_content = content
        if envelope is not None:
            message._put_on_top(envelope.headers())
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
            found += _page(part).links if _is_html(part) else _urls(_text(part))
        return list(dict.fromkeys(found))

    @cached_property
    def codes(self) -> list[str]:
        """The groups of 4 to 8 digits that a person would see, in order, each once.

        Digits in a link don't count. HTML counts where there is no plain text.
        """
        parts = list(self._shown_parts("text/plain")) or list(self._shown_parts("text/html"))
        text = "\n".join(_page(part).text if _is_html(part) else _text(part) for part in parts)
        return list(dict.fromkeys(_CODE.findall(_URL.sub(" ", text))))

    @cached_property
    def bcc(self) -> list[str]:
        """The envelope's recipients that no To or Cc header names."""
        if self.envelope is None:
            return []
        headers = self._addresses("To") + self._addresses("Cc")
        named = {address.casefold() for address in headers}
        return [rcpt for rcpt in self.envelope.rcpt_tos if rcpt.casefold() not in named]

    def summary(self) -> dict[str, Any]:
        """Return what a record of the message tells, ready for :func:`json.dumps`.

        What is missing or can't be parsed is None.
        """
        date = self["Date"]
        return {
            "subject": _plain(self["Subject"]),
            "from": _plain(self["From"]),
            "to": _plain(self["To"]),
            "cc": _plain(self["Cc"]),
            "date": when.isoformat() if (when := getattr(date, "datetime", None)) else None,
            "message_id": _plain(self["Message-ID"]),
            "headers": [[name, _plain(value)] for name, value in self.items()],
            "text": self.text if any(self._shown_parts("text/plain")) else None,
            "html": self.html if any(self._shown_parts("text/html")) else None,
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

    def _addresses(self, name: str) -> list[str]:
        try:
            values = [str(value) for value in self.get_all(name, [])]
            return [address for _, address in getaddresses(values)]
        except PARSER_FAULTS:
            return []

    def _shown_parts(self, *types: str) -> Iterator[EmailMessage]:
        for part in _leaves(self):
            if _is_shown(part) and _type(part) in types:
                yield part


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts that hold no parts; a message within the message is one of them."""
    pending = [message]
    while pending:
        part = pending.pop(0)
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            pending[:0] = cast("list[EmailMessage]", part.get_payload())
        else:
            yield part


def _type(part: EmailMessage) -> str:
    # A multipart whose boundary never comes is read as the text it is.
    kind = part.get_content_type()
    return "text/plain" if kind.startswith("multipart/") else kind


def _is_html(part: EmailMessage) -> bool:
    return _type(part) == "text/html"


def _is_shown(part: EmailMessage) -> bool:
    return _type(part) in ("text/plain", "text/html") and not part.is_attachment()


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset("utf-8")
    try:
        text = data.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset of nobody's, or one that is no text codec
        text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n")


def _filename(part: EmailMessage) -> str | None:
    try:
        return _plain(part.get_filename())
    except PARSER_FAULTS:
        return None


def _size(part: EmailMessage) -> int | None:
    payload = part.get_payload(decode=True)
    if isinstance(payload, bytes):
        return len(payload)
    try:  # a message within the message has no bytes of its own
        return sum(len(inner.as_bytes()) for inner in cast("list[Any]", part.get_payload()))
    except PARSER_FAULTS:
        return None


def _plain(value: str | None) -> str | None:
    """Return a header's text without surrogates, which no other program reads."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _urls(text: str) -> list[str]:
    return [_trimmed(match[0]) for match in _URL.finditer(text)]


def _trimmed(url: str) -> str:
    """Return *url* without the punctuation of the sentence around it."""
    while url[-1] in ".,;:!?'*_~|" or (url[-1] in ")]}" and not _closes(url)):
        url = url[:-1]
    return url


def _closes(url: str) -> bool:
    opening = "([{"[")]}".index(url[-1])]
    return url.count(opening) >= url.count(url[-1])


class _Page(HTMLParser):
    """The links of a page and the text that it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self._shown: list[str] = []
        self._hidden = 0
        try:
            self.feed(html)
            self.close()
        except AssertionError:  # a marked section that html.parser did not foresee
            self.links += _urls(self.rawdata)

    @property
    def text(self) -> str:
        return "".join(self._shown)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "title")
        for name, value in attrs:
            if name == "href" and tag not in ("link", "base"):
                link = (value or "").strip()
                if _LINK.match(link):
                    self.links.append(link)

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "title") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._shown.append(data)
            self.links += _urls(data)


def _page(part: EmailMessage) -> _Page:
    return _Page(_text(part))
