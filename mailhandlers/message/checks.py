"""What the checks of a mail look for; the table of them is in ``problems.py``.

Each function yields where its problem is, and nothing where there is none. It has to be sure:
of an ordinary mail, which everybody reads as it was meant, it yields nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import islice
from urllib.parse import urlsplit

from ..mail import Envelope
from . import charsets, content
from .addresses import addresses_in, comparable
from .body import Body, BodyText
from .headers import PARSER_FAULTS, text_of
from .html import End, Start, Text, tokens
from .text import seen

_LONGEST_LINE = 998
_CLIPPED = 102 * 1024
_LONGEST_DATE = 200
_MOST_AUTHORS = 20


class Look:
    """A message as the checks look at it: each thing is read once, and forward only."""

    def __init__(
        self,
        message: EmailMessage,
        headers: Sequence[tuple[str, str]],
        body: Body,
        original_content: bytes,
        envelope: Envelope,
    ) -> None:
        self.message = message
        self.headers = headers
        """The sender's headers as (name, value), as they came."""
        self.body = body
        self.content = original_content
        self.envelope = envelope
        first = {name.lower(): raw for name, raw in reversed(headers)}
        self.first = {name: text_of(name, raw) for name, raw in first.items()}
        """The first header of each name in lower case, decoded."""
        self.dkim_faults: list[str] = []
        """Why no signature is valid; empty where one is, or nobody asked."""
        self.seen: dict[str, str] | None = None
        """What is known of messages that were looked at before, by their Message-ID."""

    @cached_property
    def authors(self) -> list[str]:
        """The addresses in From; of very many, which nobody has, the first ones."""
        return list(islice(addresses_in(self.first.get("from", "")), _MOST_AUTHORS))

    @cached_property
    def parts(self) -> list[EmailMessage]:
        """The message and its parts, without those of a message within it."""
        return list(_parts(self.message))

    @cached_property
    def pages(self) -> list[_Page]:
        """What the HTML has of links and images."""
        return [_Page(text.source) for text in self.body.texts if text.is_html]


def _parts(part: EmailMessage) -> Iterator[EmailMessage]:
    yield part
    if part.get_content_maintype() == "multipart":
        for each in content.parts_of(part):
            yield from _parts(each)


class _Page:
    """The links and the images of a page."""

    def __init__(self, source: str) -> None:
        self.links: list[tuple[str, str]] = []
        """Where each leads, and the text that it shows."""
        self.images: list[dict[str, str]] = []
        """The attributes of each."""
        href: str | None = None
        shown: list[str] = []
        for token in tokens(source):
            if isinstance(token, Text):
                if href is not None:
                    shown.append(token.text)
            elif isinstance(token, Start | End) and token.tag == "a":
                if href is not None:
                    self.links.append((href, seen("".join(shown)).strip()))
                href, shown = None, []
                if isinstance(token, Start):
                    href = token.attributes.get("href")
            elif isinstance(token, Start) and token.tag == "img":
                self.images.append(token.attributes)


# Headers


def no_date(mail: Look) -> Iterator[str]:
    """Yield once where there is no Date."""
    if "date" not in mail.first:
        yield ""


def unreadable_date(mail: Look) -> Iterator[str]:
    """Yield the Date where it is none."""
    date = mail.first.get("date")
    if date is None:
        return
    try:
        parsedate_to_datetime(date[:_LONGEST_DATE])
    except PARSER_FAULTS:
        yield date


def no_message_id(mail: Look) -> Iterator[str]:
    """Yield once where there is no Message-ID."""
    if not mail.first.get("message-id"):
        yield ""


def repeated_message_id(mail: Look) -> Iterator[str]:
    """Yield an id that another mail has: the same mail may be there twice, once by a list."""
    name = mail.first.get("message-id")
    if mail.seen is None or not name:
        return
    written = f"{mail.first.get('date')}\n{mail.first.get('to')}"
    if mail.seen.setdefault(name, written) != written:
        yield name


def no_from(mail: Look) -> Iterator[str]:
    """Yield once where From has no address."""
    if not any("@" in address for address in mail.authors):
        yield ""


# RFC 6761: no name below these is anybody's, and no other computer knows this one.
_NOBODYS = ("invalid", "localhost")


def from_nowhere(mail: Look) -> Iterator[str]:
    """Yield the authors whom nobody elsewhere can reach, of mail that goes elsewhere."""
    # On a computer of one's own eva@laptop is somebody.
    if not any(map(_is_elsewhere, mail.envelope.rcpt_tos)):
        return
    for address in mail.authors:
        if "@" in address[1:] and not _is_elsewhere(address):
            yield address


def _is_elsewhere(address: str) -> bool:
    domain = address.rpartition("@")[2].rstrip(".").lower()
    if domain.startswith("["):  # an IP address
        return True
    return "." in domain and domain.rpartition(".")[2] not in _NOBODYS


def no_sender(mail: Look) -> Iterator[str]:
    """Yield the authors where these are several, and nobody is said to have sent it."""
    if len(mail.authors) > 1 and "sender" not in mail.first:
        yield from mail.authors


_ONCE = (
    *("from", "sender", "reply-to", "to", "cc", "bcc", "date", "subject"),
    *("message-id", "in-reply-to", "references"),
    *("content-type", "content-transfer-encoding"),
)


def repeated_header(mail: Look) -> Iterator[str]:
    """Yield the names of headers that a message may have once, and has again."""
    known = set()
    for name, _ in mail.headers:
        if name.lower() in known:
            yield name
        elif name.lower() in _ONCE:
            known.add(name.lower())


def header_not_ascii(mail: Look) -> Iterator[str]:
    """Yield the names of headers that hold octets which only SMTPUTF8 allows."""
    options = [option.upper() for option in mail.envelope.mail_options]
    if "SMTPUTF8" in options or mail.envelope.protocol.startswith("UTF8"):
        return
    own = mail.headers
    for part in mail.parts:
        for name, raw in own if part is mail.message else part.raw_items():
            if str(raw).isascii():
                continue
            # Of what another program stored nobody knows whether SMTPUTF8 was used.
            if mail.envelope.protocol or not _is_utf_8(str(raw)):
                yield name


def _is_utf_8(raw: str) -> bool:
    try:
        raw.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError:
        return False
    return True


def no_one_click(mail: Look) -> Iterator[str]:
    """Yield once where one can unsubscribe on the web, but not by one click."""
    address = mail.first.get("list-unsubscribe", "").lower()
    if "list-post" in mail.first or "<http" not in address:
        return  # a list of people who write to each other, or unsubscribing by mail
    post = mail.first.get("list-unsubscribe-post", "").replace(" ", "").lower()
    if post != "list-unsubscribe=one-click" or "<https:" not in address:
        yield ""


# Octets


def long_line(mail: Look) -> Iterator[str]:
    """Yield each line that is longer than SMTP allows."""
    for number, line in enumerate(mail.content.split(b"\n"), 1):
        if len(line) > _LONGEST_LINE and (octets := len(line.rstrip(b"\r"))) > _LONGEST_LINE:
            yield f"line {number} has {octets}"


_SINGLE_OCTETS = ("cp1252", "iso8859-15")
_META = re.compile(r"<meta\s[^>]*charset", re.IGNORECASE)
_HEAD_OF_PAGE = 4096


def wrong_charset(mail: Look) -> Iterator[str]:
    """Yield each text, and each header that is shown, which names a charset it isn't in."""
    for name in ("subject", "from", "to", "cc", "reply-to"):
        if "\ufffd" in mail.first.get(name, ""):
            yield f"{name.title()} shows \ufffd"
    for text in mail.body.texts:
        if fault := _charset_fault(text):
            yield fault


def _charset_fault(text: BodyText) -> str:
    """Return what is wrong with the charset that *text* says it is in, or nothing."""
    data = content.octets(text.part)
    label = text.part.get_content_charset()
    codec = charsets.codec_of(label)
    if data.isascii() and not (codec or "").startswith("iso2022"):
        return ""
    kind = "the HTML" if text.is_html else "the text"
    if label is None:
        if text.is_html and _META.search(text.source[:_HEAD_OF_PAGE]):
            return ""
        return f"{kind} is not ASCII, and names none"
    if codec is None and "ascii" in label:
        return f"{kind} is not in {label}"
    if codec is None:
        return "" if "unknown" in label else f"{kind} is in {label}, which few programs know"
    if codec in _SINGLE_OCTETS:
        return f"{kind} is in UTF-8, and not in {label}" if _is_surely_utf_8(data) else ""
    if "\ufffd" in charsets.decode(data, label) and b"\xef\xbf\xbd" not in data:
        return f"{kind} is not all in {label}"
    return ""


def _is_surely_utf_8(data: bytes) -> bool:
    r"""Tell whether nobody would write *data* in a charset of one octet a letter.

    A letter of UTF-8 would be two or three odd ones there, such as ``\xc3\xbc`` for ``\xfc``.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return sum(not letter.isascii() for letter in text) > 1


# What a person reads


def no_plain_text(mail: Look) -> Iterator[str]:
    """Yield once where who reads without HTML sees nothing."""
    pages = [text for text in mail.body.texts if text.is_html]
    shows = any(text.as_read for text in pages) or any(page.images for page in mail.pages)
    if shows and not mail.body.text.strip():
        yield ""


def clipped(mail: Look) -> Iterator[str]:
    """Yield how large the HTML is that Gmail clips."""
    for text in mail.body.shown:
        octets = len(text.source.encode("utf-8", "replace")) if text.is_html else 0
        if octets > _CLIPPED:
            yield f"{octets / 1024:.0f} kB"


# Shown as it is here an address is one for Thunderbird, too.
_ADDRESS = re.compile(r"https?://([\w-]+(?:\.[\w-]+)+)(?=[/?#:]|\Z)", re.IGNORECASE)


def link_elsewhere(mail: Look) -> Iterator[str]:
    """Yield the links for which Thunderbird warns of fraud."""
    for page in mail.pages:
        for href, shown in page.links:
            address = _ADDRESS.match(shown) if len(shown.split()) == 1 else None
            host = _host(href)
            if address and host and _domain(address[1]) != _domain(host):
                yield f"{shown} leads to {host}"


def _domain(host: str) -> str:
    """Return the domain of a host: hosts of two domains have two owners.

    Two hosts of one may have two as well, as below ``co.uk``.
    """
    return ".".join(comparable(host).rstrip(".").split(".")[-2:])


def _host(address: str) -> str:
    """Return the host of an address on the web; empty where it is none."""
    try:
        parts = urlsplit(address.strip())
        return parts.hostname or "" if parts.scheme in ("http", "https") else ""
    except ValueError:  # such as http://[
        return ""


# Nobody can have a certificate for a name below these: RFC 2606, 6761, 6762, 7686, 8375, and
# what ICANN gives to nobody.
_PRIVATE = (
    *("test", "example", "invalid", "localhost", "local", "internal", "onion", "arpa", "lan"),
    *("home", "corp", "intranet", "private"),
)


def no_https(mail: Look) -> Iterator[str]:
    """Yield links to pages of one's own, and images. Other people's may have no https:."""
    links = [link for link in mail.body.links if link[:5].lower() == "http:"]
    if links:
        safe = {_host(link) for link in mail.body.links if link[:6].lower() == "https:"}
        domains = [comparable(author.rpartition("@")[2]) for author in mail.authors]
        for link in links:
            host = _host(link)
            is_ours = any(_is_within(host, domain) for domain in domains)
            if (host in safe or is_ours) and _is_public(host):
                yield link
    for image in (image.get("src", "").strip() for page in mail.pages for image in page.images):
        if image[:5].lower() == "http:" and _is_public(_host(image)):
            yield image


def _is_within(host: str, domain: str) -> bool:
    """Tell whether one is a part of the other: ``shop.example.com`` of ``example.com``."""
    host = comparable(host).removeprefix("www.")
    return host == domain or host.endswith(f".{domain}") or domain.endswith(f".{host}")


def _is_public(host: str) -> bool:
    if "." not in host or host.rpartition(".")[2] in _PRIVATE:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


_UNSEEN = re.compile(r"display\s{0,9}:\s{0,9}none", re.IGNORECASE)


def no_alt(mail: Look) -> Iterator[str]:
    """Yield the images that have no alt, but for those that nobody is to see."""
    for page in mail.pages:
        for image in page.images:
            if "alt" not in image and not _is_unseen(image):
                yield image.get("src", "").rpartition("/")[2] or "an image"


def _is_unseen(image: dict[str, str]) -> bool:
    """Tell whether nobody is to see the image: it counts readers."""
    sizes = [image.get(name, "").strip().removesuffix("px") for name in ("width", "height")]
    return (
        any(size in ("0", "1") for size in sizes)
        or image.get("aria-hidden") == "true"
        or image.get("role") in ("presentation", "none")
        or "hidden" in image
        or _UNSEEN.search(image.get("style", "")) is not None
    )


def no_dkim(mail: Look) -> Iterator[str]:
    """Yield why no signature is valid with the key that was given."""
    yield from mail.dkim_faults
