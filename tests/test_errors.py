"""An error at any step of a write: 451, and the store stays as it was."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import (
    FAILED,
    FULL,
    HELLO,
    JSON_LINES,
    KIND,
    MBOX,
    Client,
    Kind,
    contents,
    controlled,
    expected,
    made,
    tree,
)
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import handlers
from mailhandlers.mail import Mail
from mailhandlers.writing.undo import Undo
from mailhandlers.writing.writers import WriterThread


class Fault:
    """Lets one call of a function of :mod:`os` fail, the n-th from now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._call = getattr(os, name)
        self._left = 0
        self.error = errno.EIO
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise OSError(self.error, os.strerror(self.error))
        return self._call(*arguments, **named)

    def at(self, number: int) -> None:
        self._left = number

    @property
    def happened(self) -> bool:
        return self._left <= 0


@pytest.mark.parametrize(
    "call", ["fsync", "writev", "open", "link", "replace", "symlink", "mkdir", "unlink"]
)
def test_an_error_at_any_step_is_451_and_the_store_stays_as_it_was(
    kind: Kind, store: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        assert client.send(b"0\r\n").startswith("250")
        before = tree(store.parent)
        kept = contents(store)
        fault = Fault(monkeypatch, call)
        for number in itertools.count(1):
            fault.at(number)
            reply = client.send(b"%d\r\n" % number, to=["bob@example.com", "new@x"])
            if not fault.happened or reply.startswith("250"):
                break
            assert reply.startswith(FAILED)
            assert (number, tree(store.parent)) == (number, before)
            assert contents(store) == kept
        assert reply.startswith("250")
        assert contents(store) == expected(kind, *kept, b"%d\r\n" % number)
        assert not [name for name in tree(store.parent) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (errno.EIO, FAILED),
        (errno.EROFS, FAILED),
        (errno.EMFILE, FAILED),
        (errno.EDQUOT, FULL),
        (errno.ENOSPC, FULL),
    ],
)
def test_the_reply_tells_whether_the_disk_is_full(
    kind: Kind,
    store: Path,
    error: int,
    reply: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault = Fault(monkeypatch, "fsync")
    fault.error = error
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        fault.at(1)
        assert client.send().startswith(reply)
        assert client.send().startswith("250")
    [record] = [record for record in caplog.records if record.name == "mailhandlers"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert os.strerror(error) in record.getMessage()
    assert "eva@example.com" in record.getMessage()


@pytest.mark.parametrize("thread", [None, WriterThread], ids=["executor", "thread"])
def test_an_error_nobody_foresaw_is_451_and_the_next_message_is_stored(
    kind: Kind,
    store: Path,
    thread: type[WriterThread] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = getattr(mailhandlers, kind.handler)
    write = handler._write
    faults = [ZeroDivisionError()]

    def faulty(self: Any, mails: Any) -> None:
        if faults:
            raise faults.pop()
        write(self, mails)

    monkeypatch.setattr(handler, "_write", faulty)
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        controller.handler._commit._thread = thread and thread()
        assert client.send().startswith(FAILED)
        assert client.send() == "250 OK"
    assert contents(store) == [HELLO]


def test_an_error_nobody_foresaw_on_the_way_to_the_store_is_451(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handlers, "envelope_of", None)
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        assert client.send().startswith(FAILED)
    assert contents(store) == []
    assert [record.exc_info is not None for record in caplog.records] == [True]


ONE = [Mail(replace(EXAMPLE, size=len(HELLO)), HELLO)]


def fail(*args: Any) -> None:
    raise OSError(errno.EIO, "the end")


def fail_at_one(
    handler: Any, monkeypatch: pytest.MonkeyPatch, **broken: Callable[..., object]
) -> None:
    """Have *handler* fail to write a message, with functions of os *broken*."""
    with monkeypatch.context() as patch:
        for name, function in broken.items():
            patch.setattr(os, name, function)
        with pytest.raises(OSError, match="the end"):
            handler._write(ONE)


def test_what_a_killed_writer_left_is_not_in_the_way(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    # The dead don't tidy up.
    fail_at_one(handler, monkeypatch, fsync=fail, unlink=lambda path: None)
    handler._write(ONE)  # as the server does, which doesn't know how far it came
    assert contents(store) == [HELLO]


@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda k: k.handler)
def test_what_another_server_began_stays_when_ours_fails(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    open_ = os.open

    def too_late(path: str, flags: int, mode: int = 0) -> int:
        monkeypatch.setattr(os, "open", open_)
        made(kind, store)._write(ONE)
        monkeypatch.setattr(os, "fsync", fail)
        raise FileNotFoundError(errno.ENOENT, "a moment ago")

    monkeypatch.setattr(os, "open", too_late)
    with pytest.raises(OSError, match="the end"):
        handler._write(ONE)
    assert contents(store) == [HELLO]


@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda k: k.handler)
def test_no_lock_stays_where_the_file_cannot_be_looked_at(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    opened = os.listdir("/dev/fd")
    fail_at_one(handler, monkeypatch, stat=fail)
    assert len(os.listdir("/dev/fd")) == len(opened)
    assert not os.path.lexists(f"{store}.lock")
    handler._write(ONE)
    assert contents(store) == [HELLO]


@pytest.mark.parametrize("kind", [KIND["MaildirSink"]], ids=["MaildirSink"])
def test_no_descriptor_stays_open_where_one_cannot_be_closed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close
    faults = [OSError(errno.EDQUOT, "at the last moment")]

    def close_late(fd: int) -> None:
        close(fd)
        if faults:
            raise faults.pop()

    handler = mailhandlers.MaildirSink(store, sync=False)
    mails = [Mail(replace(EXAMPLE, id=f"{n}", size=len(HELLO)), HELLO) for n in range(3)]
    opened = os.listdir("/dev/fd")
    monkeypatch.setattr(os, "close", close_late)
    with pytest.raises(OSError, match="at the last moment"):
        handler._write(mails)
    assert len(os.listdir("/dev/fd")) == len(opened)
    assert contents(store) == []
    handler._write(mails)
    assert contents(store) == [HELLO] * 3


@pytest.mark.parametrize("kind", [KIND["MailFile"]], ids=["MailFile"])
def test_what_was_replaced_is_let_go_though_its_close_fails(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close

    def close_late(fd: int) -> None:
        close(fd)
        fail()

    handler = mailhandlers.MailFile(store)
    opened = os.listdir("/dev/fd")
    handler._write(ONE)
    handler._write(ONE)
    with monkeypatch.context() as broken:
        broken.setattr(os, "close", close_late)
        handler._disk.free_replaced()
    assert len(os.listdir("/dev/fd")) == len(opened)


@pytest.mark.parametrize("error", [OSError, MemoryError])
def test_a_step_that_can_not_be_taken_back_hinders_no_other(error: type[Exception]) -> None:
    def broken() -> None:
        raise error

    undone: list[int] = []

    def break_off() -> None:
        with Undo() as undo:
            undo.add(undone.append, 1)
            undo.add(broken)
            undo.add(undone.append, 2)
            fail()

    with pytest.raises(OSError, match="the end"):
        break_off()
    assert undone == [2, 1]
