"""What the command says in a terminal, and to those who start it wrongly."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import HOST, Client, Kind, Process, Server, reserved_port, wait_until

ODD = b"Subject: =?utf-8?q?Wel=1B[31mcome=0D=0A12:00:00_forged?=\r\n\r\nHi\r\n"


def test_a_line_for_each_message_and_refusal(kind: Kind, store: Path) -> None:
    refusal = "reply=RCPT *@bounce.test: 550 5.1.1 No such user"
    with Server(kind.handler, store, "log=yes", refusal) as server:
        assert server.send(ODD, to=["bob@example.com", b"\x1bx\x07@example.com"]) == "250 OK"
        assert server.send(sender="").startswith("250")
        assert server.send(to=["a@bounce.test"]) == "550 5.1.1 No such user"
        wait_until(lambda: server.errors().count("\n") == 4)
        lines = server.errors().splitlines()
        port = server.port
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[9:] for line in lines] == [
        f"listening at {HOST}:{port}, keeping mail in {store} ({kind.handler})",
        "eva@example.com -> bob@example.com, \\x1bx\\x07@example.com: "
        f"Wel\\x1b[31mcome 12:00:00 forged ({len(ODD)} octets)",
        "<> -> bob@example.com: hello (32 octets)",
        "refused RCPT a@bounce.test: 550 5.1.1 No such user",
    ]


@pytest.mark.parametrize("options", [[], ["log=no"], ["log=auto"]])
def test_in_a_pipe_it_is_silent(options: list[str], tmp_path: Path) -> None:
    with Server("MailFile", tmp_path / "latest.mail", *options) as server:
        assert server.send() == "250 OK"
        assert server.stop() == 0
        assert server.errors() == ""


@pytest.mark.parametrize(("options", "speaks"), [([], True), (["log=no"], False)])
def test_on_a_terminal_it_speaks(options: list[str], speaks: bool, tmp_path: Path) -> None:
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


def test_a_mistake_in_the_name_of_a_handler_suggests_the_right_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiosmtpd", "-n", "-c", "mailhandlers.Mailfile", "mail"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "has no attribute 'Mailfile'. Did you mean: 'MailFile'?" in done.stderr
