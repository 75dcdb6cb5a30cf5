"""mboxrd, as https://www.loc.gov/preservation/digital/formats/fdd/fdd000385.shtml has it.

MboxSink's file, or an mbox of another program's. While our server appends, its dotlock tells
how long the file was before; when the server was killed, the dotlock stays. By the octets
alone, the beginning of an append may look like a message that somebody shortened.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from datetime import timezone
from email.utils import mktime_tz, parsedate_tz
from typing import ClassVar
from urllib.parse import quote_from_bytes

from ..block import (
    BLOCK_NAMES,
    FormatError,
    gist,
    has_block,
    header_block,
    is_short,
    mail_of,
    split_block,
    to_lf,
)
from ..disk import locks
from ..mail import Mail
from ..message.headers import PARSER_FAULTS
from . import foreign
from .entries import EntryStart, octets_in
from .growing import GrowingStore, Mended
from .memory import GLANCE

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_LONGEST_ADDRESS = 4000  # percent-encoded: no command of SMTP holds half of it
_LONGEST_FROM = 4096
_MONTH = b"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
DATED_FROM = re.compile(
    rb"^From (?:[^\n]{0,%d}?[ \t])??((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?[ \t]{1,2}"
    rb"(?:%s[ \t]{1,2}\d\d?|\d\d?[ \t]%s[ \t]\d{2,4})"
    rb"[ \t]{1,2}\d\d?:\d\d[^\n]{0,80})" % (_LONGEST_ADDRESS, _MONTH, _MONTH),
    re.MULTILINE,
)
"""The line that begins an entry: an address, or none, and a date.

The date is that of asctime, as every program writes it, with a zone at times and without
seconds, or that of mail.
"""
_BLANKS = (b"\n\n", b"\n\r\n")  # what the line ends of a blank line are behind others
# A part of a From line of ours, where the file ends, and the NULs that a power cut leaves.
_BEGUN_FROM = re.compile(rb"From [^\s\0]*(?: (?:[A-Z][\w :]*)?)?\0*\Z")
_OUR_FROM = re.compile(rb"\nFrom [^\n]*\nReturn-Path: ")
# The blank line behind an entry, and the second one behind a last line without an end.
_CLOSINGS = (1, 2, 0)


def _begins_entry(data: bytes, at: int) -> bool:
    """Tell whether the From line *at* this place of *data* begins an entry.

    A message of another program's may hold a sentence that begins like one, and has no date.
    Of one that begins an append, behind a blank line, only a part may be there.
    """
    if DATED_FROM.match(data, at):
        return True
    is_last = len(data) - at < _LONGEST_FROM and data.endswith(_BLANKS, 0, at)
    return is_last and _BEGUN_FROM.match(data, at) is not None


ENTRY_START = EntryStart(b"From ", _begins_entry, _LONGEST_FROM)


class MboxStore(GrowingStore):
    """The file of MboxSink, or an mbox of another program's."""

    what: ClassVar[str] = "an mbox"
    entry_start: ClassVar[EntryStart] = ENTRY_START

    def encode(self, mails: Iterable[Mail]) -> Iterable[bytes]:
        return [piece for mail in mails for piece in encode(mail)]

    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        with contextlib.suppress(FormatError):
            return decode(data)
        first, _, content = unquote_from(data).partition(b"\n")
        if not first.startswith(b"From "):
            raise FormatError("no From line begins this mbox")
        when = date_of(first)
        content = content.removesuffix(b"\r\n" if content.endswith(b"\n\r\n") else b"\n")
        received = status.st_mtime if when is None else when
        return Mail(foreign.envelope(content, self.path, received), content)

    def is_one(self, head: bytes) -> bool:
        return is_mbox(head)

    def is_torn(self, data: bytes, before: int | None) -> bool:
        return is_torn(data, before)

    def mend(self, data: bytes, before: int | None) -> Mended:
        return mend(data, before)

    def gist(self, fd: int, start: int, end: int) -> str | None:
        head = octets_in(fd, start, min(end, start + GLANCE))
        return (
            gist(head, head.find(b"\n") + 1, named=True) if head.startswith(b"From ") else None
        )

    def make_lock(self) -> locks.FileLock:
        return locks.MboxLock()

    def append_start(self, status: os.stat_result) -> int | None:
        return locks.length_before(self._dotlock, status)

    def is_changing(self, fd: int) -> bool:
        return locks.is_changing(fd, self._dotlock)

    @property
    def _dotlock(self) -> str:
        return f"{self.path}.lock"


def quote_from(data: bytes) -> bytes:
    """Return *data* with a ``>`` before every ``From `` line, quoted ones too."""
    return _FROM.sub(rb">\1", data) if b"From " in data else data


def unquote_from(data: bytes) -> bytes:
    """Return what :func:`quote_from` was given."""
    return _QUOTED_FROM.sub(rb"\1", data) if b"From " in data else data


def encode(mail: Mail) -> list[bytes]:
    """Return the mboxrd entry, in pieces, the blank line behind it included."""
    envelope, content, _ = mail.sealed()
    sender = _percent_encoded(envelope.mail_from)[:_LONGEST_ADDRESS] or "MAILER-DAEMON"
    date = envelope.received.astimezone(timezone.utc).ctime()
    # A last line without an end gets one; LF form would hide where the message ended.
    whole = content.endswith(b"\n") or not content
    return [
        f"From {sender} {date}\n".encode(),
        header_block(envelope),
        quote_from(to_lf(content) if whole else content),
        b"\n" if whole else b"\n\n",
    ]


def decode(entry: bytes) -> Mail:
    """Return the mail of which :func:`encode` made *entry*, altered or not.

    *entry* runs from its ``From `` line up to the next, or to the end of the file, where
    an append that nobody finished may have left NULs or a part of ``From ``. Raises
    FormatError where no envelope stands above it.
    """
    if not entry.startswith(b"From "):
        raise FormatError("an mbox entry begins with a From line")
    data = unquote_from(entry[entry.find(b"\n") + 1 :])
    envelope, start = split_block(data)
    stored = data[start:]
    mail = mail_of(envelope, stored, _CLOSINGS)
    if mail.is_altered and (partial := _partial_mark(stored)):
        without = mail_of(envelope, stored[:-partial], _CLOSINGS)
        return mail if without.is_altered else without
    return mail


def date_of(first: bytes) -> float | None:
    """Return the moment that the From line of an entry names, or None."""
    if not (date := DATED_FROM.match(first)):
        return None
    try:
        fields = parsedate_tz(date[1].decode("ascii", "replace"))
        return mktime_tz(fields) if fields else None
    except PARSER_FAULTS:
        return None


def is_mbox(head: bytes) -> bool:
    """Tell whether a file that begins with *head* is an mbox.

    A program may have put lines above the first entry of one that is ours.
    """
    return DATED_FROM.match(head) is not None or _OUR_FROM.search(head) is not None


def is_torn(entry: bytes, before: int | None) -> bool:
    """Tell whether *entry*, the last of its file, is the rest of an append of ours.

    A lock of ours that nobody gave back tells how many octets of the entry, *before*,
    stood there when that append began, None is without such a lock. With it, all that is
    not as it was sent is torn. Without, what ends in its blank line may be a message that
    somebody shortened, and is none.
    """
    was_unfinished = before is not None and before <= 0
    if not was_unfinished and entry.endswith(b"\n\n"):
        return False  # nearly always; to decode one of 300 MiB would take 5 s
    data = unquote_from(entry[entry.find(b"\n") + 1 :])
    try:
        envelope, start = split_block(data)
    except FormatError:
        return _is_begun(entry) or (was_unfinished and has_block(data))
    if not decode(entry).is_altered:
        return False
    return was_unfinished or is_short(data[start:], envelope.size)


def mend(entry: bytes, before: int | None) -> Mended:
    """Return what to do about the last entry of an mbox before the next is appended.

    *before* is that of :func:`is_torn`. An append that nobody finished was not
    acknowledged, and is cut off where a lock tells so; what looks like one is set aside.
    Whatever else stands there stays, with a blank line behind it.
    """
    kept = entry.rstrip(b"\0")  # a power cut may leave the length and not the octets
    if not kept:
        return Mended(0)
    was_unfinished = before is not None and before <= 0
    if is_torn(kept, before):
        return Mended(0, is_sure=was_unfinished)
    partial = _partial_mark(kept)
    if partial and (before == len(kept) - partial or _is_whole(kept[:-partial])):
        kept = kept[:-partial]
    if kept.endswith(_BLANKS):
        return Mended(len(kept))
    tail = kept[-2:]
    return Mended(len(kept), b"\n\n"[len(tail) - len(tail.rstrip(b"\n")) :])


def _is_whole(entry: bytes) -> bool:
    try:
        return not decode(entry).is_altered
    except FormatError:
        return False


def _partial_mark(data: bytes) -> int:
    """Return how many octets at the end of *data* may be a new append's first ones.

    Where a power cut left the length of a file and not its octets, these are NULs.
    """
    end = len(data.rstrip(b"\n"))
    if data[:end].endswith(b"\0"):
        return len(data) - len(data[:end].rstrip(b"\0"))
    for start in (b"F", b"Fr", b"Fro", b"From"):
        if data.endswith(tuple(blank + start for blank in _BLANKS)):
            return len(start)
    return 0


def _is_begun(entry: bytes) -> bool:
    """Tell whether *entry* is the beginning of one of ours, and ends within its block."""
    first, newline, data = entry.partition(b"\n")
    if not newline:
        return first.startswith(b"From ") or b"From ".startswith(first)
    *lines, last = re.sub(rb"\n[ \t]", b" ", data).split(b"\n")
    if not all(map(bytes.startswith, lines, BLOCK_NAMES)):
        return False
    if len(lines) >= len(BLOCK_NAMES):  # a line may also end where the next was to fold
        return len(lines) == len(BLOCK_NAMES) and not last
    name = BLOCK_NAMES[len(lines)]
    return last.startswith(name) or name.startswith(last)


def _percent_encoded(address: str) -> str:
    """Return *address*, which may hold octets that are no UTF-8, without spaces."""
    octets = address.encode("utf-8", "surrogateescape")
    return quote_from_bytes(octets, safe="@.+-_=!#$&'*/?^`{|}~")
