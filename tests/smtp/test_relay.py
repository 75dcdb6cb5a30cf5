"""Stored mail is sent on to a server octet for octet, or it is said why not."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import aiosmtpd
import pytest
from shell import raw_mail
from support import PATIENCE

from mailhandlers import MailCatcher, Reply
from mailhandlers.smtp.relay import Relay, RelayError


@pytest.fixture
def target() -> Iterator[MailCatcher]:
    with MailCatcher(max_line=100_000) as catcher:
        yield catcher


def relay(catcher: MailCatcher, users: str | None = None, tls: str = "starttls") -> Relay:
    return Relay((catcher.host, catcher.port), users, tls)


# Such a server takes a bare LF for the end of a line.
BEFORE_1_4_5 = pytest.mark.skipif(
    aiosmtpd.__version__ in ("1.4.3", "1.4.4", "1.4.4.post1", "1.4.4.post2"),
    reason="aiosmtpd is older than 1.4.5",
)
EXACT = [
    b"",
    b"\r\n",
    b"Subject: x\r\n\r\nHello\r\n",
    b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n\r\n",
    b".\r\n",
    b"a\rb\nc\0\xff\r\n",
    pytest.param(b"\n.a\r\n\r.b\r\n", marks=BEFORE_1_4_5),
    b"x" * 5000 + b"\r\n",
]


@pytest.mark.parametrize("content", EXACT)
def test_the_octets_arrive_as_they_are(target: MailCatcher, content: bytes) -> None:
    mail = raw_mail(content, ["bob@x", "carol@x"], "")
    with relay(target) as server:
        assert server.send(mail, mail.envelope.rcpt_tos) == []
        assert server.send(mail, ["real@x"]) == []
    first, second = target
    assert first.original_content == second.original_content == content
    assert (first.envelope.mail_from, first.envelope.rcpt_tos) == ("", ["bob@x", "carol@x"])
    assert second.envelope.rcpt_tos == ["real@x"]


def test_a_last_line_gets_its_end(target: MailCatcher) -> None:
    with relay(target) as server:
        server.send(raw_mail(b"Subject: x"), ["bob@x"])
    assert target.latest().original_content == b"Subject: x\r\n"


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r.\r\n", b"\n.\r"]
)
def test_no_message_smuggles_another(target: MailCatcher, end: bytes) -> None:
    smuggled = b"x" + end + b"MAIL FROM:<ceo@x>\r\nRCPT TO:<bob@x>\r\nDATA\r\n\r\n"
    with relay(target) as server:
        if end == b"\r\n.\n":  # the dot is doubled: a server takes one away
            server.send(raw_mail(smuggled), ["bob@x"])
            assert [message.original_content for message in target] == [smuggled]
            return
        with pytest.raises(RelayError, match="smuggling"):
            server.send(raw_mail(smuggled), ["bob@x"])
        with pytest.raises(RelayError, match="smuggling"):
            server.send(raw_mail(b"x" + end[:2]), ["bob@x"])
        assert server.send(raw_mail(b"\r\n"), ["bob@x"]) == []
    assert len(target) == 1


@pytest.mark.parametrize("address", ["a@x>\r\nRCPT TO:<c@x", "a@x> SIZE=1", "a b@x", "a\x00@x"])
def test_no_address_says_a_command(target: MailCatcher, address: str) -> None:
    with relay(target) as server, pytest.raises(RelayError, match="is no address"):
        server.send(raw_mail(b"\r\n"), [address])
    assert len(target) == 0


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"554 5.7.1 \x1b[31mGo away\r\n", "takes no mail: 554 5.7.1 \\x1b[31mGo away"),
        (b"220 hi\r\n500 No\r\n502 5.5.1 No\r\n", "takes no mail: 502 5.5.1 No"),
        (b"HTTP/1.1 400 Bad Request\r\n", "doesn't speak SMTP"),
    ],
)
def test_a_server_that_takes_no_mail(greeting: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def greet() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(greeting)
                while client.recv(100):
                    pass

        greeted = pool.submit(greet)
        address = server.getsockname()
        with pytest.raises(RelayError) as told, Relay(address):
            pass
        assert str(told.value) == f"127.0.0.1:{address[1]} {said}"
        greeted.result(PATIENCE)


def test_what_the_server_refuses_is_said(target: MailCatcher) -> None:
    mail = raw_mail(b"\r\n", sender="eva@x")
    refusals = [
        Reply("MAIL", "550 5.7.1 Not you", times=1),
        Reply("RCPT", "550 5.1.1 No such user", match="bob@x"),
        Reply("DATA", "554 5.6.0 No\n554 thanks", times=1),
    ]
    with target.replying(*refusals), relay(target) as server:
        with pytest.raises(RelayError, match=r"'eva@x' is refused: 550 5\.7\.1 Not you"):
            server.send(mail, ["bob@x"])
        with pytest.raises(RelayError, match=r"'bob@x' is refused: 550 5\.1\.1 No such user"):
            server.send(mail, ["bob@x"])
        with pytest.raises(RelayError, match=r"it is refused: 554 5\.6\.0 No"):
            server.send(mail, ["bob@x", "carol@x"])
        assert server.send(mail, ["dave@x"]) == []
    assert [message.envelope.rcpt_tos for message in target] == [["dave@x"]]


def test_who_is_not_refused_gets_it(target: MailCatcher) -> None:
    with (
        target.replying(Reply("RCPT", "550 5.1.1 No such user", match="bob@x")),
        relay(target) as server,
    ):
        [text] = server.send(raw_mail(b"\r\n"), ["bob@x", "carol@x"])
    assert text == "'bob@x' is refused: 550 5.1.1 No such user"
    assert target.latest().envelope.rcpt_tos == ["carol@x"]


def test_addresses_in_any_language(target: MailCatcher) -> None:
    mail = raw_mail("Subject: Grüße\r\n\r\n".encode(), sender="eva@münchen.example")
    with relay(target) as server:
        assert server.send(mail, ["jürgen@x"]) == []
    envelope = target.latest().envelope
    assert (envelope.mail_from, envelope.rcpt_tos) == ("eva@münchen.example", ["jürgen@x"])
    assert envelope.protocol == "UTF8SMTP"
    assert "BODY=8BITMIME" in envelope.mail_options


def test_a_message_that_needs_what_the_server_lacks() -> None:
    mail = raw_mail(b"\r\n")
    envelope = dataclasses.replace(mail.envelope, mail_options=["SMTPUTF8"])
    reply = Reply("EHLO", "250 laptop")
    with (
        MailCatcher(replies=[reply]) as catcher,
        relay(catcher) as server,
        pytest.raises(RelayError, match="needs SMTPUTF8"),
    ):
        server.send(mail._replace(envelope=envelope), ["bob@x"])


@pytest.mark.parametrize("served", ["starttls", "required", "smtps"])
def test_it_is_encrypted(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trustme")
    with MailCatcher(tls=served, auth="eva:secret", auth_required=True) as catcher:
        tls = "smtps" if served == "smtps" else "starttls"
        with pytest.raises(RelayError, match="isn't trusted"), relay(catcher, None, tls):
            pass
        monkeypatch.setenv("SSL_CERT_FILE", str(catcher.ca_file))
        with pytest.raises(RelayError, match="lets 'eva' not in: 535"):
            relay(catcher, "eva:wrong", tls).__enter__()
        with relay(catcher, "eva:secret", tls) as server:
            assert server.send(raw_mail(b"\r\n"), ["bob@x"]) == []
        envelope = catcher.latest().envelope
        assert envelope.tls
        assert envelope.auth == "eva"


def test_it_is_not_encrypted(target: MailCatcher) -> None:
    with pytest.raises(RelayError, match="offers no STARTTLS"):
        relay(target, tls="required").__enter__()


def test_no_password_is_sent_in_clear_beyond_this_computer(
    target: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailhandlers.smtp.endpoints.is_loopback", lambda name: False)
    with pytest.raises(RelayError, match="no password is sent in clear"):
        relay(target, "eva:secret").__enter__()
    said = [command.verb for command in target.sessions[-1].commands]
    assert "AUTH" not in said
