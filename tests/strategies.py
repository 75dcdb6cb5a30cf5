"""Messages and envelopes of every sort, for hypothesis."""

from __future__ import annotations

from datetime import timezone

from hypothesis import strategies as st

from mailhandlers import Envelope
from mailhandlers.mail import Mail

# aiosmtpd decodes commands with surrogateescape: any octets may stand in an address.
octets_as_text = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
anything = st.one_of(
    octets_as_text,
    st.text(max_size=60),
    st.sampled_from(
        ["", "eva@example.com", "a\rX-Envelope: {}", "x" * 1200, "ß@ü.test", "\x85"]
    ),
)

_PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\n\n\n", b" ", b"\t", b".", b"\0", b"\xe9"),
    *(b"From ", b">From ", b">>From ", b"F", b"Fr", b"Fro", b"From", b"\nFrom ", b"\n>From "),
    *(b"}", b"}\n ", b"}\r\n\t", b'{"id": "', b'X-Envelope: {"id": ""}\n', b"\xff" * 40),
    *(b"Status: RO\n", b"Content-Length: 3\n", b"\nLines: 1\n x\n", b"\n\nF", b"\n\nFrom"),
    *(b"Subject: =?utf-8?q?=C3?= \xff\n", b"Date: Mon, 99\n", b"To: a@b, (\n", b"Cc: <>\n"),
    *(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", b"\n--b--\n", b"Received\n"),
    *(
        b"Content-Type: text/html; charset=no\n",
        b"Content-Disposition: attachment; filename=\n",
    ),
    *("\u2028é\U0001f600\x7f".encode(), b"x" * 998),
]
contents = st.lists(
    st.one_of(st.sampled_from(_PIECES), st.binary(max_size=8)), max_size=12
).map(b"".join)

# What SMTP carries is whole lines.
wire_contents = st.just(b"") | contents.map(lambda content: content + b"\r\n")


@st.composite
def envelopes(draw: st.DrawFn, size: int | None = None) -> Envelope:
    """Any envelope that aiosmtpd could hand over, of a message of *size* octets."""
    return Envelope(
        id=draw(anything),
        received=draw(st.datetimes(timezones=st.just(timezone.utc))),
        peer=draw(anything),
        helo=draw(anything),
        protocol=draw(st.sampled_from(["SMTP", "ESMTP", "ESMTPSA", "UTF8SMTPS"])),
        tls=draw(st.none() | anything),
        auth=draw(st.none() | anything),
        mail_from=draw(anything),
        mail_options=draw(st.lists(anything, max_size=2)),
        rcpt_tos=draw(st.lists(anything, max_size=4)),
        size=draw(st.integers(0, 2**40)) if size is None else size,
    )


def mails(content: st.SearchStrategy[bytes] = contents) -> st.SearchStrategy[Mail]:
    """A message and its envelope, which has its checksum."""
    return content.flatmap(
        lambda made: envelopes(len(made)).map(lambda envelope: Mail(envelope, made).sealed())
    )


wire_mails = mails(wire_contents)
