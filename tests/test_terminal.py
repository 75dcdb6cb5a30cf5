"""What the command says in a terminal, and to those who start it wrongly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support import (
    HOST,
    ON_DISK,
    WINDOWS,
    Client,
    Kind,
    Process,
    Server,
    reserved_port,
    wait_until,
)

import mailhandlers
from mailhandlers.options import HANDLERS

SECRET = "AGV2YQBndWVzcw=="
ODD = b"Subject: =?utf-8?q?Wel=1B[31mcome=0D=0A12:00:00_forged?=\r\n\r\nHi\r\n"


def test_a_line_for_each_message_and_refusal(kind: Kind, store: Path) -> None:
    refusal = "reply=RCPT *@bounce.test: 550 5.1.1 No such user"
    later = "reply=AUTH x1: 454 4.7.0 Later"
    with Server(kind.handler, store, "log=yes", "auth=eva:secret", refusal, later) as server:
        assert server.send(ODD, to=["bob@example.com", b"\x1bx\x07@example.com"]) == "250 OK"
        assert server.send(sender="").startswith("250")
        assert server.send(to=["a@bounce.test"]) == "550 5.1.1 No such user"
        with server.client() as client:
            client.command("EHLO laptop")
            assert client.command(f"AUTH PLAIN {SECRET}")[:3] == "454"
            assert client.command(f"AUTH PLAIN {SECRET}")[:3] == "535"
        wait_until(lambda: server.errors().count("\n") == 6)
        lines = server.errors().splitlines()
        port = server.port
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    assert all(re.match(date, line) for line in lines)
    first, *others = [line[20:] for line in lines]
    peers = [re.sub(r"127\.0\.0\.1:\d+", "PEER", line) for line in others]
    assert first == f"listening at {HOST}:{port}, keeping mail in {store} ({kind.handler})"
    assert [re.sub(r"^\d{10}\.M\d+P\d+Q\d+\.\S+", "ID", line) for line in peers] == [
        "ID PEER eva@example.com -> bob@example.com, \\x1bx\\x07@example.com: "
        f"Wel\\x1b[31mcome 12:00:00 forged ({len(ODD)} octets)",
        "ID PEER <> -> bob@example.com: hello (32 octets)",
        "PEER refused RCPT TO:<a@bounce.test>: 550 5.1.1 No such user",
        "PEER refused AUTH PLAIN: 454 4.7.0 Later",
        "PEER refused AUTH PLAIN: 535 5.7.8 Authentication credentials invalid",
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_what_its_code_page_has_no_sign_for_is_escaped(tmp_path: Path, encoding: str) -> None:
    content = "Subject: Ωmega é\r\n\r\nHi\r\n".encode()
    env = {"PYTHONIOENCODING": encoding}
    with Server("MailFile", tmp_path / "latest.mail", "log=yes", env=env) as server:
        assert server.send(content) == "250 OK"
        said = "Ωmega é".encode(encoding, "backslashreplace")
        wait_until(lambda: said in server._errors.read_bytes())


@pytest.mark.parametrize("options", [[], ["log=no"], ["log=auto"]])
def test_in_a_pipe_it_is_silent(options: list[str], tmp_path: Path) -> None:
    with Server("MailFile", tmp_path / "latest.mail", *options) as server:
        assert server.send() == "250 OK"
        assert server.stop() == 0
        assert server.errors() == ""


@pytest.mark.posix
@pytest.mark.parametrize(("options", "speaks"), [([], True), (["log=no"], False)])
def test_on_a_terminal_it_speaks(options: list[str], speaks: bool, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    reservation, port = reserved_port()
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}", "-c"]
    command += ["mailhandlers.MaildirSink", str(tmp_path / "inbox"), *options]
    with reservation, Process(command, stderr=theirs) as server:
        os.close(theirs)
        wait_until(lambda: _answers(port))
        with Client(port) as client:
            assert client.send() == "250 OK"
        if speaks:
            said = b""
            while b"hello (32 octets)" not in said:
                said += os.read(ours, 1000)
            assert b"listening at" in said
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0
    os.close(ours)


def _answers(port: int) -> bool:
    try:
        Client(port).close()
    except ConnectionError:
        return False
    return True


def test_a_terminal_that_stands_still_holds_up_nobody(tmp_path: Path) -> None:
    ours, theirs = os.pipe()  # nobody reads it, and it is full after 64 KiB
    reservation, port = reserved_port()
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}", "-c"]
    command += ["mailhandlers.MboxSink", str(tmp_path / "mbox"), "log=yes", "sync=no"]
    with reservation, Process(command, stderr=theirs) as server:
        os.close(theirs)
        wait_until(lambda: _answers(port))
        content = b"Subject: " + b"x" * 900 + b"\r\n\r\nHi\r\n"
        with Client(port) as client:
            for _ in range(150):
                assert client.send(content) == "250 OK"
        server.kill()
    os.close(ours)


def ended(*arguments: str) -> str:
    """Return what the command says that ends by itself with exit status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "aiosmtpd", "-n", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


@ON_DISK
def test_a_port_in_use_is_one_sentence(kind: Kind, store: Path, tmp_path: Path) -> None:
    with Server(kind.handler, store) as server:
        listen = f"{HOST}:{server.port}"
        other = str(tmp_path / "other")
        assert ended("-l", listen, "-c", f"mailhandlers.{kind.handler}", other) == (
            f"aiosmtpd: can't listen at {listen}: Address already in use: "
            "stop what listens there, or take another port: -l HOST:PORT\n"
        )


def test_an_unknown_host_is_one_sentence(tmp_path: Path) -> None:
    handler = ["mailhandlers.MaildirSink", str(tmp_path / "inbox")]
    told = ended("-l", "nobody.invalid:2525", "-c", *handler)
    assert told.startswith("aiosmtpd: can't listen at nobody.invalid:2525: ")


@pytest.mark.parametrize("name", ["Maildir", "Mailfile", "Inbox"])
def test_a_mistake_in_the_name_of_a_handler_is_one_sentence(name: str) -> None:
    assert ended("-c", f"mailhandlers.{name}", "mail") == (
        f"aiosmtpd: {name} is no handler: choose from {', '.join(sorted(HANDLERS))}\n"
    )
    with pytest.raises(AttributeError, match="has no attribute 'Maildir'"):
        mailhandlers.Maildir  # noqa: B018


@pytest.mark.parametrize("listen", ["[::1]:{}", "::1:{}"])
def test_an_address_of_ipv6_may_be_typed_as_it_is_told(tmp_path: Path, listen: str) -> None:
    with socket.socket(socket.AF_INET6) as reservation:
        if not WINDOWS:
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = reservation.getsockname()[1]
        if WINDOWS:  # where nobody else may have it, and the server is somebody else
            reservation.close()
        command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", listen.format(port), "-c"]
        command += ["mailhandlers.MailFile", str(tmp_path / "m"), "log=yes"]
        with Process(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            line = server.stderr.readline()
            server.kill()
    assert f"listening at [::1]:{port}, " in line


def test_an_error_of_storing_is_told_with_its_message(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    with Server("MailFile", path, "log=yes") as server:
        path.unlink()
        path.mkdir()
        assert server.send()[:3] == "451"
        wait_until(lambda: "refused: 451" in server.errors())
        lines = server.errors().splitlines()
        [line] = [line for line in lines if "refused: 451" in line]
        # The other is the error's own.
        assert len([line for line in lines if " 451 " in line]) == 2
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d{10}\.\S+ 127\.0\.0\.1:\d+ eva@example.com -> "
        r"bob@example.com: hello \(32 octets\), refused: 451 4\.3\.0 .*",
        line,
    )


COMMANDS = [
    "EHLO laptop",
    "MAIL FROM:<a@b.test>",
    f"AUTH PLAIN {SECRET}",
    "AUTH PLAIN AGV2YQBzZWNyZXQ=",
    "DATA",
    "MAIL FROM:<a@b.test> SIZE=99999",
    "MAIL FROM:<gone@b.test>",
    "MAIL FROM:<a@b.test>",
    "MAIL FROM:<a@b.test>",
    "RCPT TO:<later@b.test>",
    "RCPT <b@b.test>",
    "RCPT TO:<b@b.test>",
    "STARTTLS",
    "EXPN list",
    "\x1b[2JNONSENSE",
    "x" * 13_000,  # over the longest of AUTH
    "RSET now",
]


def test_a_line_for_each_refusal_whoever_refuses(tmp_path: Path) -> None:
    scripted = ["reply=RCPT later@*: 451 4.2.0 Later", "reply=MAIL gone@*: 550 No"]
    options = ["log=yes", "auth=eva:secret", "auth_required=yes", *scripted]
    expected = []
    with Server(
        "MaildirSink", tmp_path / "inbox", *options, flags=["-n", "-s", "1000"]
    ) as server:
        with server.client() as client:
            for command in COMMANDS:
                reply = client.command(command)
                if reply[0] in "45":
                    shown = "AUTH PLAIN" if command.startswith("AUTH") else command
                    shown = "a line" if len(command) > 12_288 else shown
                    expected.append(f"refused {shown}: {reply}".replace("\x1b", r"\x1b"))
            assert client.command("DATA")[:3] == "354"
            reply = client.command(b"x" * 600 + b"\r\n" + b"x" * 600 + b"\r\n.")
            expected.append(f"refused DATA: {reply}")
        wait_until(lambda: server.errors().count("\n") > len(expected))
        lines = server.errors().splitlines()[1:]
    said = [re.sub(r"^[-\d]{10} [\d:]{8} 127\.0\.0\.1:\d+ ", "", line) for line in lines]
    assert said == expected
    assert {*re.findall(r": (\d{3}) ", "\n".join(said))} >= {
        *("530", "535", "503", "552", "550", "451", "501", "454", "502", "500")
    }


BEGUN = ["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<b@b.test>"]


@pytest.mark.parametrize(
    ("reply", "commands", "said"),
    [
        ("CONNECT: 554 5.3.2 No", [], "CONNECT: 554 5.3.2 No"),
        ("DATA: hang-up", [*BEGUN, "DATA", "x\r\n."], "DATA: hang-up"),
        ("DATA: 550 No", [*BEGUN, "DATA", "x\r\n."], "DATA: 550 No"),
        ("DATA before: 451 Later", [*BEGUN, "DATA"], "DATA: 451 Later"),
        ("RCPT b@*: 421 Bye", BEGUN, "RCPT TO:<b@b.test>: 421 Bye"),
        ("EHLO: hang-up", BEGUN, "EHLO x: hang-up"),
    ],
)
def test_one_line_for_a_scripted_refusal(
    tmp_path: Path, reply: str, commands: list[str], said: str
) -> None:
    with Server("MaildirSink", tmp_path / "inbox", "log=yes", f"reply={reply}") as server:
        with server.client() as client, suppress(ConnectionError):
            for command in commands:
                client.command(command)
        wait_until(lambda: f"refused {said}" in server.errors())
        lines = [line for line in server.errors().splitlines() if " refused " in line]
    refused = [line.partition(" refused ")[2] for line in lines]
    if commands:  # else who asked whether the server is there was refused, too
        assert refused == [said]
    assert {*refused} == {said}
