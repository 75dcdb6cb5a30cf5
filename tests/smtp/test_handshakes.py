"""A TLS handshake that fails: one line that names TLS and the peer, and it has five seconds."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from smtp.test_logins import flags
from support import HOST, PATIENCE, Client, Server, reserved_port, wait_until

from mailhandlers import MailCatcher, MaildirSink
from mailhandlers.smtp import servers


def distrust(client: socket.socket) -> None:
    with suppress(ssl.SSLError):
        ssl.create_default_context().wrap_socket(client, server_hostname="localhost")


def speak_plain(client: socket.socket) -> None:
    client.sendall(b"EHLO laptop\r\nMAIL FROM:<eva@example.com>\r\n")


def hang_up(client: socket.socket) -> None:
    client.close()


def hang_up_amid(client: socket.socket) -> None:
    client.sendall(bytes.fromhex("160301"))  # the beginning of a TLS record
    client.close()


def be_silent(client: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""


UNKNOWN_CA = "tlsv1 alert unknown ca"
KINDS = [
    (distrust, UNKNOWN_CA),
    (speak_plain, "wrong version number"),
    (hang_up, "the client hung up"),
    (hang_up_amid, "the client hung up"),
]
LAYERS = pytest.mark.parametrize("layer", ["starttls", "smtps", "starttls, before EHLO"])


def fail(port: int, layer: str, kind: Callable[[socket.socket], None]) -> str:
    """Fail the handshake as *kind* does, and return the name of the client."""
    if layer == "smtps":
        with socket.create_connection((HOST, port), timeout=PATIENCE) as client:
            name = "{}:{}".format(*client.getsockname())
            kind(client)
        return name
    with Client(port) as session:
        name = "{}:{}".format(*session.socket.getsockname())
        for command in ["STARTTLS"] if "before" in layer else ["EHLO laptop", "STARTTLS"]:
            assert session.command(command)[:1] == "2"
        session._replies.close()  # else the socket stays open beside it
        kind(session.socket)
    return name


@LAYERS
@pytest.mark.parametrize(("kind", "reason"), KINDS)
def test_a_catcher_tells_in_one_line(
    caplog: pytest.LogCaptureFixture,
    layer: str,
    kind: Callable[[socket.socket], None],
    reason: str,
) -> None:
    with MailCatcher(tls=layer[:8].rstrip(",")) as mail:
        name = fail(mail.port, layer, kind)
        wait_until(lambda: caplog.records)
    assert caplog.messages == [f"no TLS with {name}: {reason}"]
    [record] = caplog.records
    assert (record.name, record.levelno, record.exc_info) == (
        "mailhandlers",
        logging.WARNING,
        None,
    )


@LAYERS
def test_a_handshake_has_its_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    assert servers.LONGEST_HANDSHAKE == 5
    monkeypatch.setattr(servers, "LONGEST_HANDSHAKE", 0.1)
    with MailCatcher(tls=layer[:8].rstrip(",")) as mail:
        name = fail(mail.port, layer, be_silent)
        wait_until(lambda: caplog.records)
    assert caplog.messages == [f"no TLS with {name}: the handshake took longer than 0.1 s"]


@pytest.mark.parametrize("layer", ["starttls", "smtps"])
def test_the_command_tells_in_one_line(tmp_path: Path, certificate: Any, layer: str) -> None:
    reasons = []
    with Server("MaildirSink", tmp_path / "inbox", flags=flags(certificate, layer)) as server:
        wait_until(lambda: layer == "starttls" or server.errors())  # of the probe of this
        before = server.errors()
        for kind, reason in [*KINDS, (be_silent, "the handshake took longer than 5 s")]:
            reasons.append((fail(server.port, layer, kind), reason))
            wait_until(lambda: server.errors()[len(before) :].count("\n") == len(reasons))
        assert server.errors()[len(before) :].splitlines() == [
            f"WARNING:mailhandlers:no TLS with {name}: {reason}" for name, reason in reasons
        ]


def test_a_controller_tells_in_one_line(
    tmp_path: Path, certificate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    reservation, port = reserved_port()
    controller = Controller(
        MaildirSink(tmp_path / "inbox"), hostname=HOST, port=port, tls_context=context
    )
    with reservation:
        controller.start()
        try:
            name = fail(port, "starttls", distrust)
            wait_until(lambda: caplog.records)
        finally:
            controller.stop()
    assert caplog.messages == [f"no TLS with {name}: {UNKNOWN_CA}"]


def test_what_fails_in_a_session_is_no_error_of_storing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(MaildirSink):
        async def handle_NOOP(self, *_: object) -> str:
            raise ZeroDivisionError

    with (
        MailCatcher(Odd(tmp_path / "inbox")) as mail,
        socket.create_connection((mail.host, mail.port), timeout=PATIENCE) as client,
    ):
        client.recv(1000)
        client.sendall(b"NOOP\r\n")
        reply = client.recv(1000)
    assert reply == b"451 4.3.0 Local error in processing, try again later\r\n"
    [record] = caplog.records
    assert not re.search("stor", record.getMessage())
