"""Waiting for mail: in a thread, and in an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from posting import Post
from support import PATIENCE

from mailhandlers import Inbox, NoMessageError, StoredMessage
from mailhandlers.inbox import waiting
from mailhandlers.inbox.cursor import EntryCursor
from mailhandlers.stores.store import Entry


def test_what_is_there_needs_no_waiting(inbox: Inbox, post: Post) -> None:
    post("one")
    assert inbox.latest(timeout=PATIENCE, to="bob@example.com")["Subject"] == "one"


def test_latest_waits(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    post("other")
    while_waiting(lambda: post("wanted"))
    assert inbox.latest(timeout=PATIENCE, subject="wanted")["Subject"] == "wanted"


def test_what_comes_during_the_first_look_is_found(inbox: Inbox, post: Post) -> None:
    pending = ["wanted"]

    def where(message: StoredMessage) -> bool:
        if pending:
            post(pending.pop())
        return str(message["Subject"]) == "wanted"

    post("old")
    assert inbox.latest(timeout=PATIENCE, where=where)["Subject"] == "wanted"


def test_latest_waits_for_a_recipient_of_whom_nobody_heard(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    while_waiting(lambda: post(to="Carol+1@example.com"))
    assert inbox.latest(timeout=PATIENCE, to="carol+1@example.com").envelope


@pytest.mark.posix  # where a folder has a time that nobody can set
def test_mail_in_the_very_tick_of_the_last_is_seen(
    monkeypatch: pytest.MonkeyPatch,
    inbox: Inbox,
    store: Path,
    post: Post,
    while_waiting: Callable[[Callable[[], object]], None],
) -> None:
    monkeypatch.setattr(waiting, "TICK", 10**12)
    post("old")
    before = {path: path.stat() for path in [store, *store.rglob("*")]}

    def in_the_same_tick() -> None:
        post("new")
        for path, status in before.items():
            if path.exists():
                os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))

    while_waiting(in_the_same_tick)
    with inbox.expect(timeout=PATIENCE) as expected:
        pass
    assert expected.message["Subject"] == "new"


def test_waiting_looks_only_where_something_changed(
    inbox: Inbox, store: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post("old")
    for path in [store, *store.rglob("*")]:
        os.utime(path, (10**9, 10**9))
    looks = []
    new = EntryCursor.new

    def counting(self: EntryCursor) -> Iterator[Entry]:
        looks.append(self)
        return new(self)

    monkeypatch.setattr(EntryCursor, "new", counting)
    monkeypatch.setattr(waiting.Watch, "pause", lambda *_: 0)
    with pytest.raises(NoMessageError):
        inbox.latest(timeout=0.05, to="nobody@example.com")
    assert len(looks) <= 3  # the first, one for its folders, and the last


class Blind(waiting.Watch):
    """A watch that sees nothing."""

    def __init__(self) -> None:
        super().__init__("")

    def changed(self) -> bool:
        return False

    def pause(self, cost: float) -> float:
        return 0.001


def test_the_last_look_is_for_what_no_watch_saw() -> None:
    seen = iter([None, "found"])
    assert waiting.wait(waiting.until_found(lambda: next(seen), Blind(), 0.01)) == "found"


def test_a_wait_without_end_looks_once_unless_something_changed() -> None:
    steps = waiting.until_found(lambda: None, Blind(), None)
    look = next(steps)
    assert callable(look)
    assert steps.send(look()) == 0.001
    assert [next(steps) for _ in range(100)] == [0.001] * 100


def test_no_time_to_wait_is_one_look() -> None:
    looks: list[None] = []
    assert waiting.wait(waiting.until_found(lambda: looks.append(None), Blind(), 0)) is None
    assert len(looks) == 1


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
