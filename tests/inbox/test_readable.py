"""What can't be read hides no other mail, and is said: once for each file and Inbox."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from posting import subjects
from shell import mail, put, raw_mail, shell
from support import json_line

from mailhandlers import Inbox, NoMessageError, StoreError, read_latest, read_messages

GOOD = b"Subject: good\n\nhello\n"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log has, and forget it."""
    lines = [record.getMessage() for record in caplog.records]
    assert all((r.name, r.levelname) == ("mailhandlers", "WARNING") for r in caplog.records)
    caplog.clear()
    return lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a message, and a file that is none."""
    (tmp_path / "good.eml").write_bytes(GOOD)
    (tmp_path / "bad.eml").write_bytes(b"\0garbage")
    return tmp_path


def no_more_than_the_first(inbox: Inbox) -> None:
    with pytest.raises(NoMessageError):
        inbox.latest(subject="none", timeout=0.2)


@pytest.mark.parametrize(
    "read",
    [
        list,
        len,
        Inbox.messages,
        no_more_than_the_first,
        lambda inbox: list(inbox.follow(timeout=0, from_start=True)),
        lambda inbox: asyncio.run(inbox.alatest(subject="good")),
    ],
)
def test_a_file_is_said_once_for_each_inbox(
    folder: Path, read: Callable[[Inbox], object], caplog: pytest.LogCaptureFixture
) -> None:
    line = f"{folder}/bad.eml: no message begins like this; it is left out"
    for _ in range(2):
        inbox = Inbox(folder)
        for _ in range(2):
            read(inbox)
        list(inbox)
        assert said(caplog) == [line]
    list(read_messages(folder))
    assert said(caplog) == [line]
    (folder / "worse.eml").write_bytes(b"\0")
    list(inbox)
    assert said(caplog) == [f"{folder}/worse.eml: no message begins like this; it is left out"]


@pytest.mark.posix
def test_what_comes_while_one_waits_is_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(folder)
    with inbox.expect(timeout=5) as expected:
        (folder / "a.eml").write_bytes(b"\0")
        with pytest.raises(NoMessageError, match=r"no message at all: .*bad\.eml"):
            inbox.latest(subject="none", timeout=0.1)
        (folder / "b.eml").write_bytes(GOOD)
    assert expected.message["Subject"] == "good"
    with inbox.expect_none(within=0.1):
        (folder / "c.eml").write_bytes(b"\0")
    assert sorted(line.partition(":")[0] for line in said(caplog)) == [
        f"{folder}/{name}.eml" for name in ("a", "bad", "c")
    ]


def test_what_an_error_says_the_log_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.eml").write_bytes(b"\0")
    for read in (list, len, Inbox.latest, Inbox.messages):
        with pytest.raises(StoreError, match=r"bad\.eml: no message begins like this"):
            read(Inbox(tmp_path))
    assert said(caplog) == []


def test_lines_of_one_file_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "mail.jsonl"
    line = json_line(raw_mail(b"Subject: good\r\n\r\n"))
    store.write_bytes(line + b"started\n" * 100 + line + b"ended\n")
    inbox = Inbox(store)
    assert subjects(inbox) == subjects(inbox.messages()) == ["good", "good"]
    (one,) = said(caplog)
    assert one.startswith(f"{store}, octet {len(line)}: no record of a message: ")
    assert one.endswith("; it is left out")


@pytest.mark.posix
def test_a_name_acts_in_no_terminal(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "bad.eml").rename(folder / "\x1b[2J\n.eml")
    list(Inbox(folder))
    assert said(caplog) == [
        rf"{folder}/\x1b[2J .eml: no message begins like this; it is left out"
    ]


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(path.parent)  # an address has room for 100 octets
        try:
            server.bind(path.name)
        finally:
            os.chdir(before)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkdir, "it is no regular file"),
        (lambda path: os.mkfifo(path), "it is no regular file"),
        (a_socket, "No such device or address"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["folder", "FIFO", "socket", "link to itself"],
)
@pytest.mark.parametrize("is_maildir", [True, False])
@pytest.mark.posix
def test_what_is_no_file_is_said(
    tmp_path: Path,
    make: Callable[[Path], None],
    reason: str,
    is_maildir: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "new" if is_maildir else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "good.eml").write_bytes(GOOD)
    make(folder / "bad.eml")
    assert subjects(Inbox(tmp_path)) == ["good"]
    assert said(caplog) == [f"{folder}/bad.eml: {reason}; it is left out"]
    (folder / "good.eml").unlink()
    if is_maildir:
        with pytest.raises(StoreError, match=f"bad.eml: {reason}"):
            read_latest(tmp_path)


@pytest.mark.posix
def test_a_file_of_another_user_is_said(
    open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (open_folder / "good.eml").write_bytes(GOOD)
    (open_folder / "bad.eml").write_bytes(GOOD)
    (open_folder / "bad.eml").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # whom no permission stops
            os.seteuid(65534)
        got = subjects(Inbox(open_folder))
        with pytest.raises(NoMessageError, match=r"bad\.eml: Permission denied"):
            read_latest(open_folder, subject="none")
    finally:
        os.seteuid(user)
    assert got == ["good"]
    line = f"{open_folder}/bad.eml: Permission denied; it is left out"
    assert said(caplog) == [line, line]


@pytest.mark.posix
def test_an_error_of_this_process_hides_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*_: object) -> int:
        raise OSError(24, os.strerror(24))

    messages = read_messages(folder)
    monkeypatch.setattr(os, "open", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        next(messages)


# The shell, and the page


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["show"],
        ["follow", "--from-start", "--timeout", "0"],
        ["expect", "--none", "--timeout", "0"],
    ],
)
def test_the_shell_says_it_on_standard_error(folder: Path, command: list[str]) -> None:
    ended = shell(command[0], folder, *command[1:])
    assert ended.returncode == 0
    line = f"{folder}/bad.eml: no message begins like this; it is left out\n"
    # The newest comes first, and what was there before is not expected.
    is_read = command[0] in ("list", "follow")
    assert ended.stderr == (line if is_read else "")


def test_a_copy_says_each(folder: Path) -> None:
    (folder / "worse.eml").write_bytes(b"")
    ended = shell("copy", folder, "MboxSink", folder / "mbox")
    assert ended.returncode == 1
    for name in ("bad", "worse"):
        assert f"{folder}/{name}.eml: no message begins like this; it is left" in ended.stderr


def test_the_page_has_it_in_its_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("starlette")
    from starlette.testclient import TestClient

    from mailhandlers.web.app import create_app

    with TestClient(create_app(folder), base_url="http://localhost") as client:
        for path in ("/", "/api/messages", "/", "/api/messages/latest"):
            assert client.get(path).status_code == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "mailhandlers"]
    assert lines == [f"{folder}/bad.eml: no message begins like this; it is left out"]


# Names in folders of other programs


def test_names_that_are_alike_hide_no_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("inbox/1.eml", "sent/1.eml", "sent/Re: a.eml", "sent/Re: b.eml", "sent/C.EML"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(f"Subject: {name}\nTo: bob@x.test\n\n".encode())
    names = ["inbox/1.eml", "sent/1.eml", "sent/C.EML", "sent/Re: a.eml", "sent/Re: b.eml"]
    inbox = Inbox(tmp_path)
    assert sorted(subjects(inbox)) == sorted(subjects(inbox.messages(to="bob@x.test"))) == names
    assert sorted(subjects(Inbox(tmp_path / "sent"))) == names[1:]
    with inbox.expect(count=2) as expected:
        for folder in ("inbox", "sent"):
            (tmp_path / folder / "2.eml").write_bytes(f"Subject: {folder}\n\n".encode())
    assert sorted(subjects(expected.messages)) == ["inbox", "sent"]
    assert said(caplog) == []
    inbox.clear()
    assert subjects(inbox) == []


def test_a_message_to_two_is_one(tmp_path: Path) -> None:
    put("PerRecipientDir", tmp_path / "people", mail("one", to=["bob@x.test", "eva@x.test"]))
    assert subjects(Inbox(tmp_path / "people")) == ["one"]
