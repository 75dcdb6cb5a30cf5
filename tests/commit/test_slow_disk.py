"""A disk that is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty import Disk
from support import HELLO, JSON_LINES, KINDS, MBOX, Kind, contents, expected, wait_until

pytestmark = pytest.mark.slow  # real faults, real load: half a minute


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k not in (MBOX, JSON_LINES)], ids=lambda k: k.handler
)
def test_no_program_sees_a_file_before_the_disk_has_it(
    kind: Kind, store: Path, disk: Disk
) -> None:
    def seen() -> set[tuple[Path, bytes]]:
        # What mutt, a web server or a shell's "*" would find.
        return {
            (path, path.read_bytes())
            for path in store.parent.rglob("*")
            if path.is_file() and path.name[0] != "." and path.parent.name != "tmp"
        }

    with disk.serving(kind, store) as server, server.client() as client:
        assert client.send() == "250 OK"
        before = seen()
        with disk.stopped():
            client.submit()
            disk.wait_for_writer()
            assert seen() == before
        wait_until(lambda: seen() != before)


@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_a_held_lock_delays_its_own_sender_only(store: Path, quick_disk: Disk) -> None:
    with (
        quick_disk.serving(MBOX, store) as server,
        server.client() as waiting,
        server.client() as other,
    ):
        for _ in range(2):
            assert waiting.send() == "250 OK"  # by the thread, and by the loop
        lock = Path(f"{store}.lock")
        lock.touch()
        waiting.submit()
        quick_disk.wait_for_messages(3)
        assert other.begin().startswith("354")
        assert waiting.is_silent(0)
        lock.unlink()
        assert waiting.reply() == "250 OK"


def test_a_slow_disk_delays_its_own_sender_only(kind: Kind, store: Path, disk: Disk) -> None:
    with (
        disk.serving(kind, store) as server,
        server.client() as slow,
        server.client() as other,
    ):
        with disk.stopped():
            slow.submit()
            disk.wait_for_writer()
            assert other.begin().startswith("354")
            assert slow.is_silent(0)
        assert slow.reply() == "250 OK"


def test_a_message_whose_sender_went_away_stays_stored(
    kind: Kind, store: Path, disk: Disk
) -> None:
    with disk.serving(kind, store) as server:
        with disk.stopped():
            with server.client() as client:
                client.submit()
                disk.wait_for_writer()
            with server.client() as other:
                assert other.command("NOOP").startswith("250")
        wait_until(lambda: contents(store) == [HELLO])
        assert server.send().startswith("250")
        assert server.errors() == ""
    assert contents(store) == expected(kind, HELLO, HELLO)


def test_no_message_overtakes_that_of_a_client_that_went_away(
    kind: Kind, store: Path, disk: Disk
) -> None:
    sent = [b"%d\r\n" % number for number in range(4)]
    with disk.serving(kind, store) as server:
        clients = [server.client() for _ in sent]
        with disk.stopped():
            for number, (client, content) in enumerate(zip(clients, sent, strict=True), 1):
                client.submit(content)
                disk.wait_for_messages(number)
            disk.wait_for_writer()
            for gone in clients[:2]:  # one that is being written, one that waits
                gone.close()
            with server.client() as other:
                assert other.command("NOOP").startswith("250")
            assert [client.is_silent(0) for client in clients[2:]] == [True, True]
        assert [client.reply() for client in clients[2:]] == ["250 OK", "250 OK"]
    assert contents(store) == expected(kind, *sent)


def test_the_store_is_emptied_after_what_came_before(
    kind: Kind, store: Path, disk: Disk
) -> None:
    both = ["bob@example.com", "eva@example.com"]
    with (
        disk.serving(kind, store, "rset=clear") as server,
        server.client() as first,
        server.client() as second,
        server.client() as third,
        server.client() as resetting,
    ):
        assert resetting.command("EHLO laptop").startswith("250")
        with disk.stopped():
            first.submit(b"1\r\n", to=both)
            disk.wait_for_writer()
            second.submit(b"2\r\n", to=both)
            disk.wait_for_messages(2)
            resetting.socket.sendall(b"RSET\r\n")
            assert resetting.is_silent()
            third.submit(b"3\r\n", to=both)
            disk.wait_for_messages(3)
            assert [client.is_silent(0) for client in (first, second, third)] == [True] * 3
        assert [client.reply() for client in (first, second, third)] == ["250 OK"] * 3
        assert resetting.reply().startswith("250")
        assert contents(store) == [b"3\r\n"]
        assert server.errors() == ""
