"""Faults made for real: full disks, locks held, errors at every step, kill -9 under load."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import hashlib
import itertools
import logging
import mailbox
import os
import platform
import random
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import (
    HELLO,
    KINDS,
    PATIENCE,
    Client,
    Kind,
    Server,
    controlled,
    tree,
    wait_until,
)
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import Inbox, handlers, read_latest, read_messages
from mailhandlers.mail import Mail
from mailhandlers.writing import locks
from mailhandlers.writing.undo import Undo
from mailhandlers.writing.writers import WriterThread

FULL = "452 4.3.1 "
FAILED = "451 4.3.0 "
LARGE = b"Subject: large\r\n\r\n" + b"x" * 998 + b"\r\n" + (b"y" * 998 + b"\r\n") * 3000


def made(kind: Kind, store: Path) -> Any:
    return getattr(mailhandlers, kind.handler)(store)


def contents(store: Path) -> list[bytes]:
    return [message.original_content for message in read_messages(store)]


def expected(kind: Kind, *sent: bytes) -> list[bytes]:
    return [*sent] if kind.keeps_all else [*sent[-1:]]


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Write a file that leaves no room on *disk*."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_is_452_and_the_store_stays_as_it_was(kind: Kind, small_disk: Path) -> None:
    store = small_disk / kind.store
    with Server(kind.handler, store) as server, server.client() as client:
        assert client.send().startswith("250")
        before = tree(small_disk)
        assert client.send(LARGE).startswith(FULL)
        assert tree(small_disk) == before

        filler = fill(small_disk)
        assert client.send(LARGE, to=["new@x", "bob@example.com"]).startswith(FULL)
        filler.unlink()
        assert tree(small_disk) == before

        assert client.send(HELLO).startswith("250")
        assert contents(store) == expected(kind, HELLO, HELLO)
        log = server.errors().splitlines()
    assert len(log) == 2
    assert all("No space left on device" in line and "eva@example.com" in line for line in log)
    assert all(str(small_disk) in line for line in log)


def test_a_full_disk_at_the_first_message_leaves_nothing(kind: Kind, small_disk: Path) -> None:
    with Server(kind.handler, small_disk / kind.store) as server:
        assert server.send(LARGE).startswith(FULL)
        assert tree(small_disk) == {}
        assert server.send().startswith("250")


def test_a_small_message_beside_one_that_does_not_fit_is_stored(
    kind: Kind, small_disk: Path, gate: Gate
) -> None:
    store = small_disk / kind.store
    with (
        controlled(made(kind, store)) as controller,
        Client(controller.port) as first,
        Client(controller.port) as large,
        Client(controller.port) as small,
    ):
        gate.close()
        first.submit(b"1\r\n")
        gate.wait_for_somebody()
        large.submit(LARGE)
        small.submit(b"2\r\n")
        assert large.is_silent()
        assert small.is_silent(0)
        gate.open()
        assert [client.reply()[:3] for client in (first, large, small)] == ["250", "452", "250"]
    assert contents(store) == expected(kind, b"1\r\n", b"2\r\n")


# No permission


# Root may write anywhere, but for this.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the permission to write from *folder* and all that is in it."""
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


def test_no_permission_is_451_until_it_is_given(kind: Kind, store: Path) -> None:
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere")
    prefix = UNPRIVILEGED if os.getuid() == 0 else []
    with Server(kind.handler, store, prefix=prefix) as server:
        with read_only(store.parent):
            assert server.send().startswith(FAILED)
            assert tree(store.parent) == {}
        assert server.send().startswith("250")
        before = tree(store.parent)
        with read_only(store.parent):
            assert server.send(to=["new@x", "bob@example.com"]).startswith(FAILED)
            assert tree(store.parent) == before
        assert server.send().startswith("250")
        assert server.errors().count("Permission denied") == 2
        assert "Traceback" not in server.errors()
    assert contents(store) == expected(kind, HELLO, HELLO)


# A lock that another program holds


@contextmanager
def flock(path: Path) -> Iterator[None]:
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def posix_lock(path: Path) -> Iterator[None]:
    with path.open("rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


@contextmanager
def dotlock(path: Path) -> Iterator[None]:
    lock = Path(f"{path}.lock")
    lock.touch(exist_ok=False)
    yield
    lock.unlink()


@contextmanager
def lock_of_python(path: Path) -> Iterator[None]:
    box = mailbox.mbox(path, create=False)
    box.lock()
    yield
    box.unlock()


KIND = {kind.handler: kind for kind in KINDS}
JSON_LINES, MBOX = KIND["JsonLines"], KIND["MboxSink"]
LOCKS = [(JSON_LINES, flock), (MBOX, posix_lock), (MBOX, dotlock), (MBOX, lock_of_python)]
Lock = Callable[[Path], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("kind", "lock"), LOCKS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_message_waits_for_a_lock_and_is_stored_then(
    kind: Kind, lock: Lock, store: Path
) -> None:
    with Server(kind.handler, store) as server, server.client() as client:
        assert client.send(b"1\r\n").startswith("250")
        with lock(store):
            client.submit(b"2\r\n")
            assert client.is_silent(0.5)
            assert contents(store) == [b"1\r\n"]
        assert client.reply().startswith("250")
        assert not Path(f"{store}.lock").exists()
    assert contents(store) == [b"1\r\n", b"2\r\n"]


@pytest.mark.parametrize(("kind", "lock"), [(JSON_LINES, flock), (MBOX, posix_lock)])
def test_a_file_rotated_under_its_lock_is_made_anew(
    kind: Kind, lock: Lock, store: Path
) -> None:
    with Server(kind.handler, store) as server, server.client() as client:
        assert client.send(b"1\r\n").startswith("250")
        with lock(store):
            client.submit(b"2\r\n")
            assert client.is_silent()
            rotated = store.rename(f"{store}.1")
        assert client.reply().startswith("250")
    assert contents(store) == [b"2\r\n"]
    assert contents(rotated) == [b"1\r\n"]


@pytest.mark.parametrize(("kind", "lock"), [(JSON_LINES, flock), (MBOX, dotlock)])
def test_a_lock_not_had_in_time_is_451(
    kind: Kind,
    lock: Lock,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0.2)
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        assert client.send(b"1\r\n").startswith("250")
        before = tree(store.parent)
        with lock(store):
            assert client.send(b"2\r\n").startswith(FAILED)
        assert tree(store.parent) == before
        assert client.send(b"3\r\n").startswith("250")
    assert contents(store) == [b"1\r\n", b"3\r\n"]
    [line] = [record.getMessage() for record in caplog.records if record.name == "mailhandlers"]
    assert str(store) in line
    assert "lock" in line
    assert "eva@example.com" in line


def test_the_dotlock_of_a_dead_server_is_broken(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    os.symlink("mailhandlers.99999999", f"{store}.lock")
    with Server("MboxSink", store) as server:
        assert server.send().startswith("250")
    assert os.listdir(tmp_path) == ["mail.mbox"]


# An error at any step


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
        fault.at(0)
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


# A slow disk


class Gate:
    """Holds whoever calls os.fsync while it is closed."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._held = threading.Event()
        self._open.set()
        self._fsync = os.fsync
        self.caller = threading.current_thread()

    def __call__(self, fd: int) -> None:
        if not self._open.is_set():
            self.caller = threading.current_thread()
            self._held.set()
            assert self._open.wait(PATIENCE)
        self._fsync(fd)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait_for_somebody(self) -> None:
        assert self._held.wait(PATIENCE)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A disk that the test can stop and let go."""
    held = Gate()
    monkeypatch.setattr(os, "fsync", held)
    yield held
    held.open()


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k not in (MBOX, JSON_LINES)], ids=lambda k: k.handler
)
def test_no_program_sees_a_file_before_the_disk_has_it(
    kind: Kind, store: Path, gate: Gate
) -> None:
    def seen() -> set[tuple[Path, bytes]]:
        # What mutt, a web server or a shell's "*" would find.
        return {
            (path, path.read_bytes())
            for path in store.parent.rglob("*")
            if path.is_file() and path.name[0] != "." and path.parent.name != "tmp"
        }

    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        assert client.send() == "250 OK"
        before = seen()
        gate.close()
        client.submit()
        gate.wait_for_somebody()
        assert seen() == before
        gate.open()
        wait_until(lambda: seen() != before)


def test_a_slow_disk_delays_its_own_sender_only(kind: Kind, store: Path, gate: Gate) -> None:
    with (
        controlled(made(kind, store)) as controller,
        Client(controller.port) as slow,
        Client(controller.port) as other,
    ):
        gate.close()
        slow.submit()
        gate.wait_for_somebody()
        assert other.begin().startswith("354")
        assert slow.is_silent(0)
        gate.open()
        assert slow.reply() == "250 OK"


def test_a_message_whose_sender_went_away_stays_stored(
    kind: Kind, store: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    with controlled(made(kind, store)) as controller:
        gate.close()
        with Client(controller.port) as client:
            client.submit()
            gate.wait_for_somebody()
        with Client(controller.port) as other:
            assert other.command("NOOP").startswith("250")
        gate.open()
        wait_until(lambda: contents(store) == [HELLO])
        with Client(controller.port) as other:
            assert other.send().startswith("250")
    assert contents(store) == expected(kind, HELLO, HELLO)
    assert caplog.records == []


@pytest.mark.parametrize("kind", [KIND["MailFile"]], ids=["MailFile"])
def test_no_message_overtakes_that_of_a_client_that_went_away(store: Path, gate: Gate) -> None:
    handler = mailhandlers.MailFile(store)

    class Child:
        async def write(self, mails: list[Mail]) -> None:
            gate.open()
            handler._write(mails)

    handler._commit._child = Child()  # type: ignore[assignment]
    mails = [Mail(replace(EXAMPLE, id=f"{n}", size=len(HELLO)), HELLO) for n in range(3)]

    async def send() -> list[str]:
        gate.close()
        gone = asyncio.create_task(handler._commit.store(mails[0]))
        await asyncio.to_thread(gate.wait_for_somebody)
        others = [asyncio.create_task(handler._commit.store(mail)) for mail in mails[1:]]
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        asyncio.get_running_loop().call_soon(gate.open)
        return await asyncio.gather(*others)

    assert asyncio.run(send()) == ["250 OK", "250 OK"]
    assert read_latest(store).envelope == mails[2].sealed().envelope


@pytest.mark.parametrize("kind", [KIND["MailFile"]], ids=["MailFile"])
def test_no_message_overtakes_one_that_no_thread_has_begun(store: Path) -> None:
    handler = mailhandlers.MailFile(store)
    jobs: list[Callable[[], None]] = []

    class Thread:
        submit = jobs.append

    class Child:
        async def write(self, mails: list[Mail]) -> None:
            handler._write(mails)

    handler._commit._thread = Thread()  # type: ignore[assignment]
    handler._commit._child = Child()  # type: ignore[assignment]
    mails = [Mail(replace(EXAMPLE, id=f"{n}", size=len(HELLO)), HELLO) for n in range(3)]

    async def send() -> list[str]:
        gone, *others = [asyncio.create_task(handler._commit.store(mail)) for mail in mails]
        await asyncio.sleep(0)
        gone.cancel()
        while len(jobs) < 2:
            await asyncio.sleep(0)
        for job in jobs:
            job()
        return await asyncio.gather(*others)

    assert asyncio.run(asyncio.wait_for(send(), PATIENCE)) == ["250 OK", "250 OK"]
    assert read_latest(store).envelope == mails[2].sealed().envelope


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


@pytest.mark.parametrize(
    ("kind", "lock"), LOCKS[:3], ids=lambda value: getattr(value, "__name__", None)
)
def test_a_command_that_ends_waits_for_the_write_in_flight(
    kind: Kind, lock: Lock, store: Path
) -> None:
    with Server(kind.handler, store) as server:
        assert server.send(b"1\r\n") == "250 OK"
        with lock(store), server.client() as client:
            client.submit(b"2\r\n")
            assert client.is_silent()
            server.interrupt()
            wait_until(lambda: not server.listens())
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.errors()
    assert contents(store) == [b"1\r\n", b"2\r\n"]
    assert not Path(f"{store}.lock").exists()


# Many senders, kill -9


def numbered(name: str) -> bytes:
    """Return a message of some size that tells whether it is whole."""
    lines = random.Random(name).choice([1, 3, 10, 100, 1000])
    body = b"From me\r\n>From you\r\n" + f"{name} says hello\r\n".encode() * lines
    digest = hashlib.sha256(body).hexdigest()
    return f"Subject: {name}\r\nX-Digest: {digest}\r\n\r\n".encode() + body


def names_of_whole(store: Path) -> list[str]:
    """Return the names of the messages of :func:`numbered` in *store*; fail if one is torn."""
    found = []
    for message in read_messages(store):
        name = str(message["Subject"])
        assert message.original_content == numbered(name)
        found.append(name)
    return found


class Senders:
    """Connections that send numbered messages, each as fast as it can."""

    def __init__(self, ports: list[int], prefix: str, most: int = 1_000_000) -> None:
        self.acknowledged: list[str] = []
        self.refusals: list[str] = []
        self.attempted: list[str] = []
        self._prefix = prefix
        self._most = most
        self._pool = ThreadPoolExecutor(len(ports))
        self._done = [self._pool.submit(self._send_all, *pair) for pair in enumerate(ports)]

    def _send_all(self, connection: int, port: int) -> None:
        try:
            with Client(port) as client:
                for number in range(self._most):
                    name = f"{self._prefix}-{connection}-{number}"
                    self.attempted.append(name)
                    recipients = ("bob@example.com", f"user{number % 3}@x")
                    reply = client.send(numbered(name), to=recipients)
                    if reply == "250 OK":
                        self.acknowledged.append(name)
                    else:
                        self.refusals.append(reply)
        except ConnectionError:
            pass  # the server was killed

    @property
    def finished(self) -> bool:
        return all(sender.done() for sender in self._done)

    def join(self) -> None:
        self._pool.shutdown()
        for sender in self._done:
            sender.result()


ROUNDS = 8


def test_kill_9_under_load_loses_nothing_acknowledged_and_tears_nothing(
    kind: Kind, store: Path
) -> None:
    acknowledged: set[str] = set()
    attempted: set[str] = set()
    for number in range(ROUNDS):
        with Server(kind.handler, store) as server:
            senders = Senders([server.port] * 6, str(number))
            enough = random.Random(number).randrange(5, 60)
            while len(senders.acknowledged) < enough:
                names_of_whole(store)
                assert not senders.finished
            server.kill()
            senders.join()
        assert senders.refusals == []
        acknowledged.update(senders.acknowledged)
        attempted.update(senders.attempted)
        found = Counter(names_of_whole(store))
        assert set(found.values()) <= {1}
        assert set(found) <= attempted
        assert not kind.keeps_all or acknowledged <= set(found)
    with Server(kind.handler, store) as server:
        assert server.send(numbered("last")).startswith("250")
    assert names_of_whole(store)[-1] == "last"
    assert not kind.keeps_all or acknowledged <= set(names_of_whole(store))


def writers_of(server: Server) -> list[int]:
    """Return the processes that the server has started."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


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


KEEP_ALL = pytest.mark.parametrize(
    "kind", [k for k in KINDS if k.keeps_all], ids=lambda k: k.handler
)


@KEEP_ALL
def test_a_disk_that_fills_under_load_has_what_was_acknowledged(
    kind: Kind, small_disk: Path
) -> None:
    store = small_disk / kind.store
    with Server(kind.handler, store) as server:
        senders = Senders([server.port] * 6, "x", most=100)
        senders.join()
        assert senders.refusals
        assert all(reply.startswith(FULL) for reply in senders.refusals)
        assert sorted(names_of_whole(store)) == sorted(senders.acknowledged)
        Inbox(store).clear()
        assert server.send().startswith("250")
    assert contents(store) == [HELLO]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_nobody_owns_what_arrived_under_load(kind: Kind, open_folder: Path) -> None:
    store = open_folder / kind.store
    with Server(kind.handler, store, flags=()) as server:
        senders = Senders([server.port] * 6, "x", most=10)
        senders.join()
    assert len(senders.acknowledged) == 60
    owners = {path.stat().st_uid for path in [store, *store.rglob("*")]}
    assert owners.isdisjoint({0})


@KEEP_ALL
def test_three_servers_share_a_store(kind: Kind, store: Path) -> None:
    with (
        Server(kind.handler, store) as one,
        Server(kind.handler, store) as two,
        Server(kind.handler, store) as three,
    ):
        senders = Senders([one.port, two.port, three.port] * 2, "x", most=25)
        while not senders.finished:
            names = names_of_whole(store)
            assert len(names) == len(set(names))
        senders.join()
    assert len(senders.acknowledged) == 150
    assert sorted(names_of_whole(store)) == sorted(senders.acknowledged)
    if kind.handler == "PerRecipientDir":
        latest = read_latest(store, to="bob@example.com")
        pointed = (store / "bob@example.com" / "latest.eml").read_bytes()
        assert latest.envelope is not None
        assert latest.envelope.to_json().encode() in re.sub(rb"\n[ \t]", b" ", pointed)


# Stored before it is said


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """The beginning of a command that records system calls in ``trace``."""
    calls = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,sendto,write,writev,mmap"
    command = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={calls}"]
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return command


def last_reply(trace: str) -> list[str]:
    """Return the calls that ended between the last 354 and the reply after it, in order."""
    sent = trace[trace.rindex('"354 ') :].partition('"250 OK')[0]
    ended = re.findall(
        r"(?:\d+ +|<\.\.\. )(\w+)(?:\(| resumed)[^\n]*\) += \d+$", sent, re.MULTILINE
    )
    return ["show" if call.startswith(("link", "rename")) else call for call in ended]


def test_a_message_is_on_disk_before_the_reply(
    kind: Kind, store: Path, strace: list[str], tmp_path: Path
) -> None:
    with Server(kind.handler, store, prefix=strace) as server:
        for _ in range(2):
            assert server.send().startswith("250")
            steps = last_reply((tmp_path / "trace").read_text())
            remaining = iter(steps)
            # Written, on disk, under its final name, and that on disk as well.
            grows = kind in (MBOX, JSON_LINES)
            wanted = ["writev", "fsync"] if grows else ["writev", "fsync", "show", "fsync"]
            assert all(step in remaining for step in wanted), steps


def test_without_sync_no_disk_is_waited_for(
    kind: Kind, store: Path, strace: list[str], tmp_path: Path
) -> None:
    with Server(kind.handler, store, "sync=no", prefix=strace) as server:
        assert server.send().startswith("250")
        assert "fsync" not in last_reply((tmp_path / "trace").read_text())
    assert contents(store) == [HELLO]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is a habit of glibc")
@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_the_command_maps_no_memory_to_read(
    store: Path, strace: list[str], tmp_path: Path
) -> None:
    with Server("MboxSink", store, prefix=strace) as server:
        assert server.send() == "250 OK"
        before = len((tmp_path / "trace").read_text())
        assert server.send() == "250 OK"
        trace = (tmp_path / "trace").read_text()[before:]
    assert "sendto" in trace
    assert not re.search(r"mmap\(NULL, 26\d{4},", trace)  # 256 KiB, as asyncio asks for
