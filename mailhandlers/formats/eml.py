"""The mail file: the envelope as a block of headers, then the message as it came."""

from __future__ import annotations

import binascii
import re

from ..mail import Envelope, Mail
from . import FormatError
from .lf import to_lf
from .original import mail_of

_LINE = 990  # RFC 5322 section 2.1.1 allows 998 octets
BLOCK_NAMES = (b"Return-Path: ", b"X-Peer: ", b"X-MailFrom: ", b"X-RcptTo: ", b"X-Envelope: ")
_FOLDED = rb"[^\n]*\n(?:[ \t][^\n]*\n)*"
# Python's email package may break a line right behind the name.
_BLOCK = re.compile(_FOLDED.join(name.rstrip() for name in BLOCK_NAMES))
_BEGINNING = re.compile(_FOLDED.join(BLOCK_NAMES[:2]))
_LINES = re.compile(_FOLDED)
# Python's email package breaks a line that holds no space by encoded words (RFC 2047).
_WORD = re.compile(
    rb"=\?[\w-]+\?(?:(q)|b)\?([^?\s]*)\?=(?:\n[ \t]+(?==\?[\w-]+\?[qb]\?))?", re.IGNORECASE
)


def encode(mail: Mail) -> list[bytes]:
    """Return the mail file, in pieces: the block, then the message."""
    return [block(mail.sealed().envelope), to_lf(mail.content)]


def decode(data: bytes) -> Mail:
    """Return the mail of which :func:`encode` made *data*, altered or not.

    Raises FormatError where no envelope stands above it.
    """
    envelope, start = split_block(data)
    return mail_of(envelope, data[start:])


def block(envelope: Envelope) -> bytes:
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
    while len(header) > _LINE:
        # Not behind the name, which split_block knows with the space that follows it.
        cut = header.rfind(b" ", 1 if lines else header.find(b": ") + 2, _LINE)
        if cut > 0:
            lines.append(header[:cut])
            header = header[cut:]
        else:
            cut = _LINE
            while header[cut] & 0xC0 == 0x80:  # not inside a UTF-8 character
                cut -= 1
            lines.append(header[:cut])
            header = b"\t" + header[cut:]
    return b"\n".join([*lines, header])


def unfold(folded: bytes) -> bytes:
    """Return the header of which :func:`fold` made *folded*."""
    return folded.replace(b"\n\t", b"").replace(b"\n ", b" ")


def has_block(data: bytes) -> bool:
    """Tell whether *data* begins with a header block of ours, whole or not."""
    return _BLOCK.match(data) is not None


def is_mail_file(head: bytes) -> bool:
    """Tell whether a file that begins with *head* is one of ours with one message."""
    return _BEGINNING.match(head) is not None


def split_block(data: bytes) -> tuple[Envelope, int]:
    """Return the envelope above a stored message, and where the message begins.

    Raises FormatError where *data* doesn't begin with a whole block.
    """
    match = _BLOCK.match(data)
    if match is None:
        raise FormatError("no envelope stands above this message")
    # A message may begin with a space, as a folded line does: it is the JSON object
    # that ends the envelope, and no JSON object is the beginning of another.
    end = data.find(b"}\n", match.end())
    while end >= 0:
        try:
            return Envelope.from_json(unfold(data[match.end() : end + 1])), end + 2
        except ValueError:
            line = data[end + 2 : end + 3]
            end = data.find(b"}\n", end + 2) if line in (b" ", b"\t") else -1
    if not (lines := _LINES.match(data, match.end())):
        raise FormatError("the envelope above this message is not whole")
    try:
        return Envelope.from_json(_from_words(lines[0])), lines.end()
    except ValueError as error:
        raise FormatError("the envelope above this message is not whole") from error


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
