"""Waiting for mail: one cursor, in a thread and in an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import typing
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from aiosmtpd.smtp import SMTP
from support import HOST, KINDS, PATIENCE, Client, Kind, controlled, stuffed

import mailhandlers
from mailhandlers import Inbox, NoMessageError, read_latest

keep_all = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.keeps_all], ids=lambda kind: kind.handler
)


@pytest.fixture
def port(kind: Kind, store: Path) -> Iterator[int]:
    handler = getattr(mailhandlers, kind.handler)(store, sync=False)
    with controlled(handler) as controller:
        yield controller.port


def send(port: int, subject: str, to: str = "bob@example.com") -> None:
    content = f"Subject: {subject}\r\n\r\nHi!\r\n".encode()
    with Client(port) as client:
        assert client.send(content, to=[to]) == "250 OK"


def subjects(messages: typing.Iterable[mailhandlers.StoredMessage]) -> list[str]:
    return [str(message["Subject"]) for message in messages]


# One after the other


@keep_all
def test_each_message_is_followed_once_in_order(store: Path, port: int) -> None:
    send(port, "before")
    followed = Inbox(store).follow(timeout=PATIENCE)
    for number in range(3):
        send(port, f"a{number}")
    assert subjects(next(followed) for _ in range(2)) == ["a0", "a1"]
    send(port, "b")
    assert subjects(next(followed) for _ in range(2)) == ["a2", "b"]
    assert subjects(Inbox(store).follow(timeout=0)) == []
    assert subjects(Inbox(store).follow(timeout=0, from_start=True)) == [
        *("before", "a0", "a1", "a2", "b")
    ]


def test_following_begins_before_there_is_a_store(store: Path, port: int) -> None:
    followed = Inbox(store).follow(timeout=PATIENCE, to="bob@example.com")
    send(port, "other", to="carol@example.com")
    send(port, "first")
    assert next(followed)["Subject"] == "first"


@keep_all
def test_following_goes_on_in_a_store_made_anew(kind: Kind, store: Path, port: int) -> None:
    send(port, "old")
    followed = Inbox(store).follow(timeout=PATIENCE)
    send(port, "one")
    assert next(followed)["Subject"] == "one"
    store.rename(f"{store}.1")
    send(port, "two")
    assert next(followed)["Subject"] == "two"
    Inbox(store).clear()
    send(port, "three")
    assert next(followed)["Subject"] == "three"


@keep_all
def test_followed_and_cleared_under_load_loses_nothing(store: Path, port: int) -> None:
    import threading

    def send_all() -> None:
        for number in range(60):
            send(port, str(number))

    followed = Inbox(store).follow(timeout=PATIENCE)
    sender = threading.Thread(target=send_all)
    sender.start()
    found = subjects(next(followed) for _ in range(60))
    sender.join()
    assert found == [str(number) for number in range(60)]


@keep_all
def test_several_messages_are_expected_together(store: Path, port: int) -> None:
    send(port, "before")
    with Inbox(store).expect(count=3, timeout=PATIENCE, to="bob@example.com") as expected:
        for number in range(4):
            send(port, str(number))
        send(port, "other", to="carol@example.com")
    assert subjects(expected.messages) == ["0", "1", "2"]
    assert expected.message["Subject"] == "0"


@keep_all
def test_too_few_messages_are_told(store: Path, port: int) -> None:
    with (
        pytest.raises(NoMessageError, match="the nearest misses"),
        Inbox(store).expect(count=2, timeout=0.05),
    ):
        send(port, "only one")


# In an event loop: server, client and wait share one


@asynccontextmanager
async def serving(store: Path) -> AsyncIterator[int]:
    handler = mailhandlers.MaildirSink(store, sync=False)
    server = await asyncio.get_running_loop().create_server(partial(SMTP, handler), HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.to_thread(handler.close)


async def send_in_loop(port: int, subject: str, to: str = "bob@example.com") -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    content = f"Subject: {subject}\r\n\r\nHi!\r\n".encode()
    commands = [b"HELO me", b"MAIL FROM:<eva@example.com>", f"RCPT TO:<{to}>".encode(), b"DATA"]
    await reader.readline()
    for command in commands:
        writer.write(command + b"\r\n")
        await reader.readline()
    writer.write(stuffed(content))
    assert await reader.readline() == b"250 OK\r\n"
    writer.close()
    await writer.wait_closed()


def test_mail_that_the_same_loop_carries_is_expected(tmp_path: Path) -> None:
    async def main() -> None:
        inbox = Inbox(tmp_path / "inbox")
        async with serving(tmp_path / "inbox") as port:
            async with inbox.expect(to="bob@example.com", timeout=PATIENCE) as expected:
                sending = asyncio.create_task(send_in_loop(port, "later"))
            assert expected.message["Subject"] == "later"
            await sending
            latest = await inbox.alatest(to="bob@example.com")
            assert latest["Subject"] == "later"
            waiting = asyncio.create_task(inbox.alatest(subject="next", timeout=PATIENCE))
            await send_in_loop(port, "next")
            assert (await waiting)["Subject"] == "next"

    asyncio.run(main())


def test_following_in_a_loop(tmp_path: Path) -> None:
    async def main() -> list[str]:
        inbox = Inbox(tmp_path / "inbox")
        async with serving(tmp_path / "inbox") as port:
            followed = inbox.follow(timeout=PATIENCE)
            sending = [asyncio.create_task(send_in_loop(port, str(n))) for n in range(5)]
            found = [str((await anext(followed))["Subject"]) for _ in sending]
            await asyncio.gather(*sending)
            assert [message async for message in inbox.follow(timeout=0)] == []
        return sorted(found)

    assert asyncio.run(main()) == ["0", "1", "2", "3", "4"]


def test_mail_of_the_same_loop_is_seen_where_none_is_expected(tmp_path: Path) -> None:
    async def main() -> None:
        inbox = Inbox(tmp_path / "inbox")
        async with serving(tmp_path / "inbox") as port:
            async with inbox.expect_none(within=0.05):
                pass
            sending = None
            with pytest.raises(AssertionError, match="unwanted"):
                async with inbox.expect_none(within=PATIENCE):
                    sending = asyncio.create_task(send_in_loop(port, "unwanted"))
            assert sending is not None
            await sending

    asyncio.run(main())


def test_a_blocking_wait_under_a_running_loop_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        inbox = Inbox(tmp_path / "inbox")
        with pytest.raises(RuntimeError, match="async with"), inbox.expect_none():
            pass
        with (
            pytest.raises(NoMessageError, match=r"stood still.*async with"),
            inbox.expect(timeout=0.01),
        ):
            pass
        with pytest.raises(NoMessageError, match=r"stood still.*alatest"):
            inbox.latest(timeout=0.01)

    asyncio.run(main())
    with pytest.raises(NoMessageError) as told:
        read_latest(tmp_path / "inbox", timeout=0.01)
    assert "loop" not in str(told.value)


def test_a_wait_is_cancelled_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        inbox = Inbox(tmp_path / "inbox")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(inbox.alatest(timeout=10**6), 0.02)
        started = asyncio.Event()

        async def wait() -> None:
            async with inbox.expect(timeout=10**6):
                started.set()

        task = asyncio.create_task(wait())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_loop_runs_on_meanwhile(tmp_path: Path) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with pytest.raises(NoMessageError):
            await Inbox(tmp_path / "inbox").alatest(timeout=0.2)
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 10


def test_anyio_waits_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        inbox = Inbox(tmp_path / "inbox")
        async with serving(tmp_path / "inbox") as port, anyio.create_task_group() as group:
            async with inbox.expect(timeout=PATIENCE) as expected:
                group.start_soon(send_in_loop, port, "by anyio")
            assert expected.message["Subject"] == "by anyio"
            with anyio.move_on_after(0.02) as scope:
                await inbox.alatest(subject="never", timeout=10**6)
            assert scope.cancelled_caught

    anyio.run(main)


# What a reader costs


def test_a_reader_imports_no_server() -> None:
    code = (
        "import sys; from mailhandlers import read_latest, Inbox;"
        "print({'aiosmtpd', 'asyncio', 'ssl'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code]) == b"set()\n"


def test_type_hints_can_be_looked_up() -> None:
    for function in (read_latest, mailhandlers.read_messages, Inbox.latest, Inbox.follow):
        assert typing.get_type_hints(function)
    assert set(mailhandlers.__all__) <= set(dir(mailhandlers))
