"""The thread that writes: when it starts and ends, and in which order it does its jobs."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faulty import Disk, Gate
from load import Senders
from support import (
    HELLO,
    KIND,
    ON_DISK,
    PATIENCE,
    Client,
    Kind,
    Server,
    contents,
    controlled,
    expected,
    made,
    wait_until,
)

import mailhandlers
from mailhandlers import commit
from mailhandlers.commit import Commits, WriterThread
from mailhandlers.mail import Mail

MAIL_FILE = pytest.mark.parametrize("kind", [KIND["MailFile"]], ids=["MailFile"])


def test_a_command_that_ends_waits_for_the_write_in_flight(
    kind: Kind, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server:
        with disk.stopped(), server.client() as client:
            client.submit()
            disk.wait_for_writer()
            server.interrupt()
            wait_until(lambda: not server.listens())
            assert server.process.poll() is None
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.errors()
        assert ":mailhandlers:" not in server.errors()
    assert contents(store) == [HELLO]
    assert not Path(f"{store}.lock").exists()


@pytest.mark.parametrize("kind", [KIND["PerRecipientDir"]], ids=["PerRecipientDir"])
def test_a_slow_disk_needs_no_further_threads(kind: Kind, store: Path, disk: Disk) -> None:
    """A program that ends has none any more, one at its limit neither."""
    crowded = """
import threading
from mailhandlers.disk import flushing
start = threading.Thread.start
def fail(thread):
    if thread.name != "mailhandlers-writer":
        raise RuntimeError("can't start new thread")
    start(thread)
flushing._SLOW_FLUSH = -1.0  # each disk counts as a slow one
threading.Thread.start = fail
"""
    with disk.serving(kind, store, change=crowded) as server:
        assert server.send(to=["bob@example.com", "eva@example.com"]) == "250 OK"
        assert server.errors() == ""


@pytest.mark.posix
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this is Linux's /proc")
def test_a_server_lets_go_of_what_it_replaced(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        Senders([server.port] * 6, "x", most=10).join()
        for _ in range(3):
            assert server.send() == "250 OK"

        def kept() -> list[str]:
            names = []
            for fd in Path(f"/proc/{server.process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed in this moment
                    names.append(os.readlink(fd))
            return [name for name in names if name.endswith("(deleted)")]

        wait_until(lambda: not [name for name in kept() if str(store.parent) in name])


# The thread


Threads = Callable[[], list[threading.Thread]]


@pytest.fixture
def threads() -> Threads:
    """What tells the writer threads of this test."""
    before = threading.enumerate()
    name = "mailhandlers-writer"
    return lambda: [t for t in threading.enumerate() if t.name == name and t not in before]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[Mail]:
    """The messages that a handler of this process was given."""
    receive, mails = Commits.commit, []

    async def noting_commit(self: Commits, mail: Mail) -> str:
        mails.append(mail)
        return await receive(self, mail)

    monkeypatch.setattr(Commits, "commit", noting_commit)
    return mails


def begun(work: Callable[[], None]) -> Future[None]:
    """Return the future of *work*, which a thread does; one that hangs ends with the tests."""
    done: Future[None] = Future()

    def do() -> None:
        try:
            work()
            done.set_result(None)
        except Exception as error:  # noqa: BLE001
            done.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return done


def is_waiting(future: Future[Any]) -> bool:
    """Tell whether *future* is not done for a while."""
    return not wait([future], 0.2).done


def test_a_thread_ends_when_idle_and_starts_again(
    kind: Kind, store: Path, gate: Gate, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "IDLE_SECONDS", 0.05)
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        for content in (b"1\r\n", b"2\r\n"):
            with gate.closed():
                client.submit(content)
                gate.wait_for_somebody()
                assert len(threads()) == 1
            assert client.reply() == "250 OK"
            wait_until(lambda: not threads())
    assert contents(store) == expected(kind, b"1\r\n", b"2\r\n")


def test_close_ends_the_thread_after_what_is_being_written(
    kind: Kind, store: Path, gate: Gate, threads: Threads
) -> None:
    handler = made(kind, store)
    handler.close()  # no thread yet
    with controlled(handler) as controller, Client(controller.port) as client:
        for content in (b"1\r\n", b"2\r\n"):
            with gate.closed():
                client.submit(content)
                gate.wait_for_somebody()
                assert len(threads()) == 1
                closed = begun(handler.close)
                assert is_waiting(closed)
            closed.result(PATIENCE)
            assert threads() == []
            assert client.reply() == "250 OK"
    assert contents(store) == expected(kind, b"1\r\n", b"2\r\n")


@MAIL_FILE
def test_what_comes_while_the_thread_ends_is_done(
    store: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "IDLE_SECONDS", 0)
    handler = mailhandlers.MailFile(store)

    def reset_often() -> None:
        for _ in range(500):
            handler.reset()

    done = [begun(reset_often) for _ in range(4)]
    assert not wait(done, PATIENCE).not_done
    wait_until(lambda: not threads())


def test_a_loop_does_not_wait_for_a_thread_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "IDLE_SECONDS", 0)
    resting, rested, done = threading.Event(), threading.Event(), threading.Event()

    def rest() -> None:  # as long as files of others are flushed
        resting.set()
        assert rested.wait(PATIENCE)

    thread = WriterThread(lambda: None, rest)
    thread.do(list, lambda replies: None)
    assert resting.wait(PATIENCE)
    given = begun(lambda: thread.do(list, lambda replies: done.set()))
    given.result(PATIENCE)
    assert not done.is_set()
    rested.set()
    assert done.wait(PATIENCE)
    thread.close()


def test_an_error_nobody_foresaw_behind_the_reply_ends_no_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def tidy_up() -> None:
        raise MemoryError

    thread = WriterThread(tidy_up, lambda: None)
    for _ in range(2):
        done = threading.Event()
        thread.do(list, lambda replies, done=done: done.set())  # type: ignore[misc]
        assert done.wait(5)
    begun(thread.close).result(PATIENCE)
    assert caplog.text.count("an error of this program") == 2


def test_one_thread_serves_all_loops_in_order_of_arrival(
    kind: Kind, store: Path, gate: Gate, threads: Threads, received: list[Mail]
) -> None:
    handler = made(kind, store)
    sent = [b"1\r\n", b"2\r\n", b"3\r\n"]
    with (
        controlled(handler) as one,
        controlled(handler) as two,
        controlled(handler) as three,
    ):
        clients = [Client(controller.port) for controller in (one, two, three)]
        with gate.closed():
            for number, (client, content) in enumerate(zip(clients, sent, strict=True), 1):
                client.submit(content)
                wait_until(lambda number=number: len(received) == number)  # type: ignore[misc]
            gate.wait_for_somebody()
            assert len(threads()) == 1
        assert [client.reply() for client in clients] == ["250 OK"] * 3
        for client in clients:
            client.close()
    assert contents(store) == expected(kind, *sent)


def test_reset_comes_after_what_is_being_written(kind: Kind, store: Path, gate: Gate) -> None:
    handler = made(kind, store)
    with controlled(handler) as controller, Client(controller.port) as client:
        with gate.closed():
            client.submit(to=["bob@example.com", "eva@example.com"])
            gate.wait_for_somebody()
            emptied = begun(handler.reset)
            assert is_waiting(emptied)
        assert client.reply() == "250 OK"
        emptied.result(PATIENCE)
        assert contents(store) == []
        assert client.send() == "250 OK"
    assert contents(store) == [HELLO]


@MAIL_FILE
@pytest.mark.parametrize("error", [ZeroDivisionError, PermissionError])
def test_an_error_in_reset_is_raised_and_the_next_message_stored(
    store: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise error

    handler = mailhandlers.MailFile(store)
    with controlled(handler) as controller, Client(controller.port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", fail)
            with pytest.raises(error):
                begun(handler.reset).result(PATIENCE)
        assert client.send() == "250 OK"


@ON_DISK
def test_where_no_thread_can_start_the_loop_writes(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    handler = getattr(mailhandlers, kind.handler)(store, rset="clear")
    with controlled(handler) as controller, Client(controller.port) as client:
        with monkeypatch.context() as crowded:
            crowded.setattr(threading.Thread, "start", fail)
            assert client.send(b"1\r\n") == "250 OK"
            assert contents(store) == [b"1\r\n"]
            assert client.command("RSET").startswith("250")
            assert contents(store) == []
        assert client.send() == "250 OK"
    assert contents(store) == [HELLO]
    assert caplog.records == []


def test_a_stop_with_mail_in_the_queue_leaves_no_task(
    kind: Kind,
    store: Path,
    gate: Gate,
    received: list[Mail],
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = made(kind, store)
    with gate.closed():
        with controlled(handler) as controller:
            clients = [Client(controller.port) for _ in range(3)]
            for client in clients:
                client.submit()
            gate.wait_for_somebody()
            wait_until(lambda: len(received) == 3)
        for client in clients:
            client.close()
    handler.close()
    del controller
    gc.collect()
    assert caplog.records == []


def test_a_stop_with_a_write_in_flight_raises_nowhere(
    kind: Kind,
    store: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    handler = made(kind, store)
    with gate.closed(), controlled(handler) as controller, Client(controller.port) as client:
        client.submit()
        gate.wait_for_somebody()
    handler.close()
    assert raised == []
    assert caplog.records == []
    assert contents(store) == [HELLO]
