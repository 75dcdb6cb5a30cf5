"""An error at any step of a write: 451, and the store stays as it was."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty import CALLS, WRITE, Disk
from support import (
    FAILED,
    FULL,
    HELLO,
    JSON_LINES,
    KIND,
    MBOX,
    ON_DISK,
    WINDOWS,
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
from mailhandlers import handler as handlers
from mailhandlers.disk.files import Undo, close_all
from mailhandlers.mail import Mail

pytestmark = pytest.mark.slow  # real faults, real load: half a minute

DESCRIPTORS = pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="no /dev/fd")
REPLIES = {
    errno.EINVAL: FAILED,
    errno.EIO: FAILED,
    errno.EMFILE: FAILED,
    errno.ENOBUFS: FAILED,
    errno.ENOSYS: FAILED,
    errno.EROFS: FAILED,
    errno.EDQUOT: FULL,
    errno.ENOSPC: FULL,
}


def opening(kind: Kind) -> str:
    """Return what opens a file to write it."""
    return "open_file" if WINDOWS and kind in (MBOX, JSON_LINES) else "open"


def test_an_error_at_any_step_is_451_and_the_store_stays_as_it_was(
    kind: Kind, store: Path, disk: Disk
) -> None:
    refused = set()
    with disk.serving(kind, store) as server, server.client() as client:
        assert client.send(b"0\r\n") == "250 OK"
        for call in CALLS:
            happened = True
            for number in itertools.count(1):
                if not happened:
                    break
                before, kept = tree(store.parent), contents(store)
                disk.fail(call, number)
                content = b"%d. %a\r\n" % (number, call)
                reply = client.send(content, to=["bob@example.com", f"{call}{number}@x"])
                happened = disk.failed()
                if reply == "250 OK":
                    assert contents(store) == expected(kind, *kept, content)
                else:
                    assert reply.startswith(FAILED)
                    assert (call, number, tree(store.parent)) == (call, number, before)
                    refused.add(call)
            assert reply == "250 OK"
        assert not [name for name in tree(store.parent) if name.endswith((".tmp", ".lock"))]
        assert refused >= {"fsync", opening(kind), WRITE}
        assert "Traceback" not in server.errors()


def test_an_error_at_any_step_of_the_loop_is_made_good_by_the_thread(
    kind: Kind, store: Path, quick_disk: Disk
) -> None:
    stored = [b"0\r\n"]
    with quick_disk.serving(kind, store) as server, server.client() as client:
        assert client.send(stored[0]) == "250 OK"
        for call in CALLS:
            happened = True
            for number in itertools.count(1):
                if not happened:
                    break
                # After what failed the thread looks at the end of a file.
                between = b"between\r\n"
                assert client.send(between) == "250 OK"
                quick_disk.fail(call, number)
                content = b"%d. %a\r\n" % (number, call)
                to = ["bob@example.com", f"{call}{number}@x"]
                assert client.send(content, to=to) == "250 OK"
                happened = quick_disk.failed()
                stored += [between, content]
                assert (call, number, contents(store)) == (
                    *(call, number),
                    expected(kind, *stored),
                )
        assert not [name for name in tree(store.parent) if name.endswith((".tmp", ".lock"))]
        assert "refused" not in server.errors()
        assert "Traceback" not in server.errors()


def test_a_disk_that_fails_for_good_is_451_until_it_works_again(
    kind: Kind, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server, server.client() as client:
        assert client.send(b"0\r\n") == "250 OK"
        before = tree(store.parent)
        for call in ("fsync", WRITE, opening(kind)):
            disk.fail(call, lasting=True)
            for _ in range(2):
                assert client.send(to=["bob@example.com", "new@x"]).startswith(FAILED)
                assert (call, tree(store.parent)) == (call, before)
            assert disk.failed()
        assert client.send(b"1\r\n") == "250 OK"
    assert contents(store) == expected(kind, b"0\r\n", b"1\r\n")


def test_the_reply_tells_whether_the_disk_is_full(kind: Kind, store: Path, disk: Disk) -> None:
    with disk.serving(kind, store) as server, server.client() as client:
        for number, (error, reply) in enumerate(REPLIES.items()):
            disk.fail("fsync", error=error)
            assert (error, client.send()[: len(reply)]) == (error, reply)
            assert disk.failed()
            log = server.errors().splitlines()
            assert len(log) == number + 1
            assert re.fullmatch(
                r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ERROR:mailhandlers:.*: "
                rf"{os.strerror(error)}; "
                r"refused mail \d{10}\.M\d+P\d+Q\d+\.\S+ from 'eva@example\.com', "
                rf"sent by 127\.0\.0\.1:\d+: {reply}.*",
                log[-1],
            )
            assert client.send() == "250 OK"


@pytest.mark.parametrize("error", ["ZeroDivisionError", "MemoryError"])
def test_an_error_nobody_foresaw_is_451_and_the_next_message_is_stored(
    kind: Kind, store: Path, disk: Disk, error: str
) -> None:
    with disk.serving(kind, store) as server, server.client() as client:
        disk.fail(WRITE, error=error)
        assert client.send().startswith(FAILED)
        assert disk.failed()
        # Whoever has to mend the program needs the place; nobody can mend the memory.
        assert ("Traceback" in server.errors()) == (error == "ZeroDivisionError")
        assert server.errors().count("refused mail ") == 1
        assert client.send() == "250 OK"
    assert contents(store) == [HELLO]


def test_one_message_that_fails_refuses_no_other_of_its_batch(
    kind: Kind, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server:
        clients = [server.client() for _ in range(4)]
        with disk.stopped():
            clients[0].submit(b"0\r\n")
            disk.wait_for_writer()
            for number, client in enumerate(clients[1:], 1):
                client.submit(b"%d\r\n" % number)
            disk.wait_for_messages(4)
            disk.fail(WRITE)  # the batch's, which then is written message by message
        assert [client.reply() for client in clients] == ["250 OK"] * 4
        assert disk.failed()
        assert server.errors() == ""
    assert contents(store) == expected(kind, *(b"%d\r\n" % number for number in range(4)))


def test_an_error_in_emptying_the_store_is_451_and_the_next_attempt_works(
    kind: Kind, store: Path, disk: Disk
) -> None:
    call = "ftruncate" if kind in (MBOX, JSON_LINES) else "unlink"
    with disk.serving(kind, store, "rset=clear") as server, server.client() as client:
        for error in (str(errno.EIO), "ZeroDivisionError"):
            assert client.send() == "250 OK"
            disk.fail(call, error=error)
            assert client.command("RSET").startswith(FAILED)
            assert contents(store) == [HELLO]
            assert client.command("RSET").startswith("250")
            assert contents(store) == []
        log = server.errors()
    assert log.count("the store is not emptied") == 2
    assert log.count("Traceback") == 1


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
            patch.setattr(CALLS[name], name, function)
        with pytest.raises(OSError, match="the end"):
            handler._store.add(ONE)


def broken_from(number: int, call: Callable[..., Any], error: int) -> Callable[..., Any]:
    """Return *call*, whose *number*-th and all later ones fail."""
    calls = itertools.count(1)

    def function(*args: Any, **named: Any) -> Any:
        if next(calls) < number:
            return call(*args, **named)
        if call.__name__ == "close":  # what can't be closed is closed: close(2)
            call(*args, **named)
        function.failed = True  # type: ignore[attr-defined]
        raise OSError(error, os.strerror(error), *[a for a in args[:1] if isinstance(a, str)])

    function.failed = False  # type: ignore[attr-defined]
    return function


LEFT = re.compile(r"\.(lock|tmp|previous)$|/\.latest")


@pytest.mark.parametrize("error", [errno.EIO, errno.EEXIST])
def test_what_fails_again_and_again_is_told_and_leaves_nothing_when_it_is_over(
    kind: Kind,
    store: Path,
    error: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(time, "sleep", lambda pause: pytest.fail("nobody has a lock"))
    example = replace(EXAMPLE, size=3, rcpt_tos=["bob@x", "carol@x"])
    for call, module in CALLS.items():
        for number in itertools.count(1):
            caplog.clear()
            mails = [Mail(example, b"%d\r\n" % n).renamed() for n in range(4)]
            handler = made(kind, store)
            handler._store.add(mails[:1])
            stored = [mails[0].content]
            broken = broken_from(number, getattr(module, call), error)
            with monkeypatch.context() as patch:
                patch.setattr(module, call, broken)
                for mail in mails[1:3]:
                    with suppress(OSError):
                        handler._store.add([mail])
                        stored.append(mail.content)
            left = [name for name in tree(store.parent) if LEFT.search(name)]
            assert len(left) <= 1, (call, number)
            assert all(name in caplog.text for name in left), (call, number)
            links = [path for path in store.rglob("*") if path.is_symlink()]
            assert all(path.exists() for path in links), (call, number)
            handler._store.add(mails[3:])
            assert not any(map(LEFT.search, tree(store.parent))), (call, number)
            assert contents(store) == expected(kind, *stored, mails[3].content)
            shutil.rmtree(store.parent)
            store.parent.mkdir()
            if not broken.failed:  # type: ignore[attr-defined]
                break


@ON_DISK
def test_what_a_killed_writer_left_is_not_in_the_way(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    # The dead don't tidy up.
    fail_at_one(handler, monkeypatch, fsync=fail, unlink=lambda path: None)
    handler._store.add(ONE)  # as the server does, which doesn't know how far it came
    assert contents(store) == [HELLO]


@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda k: k.handler)
def test_what_another_server_began_stays_when_ours_fails(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    open_ = os.open

    def too_late(path: str, flags: int, mode: int = 0) -> int:
        monkeypatch.setattr(os, "open", open_)
        made(kind, store)._store.add(ONE)
        monkeypatch.setattr(os, "fsync", fail)
        raise FileNotFoundError(errno.ENOENT, "a moment ago")

    monkeypatch.setattr(os, "open", too_late)
    with pytest.raises(OSError, match="the end"):
        handler._store.add(ONE)
    assert contents(store) == [HELLO]


@DESCRIPTORS
@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda k: k.handler)
def test_no_lock_stays_where_the_file_cannot_be_looked_at(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    opened = os.listdir("/dev/fd")
    fail_at_one(handler, monkeypatch, stat=fail)
    assert len(os.listdir("/dev/fd")) == len(opened)
    assert not os.path.lexists(f"{store}.lock")
    handler._store.add(ONE)
    assert contents(store) == [HELLO]


@DESCRIPTORS
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
        handler._store.add(mails)
    assert len(os.listdir("/dev/fd")) == len(opened)
    assert contents(store) == []
    handler._store.add(mails)
    assert contents(store) == [HELLO] * 3


@DESCRIPTORS
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
    handler._store.add(ONE)
    handler._store.add(ONE)
    with monkeypatch.context() as broken:
        broken.setattr(os, "close", close_late)
        handler._store.tidy_up()
    assert len(os.listdir("/dev/fd")) == len(opened)


def test_any_number_of_files_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def close(fd: int) -> None:
        closed.append(fd)
        if fd % 2:
            fail()

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="the end"):
        close_all(list(range(5000)))
    assert len(closed) == 5000


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
