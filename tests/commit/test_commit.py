"""How the messages of one event loop become batches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from shell import raw_mail
from support import HELLO, PATIENCE, wait_until

from mailhandlers import Inbox, Mail, PerRecipientDir
from mailhandlers.disk.locks import LOCK_TIMEOUT
from mailhandlers.stores.store import Effort
from mailhandlers.writing.commit import _Pace, _Queue
from mailhandlers.writing.writers import Written

pytestmark = pytest.mark.anyio
MAIL = raw_mail(HELLO)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Writer:
    """Notes how many messages each batch has, and writes all at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def write(self, mails: list[Mail], written: Written) -> None:
        self.batches.append(len(mails))
        written(["250 OK"] * max(1, len(mails)))  # a reset has one reply


@pytest.mark.parametrize(
    ("written", "waiting", "seconds", "clients"),
    [
        (50, 0, 0.005, 0),  # a fast disk
        (1, 0, 0.004, 0),
        (8, 42, 0.025, 50),  # a slow one
        (1, 0, 0.025, 1),  # one client is all there is
        (25, 25, 0.016, 0),  # a slow one, where a file grows: to wait would cost more
        (1000, 0, 0.050, 0),  # much to write
        (1, 1, 9.0, 2),  # a large message
    ],
)
def test_only_on_a_slow_disk_a_batch_waits_for_all_clients(
    written: int, waiting: int, seconds: float, clients: int
) -> None:
    pace = _Pace()
    pace.learn(written, waiting, seconds)
    assert pace.clients == clients
    assert pace.seconds <= min(seconds / 2, 0.05)


async def test_a_batch_is_written_when_all_clients_have_sent() -> None:
    writer = Writer()
    queue = _Queue(writer.write)
    queue._pace.clients, queue._pace.seconds = 3, 3600
    early = [queue.put(MAIL), queue.put(MAIL)]
    await asyncio.sleep(0)
    assert writer.batches == []
    replies = asyncio.gather(*early, queue.put(MAIL))
    assert await asyncio.wait_for(replies, PATIENCE) == ["250 OK"] * 3
    assert writer.batches == [3]


async def test_a_batch_does_not_wait_for_ever_for_a_client_that_left() -> None:
    writer = Writer()
    queue = _Queue(writer.write)
    queue._pace.clients, queue._pace.seconds = 3, 0.01
    assert await queue.put(MAIL) == "250 OK"
    assert writer.batches == [1]


async def test_a_reset_is_a_batch_of_its_own() -> None:
    writer = Writer()
    queue = _Queue(writer.write)
    queue._pace.clients, queue._pace.seconds = 3, 3600
    replies = asyncio.gather(queue.put(MAIL), queue.put(None), queue.put(MAIL))
    await asyncio.wait_for(replies, PATIENCE)
    assert writer.batches == [1, 0, 1]


class Held(PerRecipientDir):
    """Writes a message of many recipients once it is let go."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self.let_go = threading.Event()
        self._add = self._store.add
        self._store.add = self._add_late  # type: ignore[method-assign]

    def _add_late(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        if self._store.effort(mails[0]) is Effort.LONG:
            assert self.let_go.wait(PATIENCE)
        self._add(mails, patience)


MANY = raw_mail(HELLO, [f"{number}@example.com" for number in range(101)])


async def test_a_message_of_many_recipients_keeps_no_other_waiting(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    handler = Held(tmp_path / "people", sync=False)
    many = asyncio.ensure_future(handler.store(MANY))
    assert await asyncio.wait_for(handler.store(MAIL), PATIENCE) == "250 OK"
    assert not many.done()
    handler.let_go.set()
    assert await many == "250 OK"
    assert len(Inbox(handler.path)) == 2
    handler.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


async def test_a_reset_empties_what_many_recipients_have_too(tmp_path: Path) -> None:
    handler = Held(tmp_path / "people", sync=False)
    many = asyncio.ensure_future(handler.store(MANY))
    await asyncio.sleep(0)  # it begins
    reset = asyncio.ensure_future(handler._commits.commit_reset())
    assert not (await asyncio.wait({reset}, timeout=0.1))[0]
    handler.let_go.set()
    assert [await many, await reset] == ["250 OK", "250 OK"]
    assert len(Inbox(handler.path)) == 0
    handler.close()


async def test_a_client_that_leaves_takes_nothing_with_it(tmp_path: Path) -> None:
    handler = Held(tmp_path / "people", sync=False)
    many = asyncio.ensure_future(handler.store(MANY))
    await asyncio.sleep(0)
    many.cancel()
    handler.let_go.set()
    await asyncio.wait({many})
    await asyncio.to_thread(handler.close)
    assert len(Inbox(handler.path)) == 1
