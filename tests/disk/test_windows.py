"""What Windows has otherwise: files that others have open, names, rights. Wine is as strict."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import (
    FAILED,
    HELLO,
    WINDOWS,
    Client,
    Kind,
    Server,
    contents,
    controlled,
    expected,
    tree,
    wait_until,
)
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import Inbox, MailFile, PerRecipientDir, read_latest
from mailhandlers.disk import system
from mailhandlers.mail import Mail

pytestmark = pytest.mark.skipif(not WINDOWS, reason="this is no Windows")

ONE = [Mail(replace(EXAMPLE, size=len(HELLO)), HELLO)]


@contextmanager
def in_an_editor(path: Path) -> Iterator[None]:
    """Have *path* open as most programs have: nobody may rename, replace or remove it."""
    with path.open("rb"):
        yield


@contextmanager
def soon_closed(path: Path, seconds: float = 0.3) -> Iterator[None]:
    """Have *path* open as a virus scanner has, which lets it go."""
    file = path.open("rb")
    timer = threading.Timer(seconds, file.close)
    timer.start()
    yield
    timer.join()


# What another program has open


def test_a_file_that_is_soon_let_go_is_waited_for(tmp_path: Path) -> None:
    handler = MailFile(tmp_path / "latest.mail")
    handler._store.add(ONE)
    with soon_closed(tmp_path / "latest.mail"):
        handler._store.add([Mail(replace(EXAMPLE, size=8), b"second\r\n")])
    assert contents(tmp_path / "latest.mail") == [b"second\r\n"]
    assert os.listdir(tmp_path) == ["latest.mail"]


def test_a_file_that_stays_open_is_451_and_stays_as_it_was(tmp_path: Path) -> None:
    store = tmp_path / "latest.mail"
    with controlled(MailFile(store)) as controller, Client(controller.port) as client:
        assert client.send(HELLO) == "250 OK"
        before = tree(tmp_path)
        with in_an_editor(store):
            assert client.send(b"second\r\n").startswith(FAILED)
            assert tree(tmp_path) == before
        assert client.send(b"third\r\n") == "250 OK"
    assert contents(store) == [b"third\r\n"]
    assert os.listdir(tmp_path) == ["latest.mail"]


def test_a_loop_does_not_wait_for_it(tmp_path: Path) -> None:
    store = tmp_path / "latest.mail"
    handler = MailFile(store)
    handler._store.add(ONE)

    async def add() -> float:
        started = time.monotonic()
        with pytest.raises(PermissionError):
            handler._store.add(ONE)
        return time.monotonic() - started

    with in_an_editor(store):
        assert asyncio.run(add()) < 1.0


def test_latest_eml_that_somebody_looks_at_is_451(tmp_path: Path) -> None:
    store = tmp_path / "people"
    handler = PerRecipientDir(store)
    handler._store.add(ONE)
    before = tree(tmp_path)
    with in_an_editor(store / "bob@example.com" / "latest.eml"), pytest.raises(PermissionError):
        handler._store.add([ONE[0].renamed()])
    assert tree(tmp_path) == before
    handler._store.add([ONE[0].renamed()])
    assert len(Inbox(store)) == 2


def test_who_reads_hinders_nobody(kind: Kind, store: Path) -> None:
    """A server, a second one, and a reader that follows: on one store."""
    with Server(kind.handler, store) as one, Server(kind.handler, store) as other:
        arrived: list[bytes] = []
        ended = threading.Event()

        def follow() -> None:
            for message in Inbox(store).follow(timeout=20):
                arrived.append(message.original_content)
                if message["Subject"] == "last":
                    break
            ended.set()

        reader = threading.Thread(target=follow)
        reader.start()
        sent = [b"Subject: %d\r\n\r\n" % number for number in range(10)]
        for number, content in enumerate(sent):
            assert (one, other)[number % 2].send(content) == "250 OK"
        assert one.send(b"Subject: last\r\n\r\n") == "250 OK"
        assert ended.wait(60)
        reader.join()
    if kind.keeps_all:
        assert arrived[:-1] == sent[len(sent) - len(arrived) + 1 :]
    assert contents(store) == expected(kind, *sent, b"Subject: last\r\n\r\n")
    assert one.errors() == other.errors() == ""


def test_mail_is_waited_for_where_the_file_is_empty(tmp_path: Path) -> None:
    store = tmp_path / "latest.mail"
    with Server("MailFile", store) as server, Inbox(store).expect() as expected_:
        assert server.send() == "250 OK"
    assert expected_.message.original_content == HELLO


def test_a_file_that_is_followed_may_be_renamed(tmp_path: Path) -> None:
    store = tmp_path / "mail.jsonl"
    handler = mailhandlers.JsonLines(store)
    handler._store.add(ONE)
    cursor = Inbox(store).follow(timeout=0)
    assert not [*cursor]
    handler._store.add([ONE[0].renamed()])
    store.rename(f"{store}.1")
    handler._store.add([ONE[0].renamed()])
    assert len([*cursor]) == 2


# latest.eml


def test_latest_eml_is_the_message_itself(tmp_path: Path) -> None:
    store = tmp_path / "people"
    handler = PerRecipientDir(store, keep=1)
    latest = store / "bob@example.com" / "latest.eml"
    for number in range(3):
        content = b"Subject: %d\r\n\r\n" % number
        to = ["bob@example.com"] * (5000 if number == 1 else 1)  # more than is read at first
        envelope = replace(EXAMPLE, size=len(content), rcpt_tos=to)
        mail = Mail(envelope, content).renamed()
        handler._store.add([mail])
        assert read_latest(latest).original_content == content
        assert system.pointed_to(str(latest)) == f"{mail.envelope.id}.eml"
        handler._store.tidy_up()
    assert len(os.listdir(latest.parent)) == 2


def test_where_a_file_has_one_name_only_it_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(0, "no links here", None, 1)

    monkeypatch.setattr(os, "link", none)
    store = tmp_path / "people"
    handler = PerRecipientDir(store)
    for _ in range(2):
        handler._store.add([ONE[0].renamed()])
    latest = store / "bob@example.com" / "latest.eml"
    assert latest.stat().st_nlink == 1
    assert read_latest(latest).original_content == HELLO
    assert len(Inbox(store)) == 2


# Names, rights


@pytest.mark.parametrize("recipient", ["nul", "CON", "com1.txt@x", "bob.", "aux", "..", "a:b"])
def test_any_recipient_has_a_folder(tmp_path: Path, recipient: str) -> None:
    store = tmp_path / "people"
    PerRecipientDir(store)._store.add(
        [Mail(replace(ONE[0].envelope, rcpt_tos=[recipient]), HELLO)]
    )
    assert read_latest(store, to=recipient).original_content == HELLO
    assert len(os.listdir(store)) == 1


@pytest.mark.parametrize("mark", ["!2,S", ";2,RS", "!2,"])
def test_flags_of_mail_clients_are_no_part_of_a_name(tmp_path: Path, mark: str) -> None:
    store = tmp_path / "inbox"
    handler = mailhandlers.MaildirSink(store)
    handler._store.add(ONE)
    cursor = Inbox(store).follow(timeout=0)
    [new] = (store / "new").iterdir()
    new.rename(store / "cur" / f"{new.name}{mark}")
    assert not [*cursor]
    assert contents(store) == [HELLO]


def test_a_mode_is_refused_in_a_sentence(kind: Kind, store: Path) -> None:
    handler: Any = getattr(mailhandlers, kind.handler)
    with pytest.raises(ValueError, match="mode=0644: Windows has no such permissions"):
        handler(store, mode=0o644)
    handler(store, mode=0o600)


def test_a_lock_of_a_folder_goes_with_who_has_it(tmp_path: Path) -> None:
    fd = system.lock_folder(str(tmp_path))
    assert fd is not None
    assert system.lock_folder(str(tmp_path)) is None
    os.close(fd)
    wait_until(lambda: not os.listdir(tmp_path))
    with pytest.raises(FileNotFoundError):
        system.lock_folder(str(tmp_path / "missing"))


def test_a_folder_is_no_file_to_wait_for(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(IsADirectoryError):
        system.open_to_read(str(tmp_path))
    assert time.monotonic() - started < 1.0


def test_octets_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "octets"
    path.write_bytes(b"0123456789\r\n\x1a")
    fd = system.open_to_read(str(path))
    try:
        assert system.pread(fd, 4, 3) == b"3456"
        assert system.pread(fd, 100, 8) == b"89\r\n\x1a"
        assert system.pread(fd, 4, 100) == b""
    finally:
        os.close(fd)
