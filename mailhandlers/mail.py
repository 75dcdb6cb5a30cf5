"""One message: its SMTP facts and its bytes. The facts as JSON, both ways.

What SMTP says of a message (RFC 5321's envelope, the session it came through) stands
beside the message, never in it: a header may claim anything.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .identity import Identity


@dataclasses.dataclass(frozen=True)
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
    """The ``with`` keyword of RFC 3848 or RFC 6531, such as ``ESMTPSA``.

    Empty where another program stored the message: the rest is then from its headers.
    """
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
    sha256: str | None = None
    """The SHA-256 of the message as received, in hex; None where version 1.0 stored it."""

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
        return cls(**{**values, "received": received})

    @classmethod
    def from_json(cls, text: str | bytes) -> Envelope:
        """Return the envelope that :meth:`to_json` wrote; raises ValueError if it is none."""
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


def sha256(content: bytes) -> str:
    """Return the SHA-256 of *content*, in hex."""
    import hashlib  # OpenSSL's: 3 ms, which a reader of no message need not wait for

    return hashlib.sha256(content).hexdigest()


class Mail(NamedTuple):
    """One message before anybody interprets its content."""

    envelope: Envelope
    content: bytes
    is_altered: bool = False
    """Whether *content* is no longer what was received: another program changed it."""

    def sealed(self) -> Mail:
        """Return the same message with the checksum of its content in its envelope.

        A checksum that is there already stays. It takes 6 us for 2 kB and 20 ms for 30 MiB:
        who writes the message calls this, not the event loop.
        """
        if self.envelope.sha256 is not None:
            return self
        envelope = dataclasses.replace(self.envelope, sha256=sha256(self.content))
        return self._replace(envelope=envelope)

    def renamed(self) -> Mail:
        """Return the same message under the next identity of this process."""
        identity = Identity.now()
        envelope = dataclasses.replace(
            self.envelope, id=identity.id, received=identity.received
        )
        return self._replace(envelope=envelope)
