"""Who writes: the thread, and the child process of the command."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest
from load import Senders, names_of_whole
from support import (
    FAILED,
    HELLO,
    PATIENCE,
    Client,
    Gate,
    Kind,
    Server,
    contents,
    controlled,
    made,
    wait_until,
    writers_of,
)

from mailhandlers.writing.writers import WriterThread


def test_a_stop_with_mail_in_the_queue_leaves_no_task(
    kind: Kind, store: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    with controlled(made(kind, store)) as controller:
        clients = [Client(controller.port) for _ in range(3)]
        gate.close()
        clients[0].submit()
        gate.wait_for_somebody()
        for client in clients[1:]:
            client.submit()
        handler = controller.handler
        wait_until(lambda: [len(p) for p in handler._commit._pending.values()] == [2])
    gate.open()
    for client in clients:
        client.close()
    wait_until(lambda: not gate.caller.is_alive())
    del controller
    gc.collect()
    assert caplog.records == []


def test_a_writer_that_cannot_start_is_451_each_time(
    kind: Kind, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with controlled(made(kind, store)) as controller:
        gone = controller.loop.shutdown_default_executor()
        asyncio.run_coroutine_threadsafe(gone, controller.loop).result()
        with Client(controller.port) as client:
            assert client.send().startswith(FAILED)
            assert client.send().startswith(FAILED)
    assert contents(store) == []
    assert len(caplog.records) == 2


@pytest.mark.parametrize("thread", [None, WriterThread], ids=["executor", "thread"])
def test_a_message_that_no_thread_could_write_is_not_written_later(
    kind: Kind,
    store: Path,
    thread: type[WriterThread] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        controller.handler._commit._thread = thread and thread()
        with monkeypatch.context() as crowded:
            crowded.setattr(threading.Thread, "start", fail)
            assert client.send().startswith(FAILED)
        assert client.send() == "250 OK"
    assert contents(store) == [HELLO]


def test_a_stop_with_a_write_in_flight_raises_nowhere(
    kind: Kind,
    store: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with controlled(made(kind, store)) as controller:
        client = Client(controller.port)
        gate.close()
        client.submit()
        gate.wait_for_somebody()
    gate.open()
    client.close()
    wait_until(lambda: not gate.caller.is_alive())
    assert raised == []
    assert caplog.records == []
    assert contents(store) == [HELLO]


def test_a_thread_that_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    thread = WriterThread()
    thread.submit(fail)
    wait_until(lambda: not thread._thread.is_alive())
    done = threading.Event()
    thread.submit(done.set)
    assert done.wait(PATIENCE)
    assert len(told) == 1


def test_a_server_whose_writer_is_killed_goes_on(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        senders = Senders([server.port] * 6, "x", most=40)
        wait_until(lambda: len(senders.acknowledged) > 30)
        writers = writers_of(server)
        for child in writers:
            os.kill(child, 9)
        senders.join()
        log = server.errors().splitlines()
    assert len(senders.acknowledged) == 240
    assert ["the writer process is gone" in line for line in log] == [True] * len(writers)
    if kind.keeps_all:
        # A batch that it wrote and could not tell of is written again.
        assert set(names_of_whole(store)) == set(senders.acknowledged)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this is Linux's /proc")
def test_a_server_lets_go_of_what_it_replaced(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        Senders([server.port] * 6, "x", most=10).join()
        for _ in range(3):
            assert server.send() == "250 OK"
        processes = [server.process.pid, *writers_of(server)]

        def kept() -> list[str]:
            files = [fd for pid in processes for fd in Path(f"/proc/{pid}/fd").iterdir()]
            return [name for name in map(os.readlink, files) if name.endswith("(deleted)")]

        wait_until(lambda: not [name for name in kept() if str(store.parent) in name])
