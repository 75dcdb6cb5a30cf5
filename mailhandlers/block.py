"""The headers on top of stored mail, the form of its lines, and what of it is as received.

The envelope stands above a stored message as a block of headers. Mail clients mark the
message by headers of their own, and other programs edit it. The envelope's checksum tells
what came; without one, as version 1.0 stored, the length does. Nothing here touches a disk.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import re
from collections.abc import Iterator, Sequence

from .mail import Envelope, Mail, gist_in, sha256


class FormatError(ValueError):
    """These bytes are no whole message in this format."""


_LINE = 990  # RFC 5322 section 2.1.1 allows 998 octets
BLOCK_NAMES = (b"Return-Path: ", b"X-Peer: ", b"X-MailFrom: ", b"X-RcptTo: ", b"X-Envelope: ")
_ABOVE_ENVELOPE = re.compile(rb"[^\n]*\n".join(BLOCK_NAMES))
_LINES = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*\n)*")
# Python's email package breaks a line that holds no space by encoded words (RFC 2047).
_WORD = re.compile(
    rb"=\?[\w-]+\?(?:(q)|b)\?([^?\s]*)\?=(?:\n[ \t]+(?==\?[\w-]+\?[qb]\?))?", re.IGNORECASE
)


def encode(mail: Mail) -> list[bytes]:
    """Return the mail file, in pieces: the block, then the message."""
    return [header_block(mail.sealed().envelope), to_lf(mail.content)]


def decode(data: bytes) -> Mail:
    """Return the mail of which :func:`encode` made *data*, altered or not.

    Raises FormatError where no envelope stands above it.
    """
    envelope, start = split_block(data)
    return mail_of(envelope, data[start:])


def header_block(envelope: Envelope) -> bytes:
    """Return the header block that stands above a stored message."""
    return b"".join(
        fold(f"{name}: {value}".encode()) + b"\n" for name, value in block_headers(envelope)
    )


def block_headers(envelope: Envelope) -> list[tuple[str, str]]:
    """Return the header block as unfolded headers.

    The first four are for people and mail clients (RFC 5321 section 4.4 has
    Return-Path, the X- names are aiosmtpd's); the last is the whole envelope.
    """
    return [
        ("Return-Path", f"<{printable(envelope.mail_from)}>"),
        ("X-Peer", printable(envelope.peer)),
        ("X-MailFrom", printable(envelope.mail_from)),
        ("X-RcptTo", ", ".join(map(printable, envelope.rcpt_tos))),
        # An address may look like an encoded word. A program that decodes it while it
        # rewrites our header would make parts of the JSON object of it.
        ("X-Envelope", envelope.to_json().replace("=?", "\\u003d?")),
    ]


def fold(header: bytes) -> bytes:
    r"""Return *header* in lines of 998 octets or fewer (RFC 5322 section 2.2.3).

    A line breaks before a space, which any parser unfolds exactly. Where there is none,
    ``\n\t`` is put in, which :func:`unfold` takes out: neither JSON nor a header shown
    to people holds a tab of its own.
    """
    lines: list[bytes] = []
    start, room, mark = 0, _LINE, b""
    while len(header) - start > room:
        # Not behind the name, which split_block knows with the space that follows it.
        begin = start + 1 if lines else header.find(b": ") + 2
        cut = header.rfind(b" ", begin, start + room)
        following = b""
        if cut <= 0:
            cut, following = start + room, b"\t"
            while header[cut] & 0xC0 == 0x80:  # not inside a UTF-8 character
                cut -= 1
        lines.append(mark + header[start:cut])
        start, room, mark = cut, _LINE - len(following), following
    return b"\n".join([*lines, mark + header[start:]])


def unfold(folded: bytes) -> bytes:
    """Return the header of which :func:`fold` made *folded*."""
    return folded.replace(b"\n\t", b"").replace(b"\n ", b" ")


def has_block(data: bytes) -> bool:
    """Tell whether *data* begins with a header block of ours, whole or not."""
    # Python's email package may break a line right behind the name.
    return _behind([name.rstrip() for name in BLOCK_NAMES], data) is not None


def is_mail_file(head: bytes) -> bool:
    """Tell whether a file that begins with *head* is one of ours with one message."""
    return _behind(BLOCK_NAMES[:2], head) is not None


def _behind(names: Sequence[bytes], data: bytes) -> int | None:
    """Return where the last of *names* ends, if *data* begins with headers of these."""
    position = 0
    for name in names:
        if position and (lines := _LINES.match(data, position)):
            position = lines.end()
        if not data.startswith(name, position):
            return None
        position += len(name)
    return position


def gist(data: bytes, start: int = 0, *, named: bool = False) -> str | None:
    """Return what :func:`.mail.gist_in` finds in the block that begins at *start*, or None.

    Where it is folded before that, or the block isn't as we write it, only all of it tells.
    """
    above = _ABOVE_ENVELOPE.match(data, start)
    if above is None:
        return None
    start = above.end()
    return gist_in(data, start, data.find(b"\n", start), named=named)


def split_block(data: bytes) -> tuple[Envelope, int]:
    """Return the envelope above a stored message, and where the message begins.

    Raises FormatError where *data* doesn't begin with a whole block.
    """
    start = _behind([name.rstrip() for name in BLOCK_NAMES], data)
    if start is None:
        raise FormatError("no envelope stands above this message")
    if not (lines := _LINES.match(data, start)):
        raise FormatError("the envelope above this message is not whole")
    try:
        if lines[0].count(b"\n") == 1:  # nearly all
            with contextlib.suppress(ValueError):
                return Envelope.from_json(lines[0]), lines.end()
        if (length := _object(lines[0])) is not None:
            with contextlib.suppress(ValueError):
                return Envelope.from_json(unfold(lines[0][:length])), start + length + 1
        return Envelope.from_json(_from_words(lines[0])), lines.end()
    except (ValueError, RecursionError) as error:
        raise FormatError("the envelope above this message is not whole") from error


def _object(folded: bytes) -> int | None:
    """Return the length of the lines with which the JSON object in *folded* ends, or None.

    A message may begin with a space, as a folded line does: it is the JSON object that
    ends the envelope.
    """
    text = unfold(folded).decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()))
    except ValueError:
        return None
    read, length = 0, -1
    octets = len(text[:end].encode())
    for line in folded.split(b"\n"):
        read += len(line) - line.startswith(b"\t")
        length += len(line) + 1
        if read >= octets:
            break
    return length if read == octets else None


def _from_words(folded: bytes) -> bytes:
    """Return the header that Python's email package folded: it puts in encoded words."""
    # A tab is where we had folded the header before.
    return unfold(_WORD.sub(_octets, folded)).replace(b"\t", b"")


def _octets(word: re.Match[bytes]) -> bytes:
    return binascii.a2b_qp(word[2], header=True) if word[1] else binascii.a2b_base64(word[2])


def printable(text: str) -> str:
    """Return *text* for people to see: nothing in it moves a cursor or ends a header."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as surrogateescape keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def lines_in_lf(data: bytes) -> bytes:
    """Return *data* with an LF for each CRLF, as ``data.replace(CRLF, LF)`` does."""
    # One octet is found several times as fast as two, and nearly all mail has CRs and LFs
    # in pairs only.
    lf = data.replace(b"\r", b"")
    return lf if lf.replace(b"\n", b"\r\n") == data else data.replace(b"\r\n", b"\n")


def to_lf(wire: bytes) -> bytes:
    """Return *wire* with LF line ends where that is reversible, else unchanged."""
    lf = lines_in_lf(wire)
    if (b"\r" in lf and b"\r\n" in lf) or lf.count(b"\n") != (len(wire) - len(lf)):
        return wire
    return lf


def from_lf(stored: bytes) -> bytes:
    """Return the octets of which :func:`to_lf` made *stored*, where it changed any."""
    return stored.replace(b"\n", b"\r\n")


# What mutt and Dovecot put into the headers of a message that they rewrite.
_CLIENT_HEADERS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|Lines):[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*",
    re.MULTILINE | re.IGNORECASE,
)


def mail_of(envelope: Envelope, stored: bytes, closings: Sequence[int] = (0,)) -> Mail:
    """Return the message that *stored* holds: as received, or as it is now.

    *closings* are the numbers of line ends that the format may have put behind it, the
    usual one first.
    """
    for form in _unmarked(stored):
        for newlines in closings:
            content = _received(_chopped(form, newlines), envelope)
            if content is not None:
                return Mail(envelope, content)
    return Mail(envelope, _chopped(stored, closings[0]), is_altered=True)


def is_short(stored: bytes, size: int) -> bool:
    """Tell whether *stored* is shorter than a message of *size* octets is in any form."""
    return longest(stored) < size


def longest(stored: bytes) -> int:
    """Return how many octets were received at most, if *stored* is all of them."""
    return len(stored) + (0 if b"\r\n" in stored else stored.count(b"\n"))


def _received(stored: bytes, envelope: Envelope) -> bytes | None:
    if len(stored) == envelope.size and _fits(stored, envelope):
        return stored
    if len(stored) < envelope.size == longest(stored):
        content = from_lf(stored)
        if _fits(content, envelope):
            return content
    return None


def _fits(content: bytes, envelope: Envelope) -> bool:
    return envelope.sha256 in (None, sha256(content))


def _unmarked(stored: bytes) -> Iterator[bytes]:
    """Yield what *stored* may have been before a mail client added its headers."""
    yield stored
    head, blank, body = stored.partition(b"\n\n")
    kept = _CLIENT_HEADERS.sub(b"", head + b"\n")
    if kept:
        yield kept[:-1] + blank + body
    else:  # a message without any header got a blank line, too
        yield body
        yield b"\n" + body


def without_marks(stored: bytes) -> bytes:
    """Return *stored* without the headers of mail clients, and without line ends around."""
    head, _, body = stored.partition(b"\n\n")
    return (_CLIENT_HEADERS.sub(b"", head + b"\n") + b"\n" + body).strip(b"\n")


def _chopped(data: bytes, newlines: int) -> bytes:
    return data[:-newlines] if newlines and data.endswith(b"\n" * newlines) else data
