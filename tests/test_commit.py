"""How the messages of one event loop become batches."""

from __future__ import annotations

import asyncio

import pytest
from shell import raw_mail
from support import HELLO, PATIENCE

from mailhandlers import Mail
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
        (8, 42, 0.020, 50),  # a slow one
        (1, 0, 0.020, 1),  # one client is all there is
        (1000, 0, 0.050, 0),  # much to write
    ],
)
def test_only_on_a_slow_disk_a_batch_waits_for_all_clients(
    written: int, waiting: int, seconds: float, clients: int
) -> None:
    pace = _Pace()
    pace.learn(written, waiting, seconds)
    assert pace.clients == clients
    assert pace.seconds <= seconds / 2


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
