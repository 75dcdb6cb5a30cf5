"""One message: its SMTP facts and its bytes, its moment and its name. The facts as JSON.

What SMTP says of a message (RFC 5321's envelope, the session it came through) stands
beside the message, never in it: a header may claim anything.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import re
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""From when a moment's seconds count."""
_HOST = socket.gethostname()
_LONGEST_HOST = 100  # the rest of a name has room beside it, in any folder
# As Maildirs have it, of other programs as well.
_MOMENT = re.compile(r"(?P<second>[0-9]{9,11})\.(?:M(?P<part>[0-9]{6}))?", re.ASCII)
_ID = re.compile(r"(\d{10})\.M(\d{6})P\d+Q\d+\.[A-Za-z0-9._-]+", re.ASCII)
_UNIQUE_NAME = re.compile(r"[0-9]{9,12}\.[\w.,=+%@~-]{1,180}", re.ASCII)
_clock = threading.Lock()
_last = 0
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Envelope:
    """What SMTP said about one message: who sent it to whom, how, and when.

    Where another program stored the message, its headers tell as much of this as they can,
    and ``protocol`` is empty.

    ``id`` (str)
        The unique name of the message, ``<sec>.M<usec>P<pid>Q<n>.<host>``. The ids that one
        server gives sort in order of arrival.
    ``received`` (datetime)
        When the message was complete, to the microsecond, in UTC.
    ``peer`` (str)
        The client's address, such as ``127.0.0.1:54321`` or ``[::1]:54321``. Empty if unknown.
    ``helo`` (str)
        The name that the client gave with EHLO or HELO. It may be anything.
    ``protocol`` (str)
        The keyword of RFC 3848 or RFC 6531, such as ``ESMTPSA``; ``local`` if the message came
        through ``mailhandlers sendmail``.
    ``tls`` (str or None)
        The version of TLS, such as ``TLSv1.3``. None if the session was not encrypted.
    ``auth`` (str or None)
        The name of the user who logged in, or None. There is never a password.
    ``mail_from`` (str)
        The reverse-path (the address of MAIL FROM). Empty for ``<>``, the sender of a bounce.
    ``mail_options`` (list of str)
        The parameters of MAIL FROM, such as ``BODY=8BITMIME``.
    ``rcpt_tos`` (list of str)
        The accepted recipients, in the order in which the client named them.
    ``size`` (int)
        The length of the message as received, in octets.
    ``sha256`` (str or None)
        The SHA-256 of the message as received, in hexadecimal. None if version 1.0 stored it.
    """

    id: str
    received: datetime
    peer: str
    helo: str
    protocol: str
    tls: str | None
    auth: str | None
    mail_from: str
    mail_options: list[str]
    rcpt_tos: list[str]
    size: int
    sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, in order, ready for :func:`json.dumps`."""
        record = dict(self.__dict__)
        stamp = self.received.astimezone(timezone.utc).replace(tzinfo=None)
        record["received"] = stamp.isoformat(timespec="microseconds") + "Z"
        return record

    def to_json(self) -> str:
        """Return the fields as one JSON object in ASCII, in which all else is escaped."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, record: object) -> Envelope:
        """Return the envelope that *record* holds, a dict as :meth:`to_dict` returns.

        Keys that are no fields are ignored. Raises ValueError if a field is missing or of
        the wrong type.
        """
        if not isinstance(record, dict):
            raise ValueError("an envelope is a JSON object")
        values: dict[str, Any] = {}
        for name, types in _TYPES.items():
            value = record.get(name)
            if not isinstance(value, types) or isinstance(value, bool):
                raise ValueError(f"an envelope's {name!r} can't be {value!r:.80}")
            values[name] = value
        for name in ("mail_options", "rcpt_tos"):
            if not all(isinstance(item, str) for item in values[name]):
                raise ValueError(f"an envelope's {name!r} holds strings only")
        # Python 3.10 does not read the Z that RFC 3339 and everybody writes.
        received = datetime.fromisoformat(values["received"].replace("Z", "+00:00"))
        if received.tzinfo is None:
            raise ValueError("an envelope's 'received' names its time zone")
        try:
            values["received"] = received.astimezone(timezone.utc)
        except OverflowError:
            raise ValueError(
                "an envelope's 'received' is before the year 1, or too late"
            ) from None
        return cls(**values)

    @classmethod
    def from_json(cls, text: str | bytes) -> Envelope:
        """Return the envelope in *text*, which :meth:`to_json` wrote.

        Raises ValueError if there is none.
        """
        return cls.from_dict(json.loads(text))


_STRINGS = ("id", "received", "peer", "helo", "protocol", "mail_from")
_TYPES: dict[str, Any] = {
    field.name: str if field.name in _STRINGS else list if "list" in str(field.type) else int
    for field in dataclasses.fields(Envelope)
}
_TYPES["tls"] = _TYPES["auth"] = _TYPES["sha256"] = (str, type(None))


UNKNOWN = Envelope(
    id="",
    received=datetime.fromtimestamp(0, timezone.utc),
    peer="",
    helo="",
    protocol="",
    tls=None,
    auth=None,
    mail_from="",
    mail_options=[],
    rcpt_tos=[],
    size=0,
)
"""The envelope of a message of which nothing is known: one that never was in a store."""


def local_time(moment: datetime) -> datetime:
    """Return *moment* as this computer's clock has it, or as it is where that can't be told.

    A sender may claim any moment: Windows has no local time before 1970, and no system has
    one before the year 1.
    """
    try:
        return moment.astimezone()
    except (OSError, OverflowError):
        return moment


# A quote inside a JSON string has a backslash before it: no sender can write such a mark.
_PLAIN = rb'"[ !#-\[\]-~]*"'  # a JSON string in ASCII that needs no escapes
_LIST = rb"\[(?:%b(?:, )?)*\]" % _PLAIN
_MARK = b', "mail_from": '
_GIST = re.compile(
    _MARK + b'(%b), "mail_options": %b, "rcpt_tos": (%b)' % (_PLAIN, _LIST, _LIST)
)
_NAME = re.compile(rb'\{"id": (%b)' % _PLAIN)


def gist_in(record: bytes, start: int, end: int, *, named: bool = False) -> str | None:
    """Return the sender and the recipients in *record*, as JSON with commas between.

    A JSON object as :meth:`Envelope.to_dict` returns begins at *start*, and ends at *end* or
    earlier. Where it is *named*, its id comes first. None where it isn't as our programs write
    it, or needs escapes. This takes 1 us; to decode the object takes 7 us.
    """
    # A pattern that searches for the mark takes three times as long.
    mark = record.find(_MARK, start, end)
    found = _GIST.match(record, mark, end) if mark >= 0 else None
    if found is None:
        return None
    gist = b", ".join(found.groups()).decode()
    if not named:
        return gist
    name = _NAME.match(record, start, end)
    return None if name is None else f"{name[1].decode()}, {gist}"


def sha256(content: bytes) -> str:
    """Return the SHA-256 of *content*, in hex."""
    import hashlib  # OpenSSL's: 3 ms, which a reader of no message need not wait for

    return hashlib.sha256(content).hexdigest()


class Mail(NamedTuple):
    """One message as a handler stores it: its envelope, and its octets, which nobody parsed.

    ``envelope`` (Envelope)
        Who sent it to whom, how, and when.
    ``content`` (bytes)
        The message as it was received.
    ``is_altered`` (bool)
        Whether ``content`` is no longer what was received: another program changed it.
    """

    envelope: Envelope
    content: bytes
    is_altered: bool = False

    def sealed(self) -> Mail:
        """Return the same message, with the checksum of its content in its envelope.

        A checksum that is there already stays. To compute one takes 6 us for 2 kB and 20 ms
        for 30 MiB: call this in the thread that writes, not in an event loop.
        """
        if self.envelope.sha256 is not None:
            return self
        envelope = dataclasses.replace(self.envelope, sha256=sha256(self.content))
        return self._replace(envelope=envelope)

    def renamed(self) -> Mail:
        """Return the same message with a new ``id``, and now as the time of ``received``."""
        identity = Identity.now()
        envelope = dataclasses.replace(
            self.envelope, id=identity.id, received=identity.received
        )
        return self._replace(envelope=envelope)


@dataclasses.dataclass(frozen=True)
class Identity:
    """The name and the moment of one message, from one reading of the clock."""

    id: str
    received: datetime

    @classmethod
    def now(cls) -> Identity:
        """Return the next identity of this process; a later one always sorts later."""
        global _last
        with _clock:
            # A clock that is set back must not change the order of arrival.
            _last = max(_last + 1, time.time_ns() // 1000)
            return cls.at(_last, os.getpid(), next(_numbers), _HOST)

    @classmethod
    def at(cls, microseconds: int, pid: int, number: int, host: str) -> Identity:
        """Return the identity of the *number*-th message of process *pid* on *host*.

        *microseconds* count from the epoch. Names are those of the Maildir
        specification, padded with zeros so that they sort by arrival.
        """
        seconds, rest = divmod(microseconds, 1_000_000)
        return cls(
            f"{seconds:010d}.M{rest:06d}P{pid}Q{number:06d}.{_in_a_name(host)}",
            EPOCH + timedelta(microseconds=microseconds),
        )


def go_on_after(name: str) -> bool:
    """Let the next identities of this process sort behind *name*, which is one.

    Returns whether that is later than the clock has it now.
    """
    global _last
    match = _ID.fullmatch(name)
    assert match is not None
    with _clock:
        _last = max(_last, int(match[1]) * 1_000_000 + int(match[2]))
        return _last > time.time_ns() // 1000


@functools.cache
def _in_a_name(host: str) -> str:
    # A Maildir reader takes "/" for a folder and ":" for the start of the flags.
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in host)
    return safe[:_LONGEST_HOST] or "localhost"


def is_id(name: str) -> bool:
    """Tell whether *name* is an identity's, whatever follows it."""
    return _ID.fullmatch(name) is not None


def is_unique_name(name: str) -> bool:
    """Tell whether *name* is one as Maildirs have it, of any program, without flags."""
    return _UNIQUE_NAME.fullmatch(name) is not None


def moment_of(name: str) -> datetime | None:
    """Return when the message arrived whose id or file name is *name*, if that tells it."""
    match = _MOMENT.match(name)
    if match is None:
        return None
    return EPOCH + timedelta(seconds=int(match["second"]), microseconds=int(match["part"] or 0))
