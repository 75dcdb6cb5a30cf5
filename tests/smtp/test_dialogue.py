"""What ``mailcatcher.sessions`` tells of the dialogue of each connection."""

from __future__ import annotations

import base64
import smtplib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from conftest import Certificate, server_side
from support import HELLO, HOST, Client, controlled, reserved_port, wait_until

from mailhandlers import MailCatcher, MailFile, Reply
from mailhandlers.smtp.dialogue import Dialogue, Recorder

PASSWORD = "s3cret-of-eva"


@contextmanager
def recorded(path: Path, recorder: Recorder, **settings: Any) -> Iterator[Controller]:
    """Serve a MailFile with auth=any, recorded, with *settings* of aiosmtpd."""

    class Recording(Controller):
        def factory(self) -> SMTP:
            return recorder.smtp(self.handler, **self.SMTP_kwargs)

    reservation, port = reserved_port()
    controller = Recording(MailFile(path, auth="any"), hostname=HOST, port=port, **settings)
    with reservation:
        controller.start()
        recorder.clear()  # of the connection by which the controller tries the port
        try:
            yield controller
        finally:
            controller.stop()


def test_a_session_is_told_from_ehlo_to_quit(mailcatcher: MailCatcher) -> None:
    with Client(mailcatcher.port) as client:
        client.send(options="SIZE=32")
        client.command("QUIT")
    (session,) = mailcatcher.sessions
    assert session.commands[1:] == [
        ("MAIL", "FROM:<eva@example.com> SIZE=32", "250 OK"),
        ("RCPT", "TO:<bob@example.com>", "250 OK"),
        ("DATA", "", "250 OK"),
        ("QUIT", "", "221 Bye"),
    ]
    ehlo = session.commands[0]
    assert (ehlo.verb, ehlo.argument) == ("EHLO", "laptop")
    assert ehlo.reply.splitlines()[0] == "250-mailcatcher"
    assert ehlo.reply.splitlines()[-1] == "250 HELP"
    envelope = mailcatcher.latest().envelope
    assert envelope is not None
    assert (session.peer, session.helo) == (envelope.peer, "laptop")
    assert (session.protocol, session.tls, session.auth) == ("ESMTP", None, None)


def test_what_failed_is_told_too(mailcatcher: MailCatcher) -> None:
    long = "x" * 3000
    lines: list[tuple[str | bytes, tuple[str, str, str]]] = [
        ("RCPT TO:<bob@example.com>", ("RCPT", "TO:<bob@example.com>", "503")),
        ("HELO", ("HELO", "", "501")),
        ("helo laptop", ("HELO", "laptop", "250")),
        ("", ("", "", "500")),
        ("FOO bar baz", ("FOO", "bar baz", "500")),
        ("STARTTLS", ("STARTTLS", "", "454")),
        (f"NOOP {long}", ("", "", "500")),
        (f"NOOP {long[:800]}", ("NOOP", long[:800], "500")),
        ("DATA", ("DATA", "", "503")),
        (b"\xff\xfe x", ("\udcff\udcfe", "x", "500")),
        ("MAIL FROM:<>", ("MAIL", "FROM:<>", "250")),
        ("EXPN staff", ("EXPN", "staff", "502")),
        ("quit now", ("QUIT", "now", "501")),
        ("quit", ("QUIT", "", "221")),
    ]
    with Client(mailcatcher.port) as client:
        for line, (_, _, code) in lines:
            assert client.command(line)[:3] == code
    (session,) = mailcatcher.sessions
    told = [(verb, argument, reply[:3]) for verb, argument, reply in session.commands]
    assert told == [expected for _, expected in lines]
    assert session.protocol == "SMTP"


def test_content_is_no_command(mailcatcher: MailCatcher) -> None:
    content = b"QUIT\r\n\r\nEHLO x\r\n..\r\nDATA\r\n" * 3
    with Client(mailcatcher.port) as client:
        client.send(content)
        client.send(b"x" * 5000 + b"\r\n", helo="again")
        assert client.command("NOOP") == "250 OK"
    (session,) = mailcatcher.sessions
    message = ["EHLO", "MAIL", "RCPT", "DATA"]
    assert [command.verb for command in session.commands] == [*message, *message, "NOOP"]
    assert session.commands[7].reply == "500 Line too long (see RFC5321 4.5.3.1.6)"
    assert session.helo == "again"


def test_a_message_under_way_is_told(mailcatcher: MailCatcher) -> None:
    with Client(mailcatcher.port) as client:
        client.begin()
        assert mailcatcher.sessions[0].commands[-1].reply[:3] == "354"
        client.finish(HELLO)
        assert mailcatcher.sessions[0].commands[-1] == ("DATA", "", "250 OK")


@pytest.mark.mailcatcher(auth=f"eva:{PASSWORD}")
def test_no_password_is_told(mailcatcher: MailCatcher) -> None:
    plain = base64.b64encode(f"\0eva\0{PASSWORD}".encode()).decode()
    secret = base64.b64encode(PASSWORD.encode()).decode()
    with Client(mailcatcher.port) as client:
        for lines in [
            ["EHLO laptop"],
            [f"AUTH PLAIN {plain}x"],
            [f" AUTH PLAIN {plain}"],
            [f"AUTH\tPLAIN\t{plain}"],
            [f"AUTH PLAIN {plain} {plain}"],
            ["AUTH PLAIN " + plain * 20],
            ["AUTH PLAIN " + plain * 600],
            [f"AUTH CRAM-MD5 {plain}"],
            ["AUTH LOGIN", "ZXZh", PASSWORD],
            ["AUTH LOGIN ZXZh", "*"],
            ["auth login ZXZh", secret],
            [f"AUTH PLAIN {plain}"],
        ]:
            for line in lines:
                client.command(line)
        client.command("NOOP")
    (session,) = mailcatcher.sessions
    for told in (repr(session), repr(session.commands), str(mailcatcher.sessions)):
        assert not any(secret_text in told for secret_text in (PASSWORD, plain, secret))
    arguments = [argument for verb, argument, _ in session.commands if verb == "AUTH"]
    assert arguments == [
        "PLAIN",
        "PLAIN",
        "PLAIN",
        "CRAM-MD5",
        "LOGIN",
        "LOGIN",
        "login",
        "PLAIN",
    ]
    assert [reply[:3] for *_, reply in session.commands[-3:]] == ["235", "503", "250"]
    assert session.auth == "eva"
    assert session.protocol == "ESMTPA"


def test_no_part_of_an_overlong_line_is_told(mailcatcher: MailCatcher) -> None:
    with Client(mailcatcher.port) as client:
        client.socket.sendall(b"AUTH PLAIN " + b"x" * 5000)
        wait_until(lambda: mailcatcher.sessions[0]._overlong)
        client.socket.sendall(PASSWORD.encode() + b"\r\n")
        assert client.reply()[:3] == "500"
        client.command("NOOP again")
    (session,) = mailcatcher.sessions
    assert session.commands == [
        ("", "", "500 Command line too long"),
        ("NOOP", "again", "250 OK"),
    ]


def test_starttls_and_530_are_told(tmp_path: Path, certificate: Certificate) -> None:
    recorder = Recorder()
    tls = {"tls_context": server_side(certificate), "require_starttls": True}
    with (
        recorded(tmp_path / "latest.mail", recorder, **tls) as controller,
        smtplib.SMTP(HOST, controller.port, "laptop") as client,
    ):
        assert client.docmd("MAIL", "FROM:<a@b>")[0] == 530
        client.starttls(context=certificate.client)
        client.login("eva", PASSWORD)
    (session,) = recorder
    assert [(verb, argument, reply[:3]) for verb, argument, reply in session.commands] == [
        ("MAIL", "FROM:<a@b>", "530"),
        ("EHLO", "laptop", "250"),
        ("STARTTLS", "", "220"),
        ("EHLO", "laptop", "250"),
        ("AUTH", "PLAIN", "235"),
        ("QUIT", "", "221"),
    ]
    assert session.tls is not None
    assert session.tls.startswith("TLS")
    assert (session.protocol, session.auth, session.helo) == ("ESMTPSA", "eva", "laptop")


def test_smtps_is_told(tmp_path: Path, certificate: Certificate) -> None:
    recorder = Recorder()
    tls = {"ssl_context": server_side(certificate)}
    with (
        recorded(tmp_path / "latest.mail", recorder, **tls) as controller,
        smtplib.SMTP_SSL(HOST, controller.port, context=certificate.client) as client,
    ):
        client.login("eva", PASSWORD)
    (session,) = recorder
    assert session.protocol == "ESMTPSA"
    assert session.tls is not None


class TestTLS:
    """A suite that wants STARTTLS overrides a fixture."""

    @pytest.fixture
    def mailcatcher_tls(self, certificate: Certificate) -> ssl.SSLContext:
        return server_side(certificate)

    def test_mailcatcher_offers_starttls(
        self, mailcatcher: MailCatcher, certificate: Certificate
    ) -> None:
        with Client(mailcatcher.port) as client:
            assert "STARTTLS" in client.command("EHLO laptop")
            client.starttls(certificate.client)
            assert client.send() == "250 OK"
        (session,) = mailcatcher.sessions
        envelope = mailcatcher.latest().envelope
        assert envelope is not None
        assert (session.protocol, session.tls) == (envelope.protocol, envelope.tls)
        assert session.protocol == "ESMTPS"


def test_each_connection_has_a_session(mailcatcher: MailCatcher) -> None:
    assert list(mailcatcher.sessions) == []
    with Client(mailcatcher.port) as first:
        assert [session.commands for session in mailcatcher.sessions] == [[]]
        with Client(mailcatcher.port) as second:
            second.command("EHLO second")
            first.command("EHLO first")
            assert [session.helo for session in mailcatcher.sessions] == ["first", "second"]
            peers = [session.peer for session in mailcatcher.sessions]
            sockets = [client.socket.getsockname() for client in (first, second)]
            assert peers == [f"{host}:{port}" for host, port in sockets]
    mailcatcher.sessions.clear()
    assert len(mailcatcher.sessions) == 0


def test_it_may_be_read_while_the_server_runs(mailcatcher: MailCatcher) -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                for session in mailcatcher.sessions:
                    assert isinstance(session, Dialogue)
                    assert all(command.reply for command in session.commands)
                    repr(session)
        except BaseException as error:
            failures.append(error)
            raise

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(10):
            with Client(mailcatcher.port) as client:
                for _ in range(20):
                    client.command("EHLO laptop")
    finally:
        done.set()
        reader.join()
    assert failures == []
    assert [len(session.commands) for session in mailcatcher.sessions] == [20] * 10


@pytest.mark.mailcatcher(replies=[Reply("EHLO", "421 4.3.2 Bye"), Reply("QUIT", "221 See you")])
def test_scripted_replies_are_told(mailcatcher: MailCatcher) -> None:
    with Client(mailcatcher.port) as client:
        client.command("EHLO laptop")
    with Client(mailcatcher.port) as client:
        client.command("QUIT")
    first, second = mailcatcher.sessions
    assert first.commands == [("EHLO", "laptop", "421 4.3.2 Bye")]
    assert first.helo == ""
    assert second.commands == [("QUIT", "", "221 See you")]


def test_a_server_without_recorder_is_the_stock_one(tmp_path: Path) -> None:
    handler = MailFile(tmp_path / "latest.mail", auth="any")
    with controlled(handler) as controller, Client(controller.port) as client:
        client.command("NOOP")
        assert type(controller.smtpd) is SMTP
