"""A disk of one megabyte that fills: 452, and the store stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty import Disk
from load import Senders, names_of_whole
from support import (
    FULL,
    HELLO,
    KEEP_ALL,
    LARGE,
    Kind,
    Server,
    contents,
    expected,
    tree,
)

from mailhandlers import Inbox


def fill(disk: Path) -> Path:
    """Write a file that leaves no room on *disk*."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_is_452_and_the_store_stays_as_it_was(
    kind: Kind, small_disk: Path, disk: Disk
) -> None:
    store = small_disk / kind.store
    with disk.serving(kind, store) as server, server.client() as client:
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


def test_a_full_disk_at_the_first_message_leaves_nothing(
    kind: Kind, small_disk: Path, disk: Disk
) -> None:
    with disk.serving(kind, small_disk / kind.store) as server:
        before = tree(small_disk)
        assert server.send(LARGE).startswith(FULL)
        assert tree(small_disk) == before
        assert server.send().startswith("250")


def test_a_small_message_beside_one_that_does_not_fit_is_stored(
    kind: Kind, small_disk: Path, disk: Disk
) -> None:
    store = small_disk / kind.store
    with (
        disk.serving(kind, store) as server,
        server.client() as first,
        server.client() as large,
        server.client() as small,
    ):
        with disk.stopped():
            first.submit(b"1\r\n")
            disk.wait_for_writer()
            small.submit(b"2\r\n")
            disk.wait_for_messages(2)
            large.submit(LARGE)
            disk.wait_for_messages(3)
            assert small.is_silent(0)
            if not kind.is_folder:  # there a thread of its own may have refused it by now
                assert large.is_silent(0)
        assert [client.reply()[:3] for client in (first, small, large)] == ["250", "250", "452"]
    assert contents(store) == expected(kind, b"1\r\n", b"2\r\n")


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
