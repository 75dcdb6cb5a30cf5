"""The byte forms of a stored message, each with its inverse; nothing here touches a disk.

A form holds the envelope and the content as it came, and its inverse gives back both or
raises :class:`FormatError`: the envelope's ``size`` tells a whole message from a part.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timezone
from typing import Any
from urllib.parse import quote_from_bytes

from .envelope import Envelope

_LINE = 990  # RFC 5322 section 2.1.1 allows 998 octets
_BLOCK_NAMES = (b"Return-Path: ", b"X-Peer: ", b"X-MailFrom: ", b"X-RcptTo: ", b"X-Envelope: ")
_BLOCK = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*\n)*".join(_BLOCK_NAMES))
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
# What mutt and Dovecot put into the headers of a message that they rewrite in an mbox.
_CLIENT_HEADERS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|Lines):[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*",
    re.MULTILINE | re.IGNORECASE,
)
_BODY_LENGTH = re.compile(
    rb"^Status: [A-Z]+\n(?:X-Status: [A-Z]+\n)?Content-Length: (\d{1,12})\nLines: \d+\Z",
    re.MULTILINE,
)
# Characters that act on a terminal, split a line for somebody, or are no UTF-8 at all.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_RECORD = b'{"id": "'
_LONGEST_NAME = 200
_LONG_TEXT = 1 << 16


class FormatError(ValueError):
    """These bytes are no whole message in this form."""


# LF form: what mail formats keep, where it can be taken back


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


def from_lf(stored: bytes, size: int) -> bytes:
    """Return the *size* octets of which :func:`to_lf` made *stored*.

    Raises FormatError when *stored* is cut short or was changed.
    """
    if len(stored) == size:
        return stored
    if len(stored) + stored.count(b"\n") == size and b"\r\n" not in stored:
        return stored.replace(b"\n", b"\r\n")
    raise FormatError(f"a message of {size} octets has {len(stored)} here")


# The mail form: a block of headers, then the message


def block(envelope: Envelope) -> bytes:
    """Return the header block that stands above a stored message."""
    return b"".join(
        fold(f"{name}: {value}".encode()) + b"\n" for name, value in envelope.headers()
    )


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


def to_mail(envelope: Envelope, content: bytes) -> list[bytes]:
    """Return the mail form, in pieces: the block, then the message."""
    return [block(envelope), to_lf(content)]


def has_block(data: bytes) -> bool:
    """Tell whether *data* begins with a header block of ours, whole or not."""
    return _BLOCK.match(data) is not None


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
    raise FormatError("the envelope above this message is not whole")


def from_mail(data: bytes) -> tuple[Envelope, bytes]:
    """Return the envelope and the content of :func:`to_mail`, or raise FormatError."""
    envelope, start = split_block(data)
    return envelope, from_lf(data[start:], envelope.size)


# mboxrd: see https://www.loc.gov/preservation/digital/formats/fdd/fdd000385.shtml


def quote_from(data: bytes) -> bytes:
    """Return *data* with a ``>`` before every ``From `` line, quoted ones too."""
    return _FROM.sub(rb">\1", data) if b"From " in data else data


def unquote_from(data: bytes) -> bytes:
    """Return what :func:`quote_from` was given."""
    return _QUOTED_FROM.sub(rb"\1", data) if b"From " in data else data


def to_mbox(envelope: Envelope, content: bytes) -> list[bytes]:
    """Return the mboxrd entry, in pieces, the blank line behind it included."""
    sender = percent_encoded(envelope.mail_from, safe="@.+-_=!#$&'*/?^`{|}~") or "MAILER-DAEMON"
    date = envelope.received.astimezone(timezone.utc).ctime()
    # A last line without an end gets one; LF form would hide where the message ended.
    whole = content.endswith(b"\n") or not content
    return [
        f"From {sender} {date}\n".encode(),
        block(envelope),
        quote_from(to_lf(content) if whole else content),
        b"\n" if whole else b"\n\n",
    ]


def from_mbox(entry: bytes) -> tuple[Envelope, bytes]:
    """Return the envelope and the content of an entry of :func:`to_mbox`.

    *entry* runs from its ``From `` line up to the next. Headers that mutt or Dovecot
    added since are taken off again. Raises FormatError.
    """
    if not entry.startswith(b"From "):
        raise FormatError("an mbox entry begins with a From line")
    data = unquote_from(_without_torn_from(entry[entry.find(b"\n") + 1 :]))
    envelope, start = split_block(data)
    stored = data[start:]
    with contextlib.suppress(FormatError):
        return envelope, _from_closed(stored, envelope.size)
    changed = _without_client_headers(stored)
    for candidate in changed:
        with contextlib.suppress(FormatError):
            return envelope, _from_closed(candidate, envelope.size)
    if _has_body_length(stored):
        # A client that takes Status, Content-Length or Lines of the sender's for its own
        # lost them: what it left is the message now.
        return envelope, _chopped(changed[0], 1)
    raise FormatError(f"a message of {envelope.size} octets has {len(stored)} here")


def _from_closed(stored: bytes, size: int) -> bytes:
    """Return the content that an entry's blank line, or two, ends; raises FormatError."""
    try:
        return from_lf(_chopped(stored, 1), size)
    except FormatError:
        for newlines in (2, 0):  # the content came without a line end, and is not LF form
            content = _chopped(stored, newlines)
            if len(content) == size:
                return content
        raise


def _chopped(data: bytes, newlines: int) -> bytes:
    return data[:-newlines] if newlines and data.endswith(b"\n" * newlines) else data


def _without_torn_from(data: bytes) -> bytes:
    """Return *data* without the From line that somebody began to append to it."""
    for start in (b"F", b"Fr", b"Fro", b"From"):
        if data.endswith(b"\n\n" + start):
            return data[: -len(start)]
    return data


def _without_client_headers(data: bytes) -> list[bytes]:
    """Return what *data* may have been before a mail client added its headers."""
    head, blank, body = data.partition(b"\n\n")
    kept = _CLIENT_HEADERS.sub(b"", head + b"\n")
    # A message without any header got a blank line, too.
    return [kept[:-1] + blank + body] if kept else [body, b"\n" + body]


def _has_body_length(data: bytes) -> bool:
    """Tell whether a mail client wrote into *data* how long the body is, and it is."""
    head, _, body = data.partition(b"\n\n")
    length = _BODY_LENGTH.search(head)
    return length is not None and int(length[1]) == len(_chopped(body, 1))


def mend_mbox(entry: bytes) -> tuple[int, bytes]:
    """Return how much to keep of the last entry of an mbox, and what closes it.

    Our own entry that a crash cut short was never acknowledged: nothing of it is kept.
    Whatever else stands there is kept, up to the blank line that must end it.
    """
    entry = _without_torn_from(entry)
    try:
        from_mbox(entry)
    except FormatError:
        if is_torn_mbox(entry):
            return 0, b""
    return len(entry), b"\n\n"[min(2, len(entry) - len(entry.rstrip(b"\n"))) :]


def is_torn_mbox(entry: bytes) -> bool:
    """Tell whether *entry* is the beginning, and no more, of an entry of ours."""
    first, newline, data = entry.partition(b"\n")
    if not newline:
        return first.startswith(b"From ") or b"From ".startswith(first)
    data = unquote_from(data)
    try:
        envelope, start = split_block(data)
    except FormatError:
        *lines, last = re.sub(rb"\n[ \t]", b" ", data).split(b"\n")
        if not all(map(bytes.startswith, lines, _BLOCK_NAMES)):
            return False
        if len(lines) >= len(_BLOCK_NAMES):  # a line may also end where the next was to fold
            return len(lines) == len(_BLOCK_NAMES) and not last
        name = _BLOCK_NAMES[len(lines)]
        return last.startswith(name) or name.startswith(last)
    return len(data) - start < envelope.size


# JSON Lines: see https://jsonlines.org


def to_json_line(envelope: Envelope, content: bytes) -> Iterator[bytes]:
    """Yield one line, in pieces: the envelope's keys, what a parser finds, the content."""
    from .message import StoredMessage  # the other formats do without a parser

    record: dict[str, Any] = envelope.to_dict() | StoredMessage.parse(content).summary()
    record["size"] = record.pop("size")
    try:
        record["raw"] = content.decode()
    except UnicodeDecodeError:
        record["raw_base64"] = base64.b64encode(content).decode()
    if len(content) <= _LONG_TEXT:
        yield _safe(json.dumps(record, ensure_ascii=False) + "\n")
        return
    before = "{"
    for key, value in record.items():
        yield f'{before}"{key}": '.encode()
        yield from _json(value)
        before = ", "
    yield b"}\n"


def _json(value: object) -> Iterator[bytes]:
    """Yield *value* as JSON, in pieces, so that long text holds no other thread up."""
    if not isinstance(value, str) or len(value) <= _LONG_TEXT:
        yield _safe(json.dumps(value, ensure_ascii=False))
        return
    yield b'"'
    for i in range(0, len(value), _LONG_TEXT):
        yield _safe(json.dumps(value[i : i + _LONG_TEXT], ensure_ascii=False)[1:-1])
    yield b'"'


def _safe(text: str) -> bytes:
    if not text.isascii() or "\x7f" in text:
        text = _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode()


def from_json_line(line: bytes) -> tuple[Envelope, bytes]:
    """Return the envelope and the content of a line of :func:`to_json_line`.

    Raises FormatError.
    """
    try:
        record = json.loads(line)
        envelope = Envelope.from_dict(record)
        raw = record.get("raw")
        if isinstance(raw, str):
            content = raw.encode()
        else:
            content = base64.b64decode(str(record.get("raw_base64")), validate=True)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise FormatError(f"no record of a message: {error}") from error
    if len(content) != envelope.size:
        raise FormatError(f"a message of {envelope.size} octets has {len(content)} here")
    return envelope, content


def mend_json_lines(line: bytes) -> tuple[int, bytes]:
    """Return how much to keep of the last line of a file, and what closes it.

    Our own line that a crash cut short was never acknowledged: nothing of it is kept.
    """
    if line.endswith(b"\n") or not line:
        return len(line), b""
    try:
        from_json_line(line)
    except FormatError:
        if line.startswith(_RECORD) or _RECORD.startswith(line):
            return 0, b""
    return len(line), b"\n"


# Both: an entry begins at the start of the file, and at each mark behind a line end


def backwards(
    read: Callable[[int, int], bytes], size: int, mark: bytes
) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each entry of a file of *size* octets, last first.

    An entry begins with *mark* at the beginning of a line. ``read(start, end)`` returns
    octets of the file; it is asked for blocks from the end, so that the last entry of
    a large file costs no more than that of a small one.
    """
    needle = b"\n" + mark
    end = high = size
    block = 1 << 16
    while high > 0:
        low = max(0, high - block)
        data = read(low, min(size, high + len(mark)))
        at = data.rfind(needle)
        while at >= 0:
            start = low + at + 1
            if start < end:
                yield start, end
                end = start
            at = data.rfind(needle, 0, at + len(mark))
        high = low
        block = min(block * 2, 1 << 20)
    if end > 0:
        yield 0, end


# Folder names


def folder_name(recipient: str) -> str:
    """Return the name of a recipient's folder: one folder for each address, case aside.

    Letters, digits and ``@.+-_=`` stand for themselves, every other octet of the UTF-8
    form as ``%XX``, and so does each leading dot. A name over 200 octets is cut and
    completed with a hash behind ``~``, which no other name holds.
    """
    name = percent_encoded(recipient.casefold(), safe="@.+-_=").replace("~", "%7E")
    bare = name.lstrip(".")
    name = "%2E" * (len(name) - len(bare)) + bare
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        name = f"{name[: _LONGEST_NAME - len(digest) - 1]}~{digest}"
    return name or "%"


def percent_encoded(text: str, safe: str) -> str:
    """Return *text*, which may hold octets that are no UTF-8, percent-encoded."""
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe=safe)
