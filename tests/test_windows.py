"""What a user of Windows types: the command, the page beside it, the shell, drives, spaces."""

from __future__ import annotations

import io
import os
import smtplib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from chromium import get
from shell import COMMAND
from support import (
    HELLO,
    HOST,
    PATIENCE,
    WINDOWS,
    Kind,
    Process,
    contents,
    reserved_port,
    wait_until,
)

from mailhandlers import Inbox, MailCatcher
from mailhandlers.cli.main import main

pytestmark = pytest.mark.skipif(not WINDOWS, reason="this is no Windows")

WELCOME = (
    b"From: eva@example.com\nTo: bob@example.com\nSubject: Welcome\n"
    b"Date: Fri, 21 Nov 2025 08:48:00 +0000\nMessage-ID: <1@example.com>\n"
    b"\nYour code is 123456\n"
)
Said = Callable[..., str]


@pytest.fixture(params=["the system's", "the checkout's"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder whose name has a space: on C:, and where the tests are, under Wine on Z:."""
    if request.param == "the checkout's":
        (own := tmp_path / "My mail").mkdir()
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="My mail ") as name:
        assert os.path.splitdrive(name)[0] == os.environ["SYSTEMDRIVE"]
        yield Path(name)


def test_the_command_as_it_is_typed_with_its_page(kind: Kind, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    store = tmp_path / "My mail" / kind.store
    store.parent.mkdir()
    (mail_socket, port), (page_socket, page_port) = reserved_port(), reserved_port()
    command = ["-n", "-l", f"{HOST}:{port}", "-c", f"mailhandlers.{kind.handler}", str(store)]
    with (
        closing(mail_socket),
        closing(page_socket),
        Process(
            [sys.executable, "-m", "aiosmtpd", *command, f"web={page_port}"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert main(["ready", f"{HOST}:{port}", "--pid", str(server.pid)]) == 0
        with smtplib.SMTP(HOST, port) as client:
            client.sendmail("eva@example.com", ["bob@example.com"], HELLO)
        assert contents(store) == [HELLO]
        (record,) = get(f"http://localhost:{page_port}/api/messages").json()
        assert (record["subject"], record["rcpt_tos"]) == ("hello", ["bob@example.com"])
        assert ">hello<" in get(f"http://localhost:{page_port}/").text
        server.kill()  # as the task manager does
        wait_until(lambda: is_shut(page_port), 10)
        _, errors = server.communicate(timeout=PATIENCE)
    # Where a connection ends just when the page does, asyncio may add an error of its own.
    first, *_ = errors.splitlines()
    assert first == f"{store} is shown at http://localhost:{page_port}/"


def is_shut(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Return what a command of the shell prints, which must end with the *status*."""

    def run(*arguments: object, status: int = 0, text: bytes = b"") -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
            assert main([str(argument) for argument in arguments]) == status
        shown = capfd.readouterr()
        return shown.out + shown.err

    return run


def test_the_shell(folder: Path, said: Said) -> None:
    inbox, mbox = folder / "inbox", folder / "mail.mbox"
    assert said("sendmail", "MaildirSink", inbox, "-t", text=WELCOME) == ""
    size = len(WELCOME) + WELCOME.count(b"\n")
    assert said("list", inbox).endswith(f"\tbob@example.com\t{size}\tWelcome\n")
    assert "Your code is 123456" in said("show", inbox, "--to", "bob@example.com")
    assert said("show", inbox, "--print", "codes") == "123456\n"
    assert "no message in" in said("show", inbox, "--to", "carol@example.com", status=1)
    again: list[str | Path] = [*COMMAND, "sendmail", "MaildirSink", inbox, "carol@x.test"]
    (folder / "again.eml").write_bytes(WELCOME)
    with open(folder / "again.eml", "rb") as file:
        expected = subprocess.run(
            [*COMMAND, "expect", inbox, "--to=carol@x.test", "--print=codes", "--", *again],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert (expected.stdout, expected.returncode) == ("123456\n", 0)
    assert said("copy", inbox, "MboxSink", mbox) == "2 messages copied; 0 were there already\n"
    assert said("copy", inbox, "MboxSink", mbox) == "0 messages copied; 2 were there already\n"
    assert contents(mbox) == contents(inbox)
    assert said("check", mbox) == "2 messages checked, 0 with problems\n"
    with MailCatcher() as target:
        via = f"{target.host}:{target.port}"
        assert said("ready", via) == ""
        assert said("send", mbox, "--via", via) == "2 messages sent; 0 refused\n"
        assert [message.original_content for message in target] == contents(mbox)
    assert said("clear", inbox, "--to", "bob@example.com") == ""
    assert [message.envelope.rcpt_tos for message in Inbox(inbox)] == [["carol@x.test"]]
    for store in (inbox, mbox):
        assert said("clear", store) == ""
        assert len(Inbox(store)) == 0


@pytest.mark.parametrize("store", ["mail.mbox", "mail.jsonl"])
def test_some_messages_of_one_file_can_not_be_removed_and_a_sentence_says_so(
    folder: Path, said: Said, store: str
) -> None:
    handler = "MboxSink" if store == "mail.mbox" else "JsonLines"
    said("sendmail", handler, folder / store, "-t", text=WELCOME)
    told = said("clear", folder / store, "--to", "bob@example.com", status=2)
    assert told == (
        f"mailhandlers: {folder / store}: no file that is open is replaced here: remove all, "
        "or have a Maildir\n"
    )
    assert len(contents(folder / store)) == 1
