"""Who writes: the thread, and the child process of the command."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faulty import Disk, Gate
from load import Senders, names_of_whole
from support import (
    FAILED,
    HELLO,
    KIND,
    PATIENCE,
    Client,
    Kind,
    Server,
    children_of,
    contents,
    controlled,
    expected,
    made,
    state_of,
    wait_until,
    writer_of,
)

import mailhandlers
from mailhandlers.mail import Mail
from mailhandlers.writing import writers
from mailhandlers.writing.commit import GroupCommit

GONE = "the writer process is gone"
MAIL_FILE = pytest.mark.parametrize("kind", [KIND["MailFile"]], ids=["MailFile"])
CHILD = pytest.mark.parametrize("writer", ["child"])
CHOSEN = pytest.mark.parametrize("writer", ["any"])


# The child


@CHOSEN
def test_a_batch_takes_the_child_and_a_lone_message_the_thread(
    kind: Kind, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server:
        clients = [server.client() for _ in range(3)]
        with disk.stopped():
            clients[0].submit()
            assert disk.wait_for_writer() == server.process.pid
            for number, client in enumerate(clients[1:], 2):
                client.submit()
                disk.wait_for_messages(number)
            disk.fail("writev")
        assert [client.reply() for client in clients] == ["250 OK"] * 3
        assert disk.failed() == writer_of(server)


def test_a_server_whose_writer_is_killed_goes_on(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        child = writer_of(server)
        senders = Senders([server.port] * 6, "x", most=40)
        wait_until(lambda: len(senders.acknowledged) > 30)
        os.kill(child, signal.SIGKILL)
        senders.join()
        assert len(senders.acknowledged) == 240
        wait_until(lambda: state_of(child) is None)  # reaped: no zombie stays
        [line] = server.errors().splitlines()
        assert GONE in line
        if kind.keeps_all:
            # A batch that it wrote and could not tell of is written again.
            assert set(names_of_whole(store)) == set(senders.acknowledged)
        assert server.send() == "250 OK"


@CHILD
def test_a_writer_that_is_stopped_delays_its_batch_alone(
    kind: Kind, store: Path, disk: Disk
) -> None:
    sooner = "from mailhandlers.writing import child; child.CHILD_SECONDS = 1"
    with disk.serving(kind, store, change=sooner) as server, server.client() as client:
        assert client.send(b"1\r\n") == "250 OK"
        child = writer_of(server)
        os.kill(child, signal.SIGSTOP)
        client.submit(b"2\r\n")
        assert client.is_silent(0.5)
        assert client.reply() == "250 OK"
        wait_until(lambda: state_of(child) is None)
        assert client.send(b"3\r\n") == "250 OK"
        [line] = server.errors().splitlines()
        assert GONE in line
    assert contents(store) == expected(kind, b"1\r\n", b"2\r\n", b"3\r\n")


@CHILD
@MAIL_FILE
def test_a_stopped_writer_is_noticed_in_time_after_a_large_message(
    kind: Kind, store: Path, disk: Disk
) -> None:
    # A second an octet, so that the first message may take 50 minutes.
    slower = "from mailhandlers.writing import child; child.CHILD_SECONDS = child._PIECE = 1"
    with disk.serving(kind, store, change=slower) as server, server.client() as client:
        assert client.send(b"x\r\n" * 1000) == "250 OK"
        os.kill(writer_of(server), signal.SIGSTOP)
        assert client.send(b"2\r\n") == "250 OK"


class Runs:
    """What creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self._path), "w")


SAY = """
import json, os, types
from mailhandlers.writing import child
server = os.getpid()
say = lambda batch: {hostile!r} if os.getpid() == server else json.dumps(batch)
child.json = types.SimpleNamespace(dumps=say, loads=json.loads)
"""


@CHILD
@MAIL_FILE
@pytest.mark.parametrize("hostile", ["pickle", '{"a": 1}', "[[]]", "[" * 100_000, "", "\x00"])
def test_nothing_that_a_writer_is_sent_runs_anything(
    kind: Kind, store: Path, disk: Disk, hostile: str, tmp_path: Path
) -> None:
    marker = tmp_path / "hostile"
    text = pickle.dumps(Runs(marker), 0).decode() if hostile == "pickle" else hostile
    with disk.serving(kind, store, change=SAY.format(hostile=text)) as server:
        child = writer_of(server)
        assert server.send() == "250 OK"
        wait_until(lambda: state_of(child) is None)
        assert server.send() == "250 OK"
        log = server.errors()
    assert not marker.exists()
    assert log.count("the writer process ends\nTraceback") == 1
    assert log.count(GONE) == 1
    assert contents(store) == [HELLO]


@CHOSEN
def test_a_fork_that_fails_is_one_warning(kind: Kind, store: Path, disk: Disk) -> None:
    crowded = """
import errno, os
def fail(): raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
os.fork = fail
"""
    with disk.serving(kind, store, change=crowded) as server:
        senders = Senders([server.port] * 6, "x", most=10)
        senders.join()
        assert children_of(server) == []
        [line] = server.errors().splitlines()
        assert line.startswith("WARNING:mailhandlers:no writer process: Resource temporarily")
    assert len(senders.acknowledged) == 60
    if kind.keeps_all:
        assert sorted(names_of_whole(store)) == sorted(senders.acknowledged)


@MAIL_FILE
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_writer_ends_with_its_server(
    kind: Kind, store: Path, number: signal.Signals
) -> None:
    with Server(kind.handler, store) as server:
        child = writer_of(server)
        server.process.send_signal(number)
        server.process.wait(PATIENCE)
        # Whoever adopted it may be slow to reap it.
        wait_until(lambda: state_of(child) in (None, "Z"))


@CHILD
@MAIL_FILE
def test_a_writer_does_not_mind_the_terminals_ctrl_c(
    kind: Kind, store: Path, disk: Disk
) -> None:
    at_once = """
import os, signal
fork = os.fork
def fork_and_interrupt():
    pid = fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGINT)
    return pid
os.fork = fork_and_interrupt
"""
    with disk.serving(kind, store, change=at_once) as server:
        child = writer_of(server)
        os.kill(child, signal.SIGINT)
        disk.fail("writev")
        assert server.send().startswith(FAILED)
        assert disk.failed() == child
        assert server.send() == "250 OK"
        assert server.stop() == 0
        assert state_of(child) is None
        assert len(server.errors().splitlines()) == 1


def test_a_command_that_ends_waits_for_the_write_in_flight(
    kind: Kind, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server:
        child = writer_of(server)
        with disk.stopped(), server.client() as client:
            client.submit()
            disk.wait_for_writer()
            server.interrupt()
            wait_until(lambda: not server.listens())
            assert server.process.poll() is None
        assert server.process.wait(PATIENCE) == 0
        assert state_of(child) is None
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


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this is Linux's /proc")
def test_a_server_lets_go_of_what_it_replaced(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        Senders([server.port] * 6, "x", most=10).join()
        for _ in range(3):
            assert server.send() == "250 OK"
        processes = [server.process.pid, writer_of(server)]

        def kept() -> list[str]:
            names = []
            for fd in (fd for pid in processes for fd in Path(f"/proc/{pid}/fd").iterdir()):
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
    commit, mails = GroupCommit.commit, []

    async def noting_commit(self: GroupCommit, mail: Mail) -> str:
        mails.append(mail)
        return await commit(self, mail)

    monkeypatch.setattr(GroupCommit, "commit", noting_commit)
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
    monkeypatch.setattr(writers, "IDLE_SECONDS", 0.05)
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
    monkeypatch.setattr(writers, "IDLE_SECONDS", 0)
    handler = mailhandlers.MailFile(store)

    def reset_often() -> None:
        for _ in range(500):
            handler.reset()

    done = [begun(reset_often) for _ in range(4)]
    assert not wait(done, PATIENCE).not_done
    wait_until(lambda: not threads())


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


def test_a_thread_that_cannot_start_is_451_each_time_and_nothing_is_written_later(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    handler = getattr(mailhandlers, kind.handler)(store, rset="clear")
    with controlled(handler) as controller, Client(controller.port) as client:
        with monkeypatch.context() as crowded:
            crowded.setattr(threading.Thread, "start", fail)
            assert client.send().startswith(FAILED)
            assert client.send().startswith(FAILED)
            assert client.command("RSET").startswith("250")
        assert client.send() == "250 OK"
    assert contents(store) == [HELLO]
    assert ["can't start new thread" in record.getMessage() for record in caplog.records] == [
        True,
        True,
    ]


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
