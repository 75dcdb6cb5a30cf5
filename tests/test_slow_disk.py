"""A disk that is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support import (
    HELLO,
    JSON_LINES,
    KIND,
    KINDS,
    MBOX,
    PATIENCE,
    Client,
    Gate,
    Kind,
    contents,
    controlled,
    expected,
    made,
    wait_until,
)
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import read_latest
from mailhandlers.mail import Mail


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
    assert read_latest(store).envelope == mails[2].envelope


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
    assert read_latest(store).envelope == mails[2].envelope
