"""Locks that other programs hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from faulty import Disk
from locking import dotlock, flock, lock_of_python, posix_lock
from support import FAILED, JSON_LINES, MBOX, Kind, Server, contents, tree

LOCKS = [(JSON_LINES, flock), (MBOX, posix_lock), (MBOX, dotlock), (MBOX, lock_of_python)]


Lock = Callable[[Path], AbstractContextManager[None]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "lock"), LOCKS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_message_waits_for_a_lock_and_is_stored_then(
    kind: Kind, lock: Lock, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server, server.client() as client:
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
    kind: Kind, lock: Lock, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server, server.client() as client:
        assert client.send(b"1\r\n").startswith("250")
        with lock(store):
            client.submit(b"2\r\n")
            assert client.is_silent()
            rotated = store.rename(f"{store}.1")
        assert client.reply().startswith("250")
    assert contents(store) == [b"2\r\n"]
    assert contents(rotated) == [b"1\r\n"]


@pytest.mark.parametrize(("kind", "lock"), [(JSON_LINES, flock), (MBOX, dotlock)])
def test_a_lock_not_had_in_time_is_451(kind: Kind, lock: Lock, store: Path, disk: Disk) -> None:
    sooner = "from mailhandlers.disk import locks; locks.LOCK_TIMEOUT = 0.2"
    with disk.serving(kind, store, change=sooner) as server, server.client() as client:
        assert client.send(b"1\r\n").startswith("250")
        before = tree(store.parent)
        with lock(store):
            assert client.send(b"2\r\n").startswith(FAILED)
        assert tree(store.parent) == before
        assert client.send(b"3\r\n").startswith("250")
        [line] = server.errors().splitlines()
    assert contents(store) == [b"1\r\n", b"3\r\n"]
    assert str(store) in line
    assert "lock" in line
    assert "eva@example.com" in line


@pytest.mark.parametrize(("kind", "lock"), [(JSON_LINES, flock), (MBOX, dotlock)])
def test_a_batch_waits_for_a_lock_once(
    kind: Kind, lock: Lock, store: Path, disk: Disk, tmp_path: Path
) -> None:
    over = tmp_path / "over"
    until_told = f"""
import os, sys
from mailhandlers.disk import locks
check = locks.check
def deadline(patience=None):
    print("a wait begins", file=sys.stderr, flush=True)
    return float("inf")
locks.deadline = deadline
locks.check = lambda until, *told: check(0.0 if os.path.exists({str(over)!r}) else until, *told)
"""
    with disk.serving(kind, store, change=until_told) as server:
        assert server.send(b"0\r\n") == "250 OK"
        before = server.errors().count("a wait begins")
        clients = [server.client() for _ in range(9)]
        with lock(store):
            for number, client in enumerate(clients, 2):
                client.submit()
                disk.wait_for_messages(number)
            over.touch()
            assert all(client.reply().startswith(FAILED) for client in clients)
        # The first may have been alone, all others are one batch.
        assert server.errors().count("a wait begins") - before <= 2
    assert contents(store) == [b"0\r\n"]


@pytest.mark.posix  # on Windows it is a file
def test_the_dotlock_of_a_dead_server_is_broken(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    os.symlink("mailhandlers.99999999", f"{store}.lock")
    with Server("MboxSink", store) as server:
        assert server.send().startswith("250")
    assert os.listdir(tmp_path) == ["mail.mbox"]
