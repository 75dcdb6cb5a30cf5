"""The SMTP facts of one message, and their JSON form.

What SMTP says of a message (RFC 5321's envelope, the session it came through) stands
beside the message, never in it: a header may claim anything.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HOST = socket.gethostname()
_clock = threading.Lock()
_last = 0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Envelope:
    """Who sent one message to whom, how, and when.

    The JSON form has the same keys in the same order, so that what a file shows and
    what a test reads are one thing.
    """

    id: str
    """A Maildir base name, ``<sec>.M<usec>P<pid>Q<n>.<host>``: unique, sorting by arrival."""
    received: datetime
    """When the message was complete, to the microsecond, in UTC."""
    peer: str
    """The client's address, as ``127.0.0.1:54321`` or ``[::1]:54321``; empty when unknown."""
    helo: str
    """The name the client gave itself with HELO or EHLO. Anything may stand here."""
    protocol: str
    """The ``with`` keyword of RFC 3848 or RFC 6531, such as ``ESMTPSA``."""
    tls: str | None
    """The TLS version, such as ``TLSv1.3``, or None when the session was in clear."""
    auth: str | None
    """The user's name after a successful AUTH, else None. Never a password."""
    mail_from: str
    """The reverse-path; empty for the null sender ``<>`` of a bounce."""
    mail_options: list[str]
    """The parameters of MAIL FROM, such as ``BODY=8BITMIME``."""
    rcpt_tos: list[str]
    """The accepted forward-paths, in the order in which the client named them."""
    size: int
    """The message's length as received, in octets."""

    @classmethod
    def of(cls, server: SMTP, session: Session, envelope: SMTPEnvelope, size: int) -> Envelope:
        """Return what aiosmtpd knows of a message of *size* octets that is complete now."""
        identity = Identity.now()
        tls = _tls(server)
        auth = _login(session)
        return cls(
            id=identity.id,
            received=identity.received,
            peer=_peer(session.peer),
            helo=session.host_name or "",
            protocol=_protocol(session, envelope, tls, auth),
            tls=tls,
            auth=auth,
            mail_from="" if envelope.mail_from in (None, "<>") else str(envelope.mail_from),
            mail_options=list(envelope.mail_options),
            rcpt_tos=list(envelope.rcpt_tos),
            size=size,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in order, ready for :func:`json.dumps`."""
        record = dict(self.__dict__)
        stamp = self.received.astimezone(timezone.utc).replace(tzinfo=None)
        record["received"] = stamp.isoformat(timespec="microseconds") + "Z"
        return record

    def to_json(self) -> str:
        """Return one JSON object in ASCII: control characters and all else are escaped."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, record: object) -> Envelope:
        """Return the envelope in *record*, whose further keys are ignored.

        Raises ValueError when a field is missing or of the wrong type.
        """
        if not isinstance(record, dict):
            raise ValueError("an envelope is a JSON object")
        values = {}
        for name, kind in _KINDS.items():
            value = record.get(name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"an envelope's {name!r} can't be {value!r:.80}")
            values[name] = value
        for name in ("mail_options", "rcpt_tos"):
            if not all(isinstance(item, str) for item in values[name]):
                raise ValueError(f"an envelope's {name!r} holds strings only")
        # Python 3.10 does not read the Z that RFC 3339 and everybody writes.
        received = datetime.fromisoformat(values["received"].replace("Z", "+00:00"))
        if received.tzinfo is None:
            raise ValueError("an envelope's 'received' names its time zone")
        return cls(**{**values, "received": received})

    @classmethod
    def from_json(cls, text: str | bytes) -> Envelope:
        """Return the envelope that :meth:`to_json` wrote; raises ValueError if it is none."""
        return cls.from_dict(json.loads(text))

    def headers(self) -> list[tuple[str, str]]:
        """Return the block that stands above a stored message, as unfolded headers.

        The first four are for people and mail clients (RFC 5321 section 4.4 has
        Return-Path, the X- names are aiosmtpd's); the last is the whole envelope.
        """
        return [
            ("Return-Path", f"<{_shown(self.mail_from)}>"),
            ("X-Peer", _shown(self.peer)),
            ("X-MailFrom", _shown(self.mail_from)),
            ("X-RcptTo", ", ".join(map(_shown, self.rcpt_tos))),
            ("X-Envelope", self.to_json()),
        ]


_STRINGS = ("id", "received", "peer", "helo", "protocol", "mail_from")
_KINDS: dict[str, Any] = {
    field.name: str if field.name in _STRINGS else list if "list" in str(field.type) else int
    for field in fields(Envelope)
}
_KINDS["tls"] = _KINDS["auth"] = (str, type(None))


@dataclass(frozen=True)
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
        # A Maildir reader takes "/" for a folder and ":" for the start of the flags.
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in host)
        return cls(
            f"{seconds:010d}.M{rest:06d}P{pid}Q{number:06d}.{safe or 'localhost'}",
            _EPOCH + timedelta(microseconds=microseconds),
        )


def _peer(peer: object) -> str:
    """Return a socket's peer name as text; a Unix socket has none."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(peer or "")


def _tls(server: SMTP) -> str | None:
    # STARTTLS replaces the transport, so one question serves for it and for SMTPS.
    layer = server.transport and server.transport.get_extra_info("ssl_object")
    return layer.version() if layer else None


def _login(session: Session) -> str | None:
    if not session.authenticated:
        return None
    login = getattr(session.auth_data, "login", None)
    return login.decode("utf-8", "surrogateescape") if isinstance(login, bytes) else login


def _protocol(
    session: Session, envelope: SMTPEnvelope, tls: str | None, auth: str | None
) -> str:
    """Return the keyword of RFC 3848; RFC 6531 has those for SMTPUTF8."""
    if not session.extended_smtp:
        return "SMTP"
    keyword = "UTF8SMTP" if envelope.smtp_utf8 else "ESMTP"
    return keyword + ("S" if tls else "") + ("" if auth is None else "A")


def _shown(text: str) -> str:
    """Return *text* for people to see: nothing in it moves a cursor or ends a header."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as surrogateescape keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
