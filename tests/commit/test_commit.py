"""When messages are written, and who writes them."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from shell import raw_mail
from support import HELLO, PATIENCE, wait_until

from mailhandlers import Inbox, JsonLines, Mail, PerRecipientDir, StoredMessage, commit
from mailhandlers.commit import Commits, Written, _Pace, _Queue
from mailhandlers.disk.locks import LOCK_TIMEOUT, LockTimeoutError
from mailhandlers.stores.store import Effort, NothingYet

pytestmark = pytest.mark.anyio
MAIL = raw_mail(HELLO)
LARGE = raw_mail(HELLO * 10_000)
STALLS, IS_QUICK = -1.0, PATIENCE


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# Batches


class Writer:
    """Notes how many messages each batch has, and writes all at once."""

    def __init__(self, *, is_thread: bool = True) -> None:
        self.batches: list[int] = []
        self._is_thread = is_thread

    def write(self, mails: list[Mail], written: Written) -> list[str] | None:
        self.batches.append(len(mails))
        replies = ["250 OK"] * max(1, len(mails))  # a reset has one reply
        if self._is_thread:
            written(replies)
            return None
        return replies[:2]


def gathering(queue: _Queue, seconds: float) -> None:
    """Have *queue* expect three clients for so long."""
    queue._pace.learn(3, 0, -2 * seconds, 0.0)
    for _ in range(3):
        queue._pace.arrived(0.0)


async def test_a_batch_is_written_when_all_clients_have_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit, "LONGEST_GATHERING", 3600.0)
    writer = Writer()
    queue = _Queue(writer.write)
    gathering(queue, 3600)
    early = [queue.put(MAIL), queue.put(MAIL)]
    await asyncio.sleep(0)
    assert writer.batches == []
    replies = asyncio.gather(*early, queue.put(MAIL))
    assert await asyncio.wait_for(replies, PATIENCE) == ["250 OK"] * 3
    assert writer.batches == [3]


async def test_a_batch_does_not_wait_for_ever_for_a_client_that_left() -> None:
    writer = Writer()
    queue = _Queue(writer.write)
    gathering(queue, 0.01)
    assert await asyncio.wait_for(queue.put(MAIL), PATIENCE) == "250 OK"
    assert writer.batches == [1]


async def test_a_reset_is_a_batch_of_its_own() -> None:
    writer = Writer()
    queue = _Queue(writer.write)
    replies = asyncio.gather(*map(queue.put, [MAIL, MAIL, None, None, MAIL]))
    await asyncio.wait_for(replies, PATIENCE)
    assert writer.batches == [2, 0, 0, 1]


async def test_what_a_loop_leaves_of_a_batch_is_written_next_in_order() -> None:
    writer = Writer(is_thread=False)
    queue = _Queue(writer.write)
    answered: list[int] = []
    replies = [queue.put(mail) for mail in (MAIL, MAIL, MAIL, None, MAIL)]
    for number, reply in enumerate(replies):
        reply.add_done_callback(lambda _, number=number: answered.append(number))  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*replies), PATIENCE)
    assert writer.batches == [3, 1, 0, 1]
    assert answered == [0, 1, 2, 3, 4]


def pace_of(written: int, waiting: int, seconds: float, came_again: float) -> _Pace:
    """Return the pace after a batch of so many *written*, who *came_again* after so long."""
    pace = _Pace()
    pace.learn(written, waiting, 0.0, seconds)
    for _ in range(written):
        pace.arrived(seconds + came_again)
    pace.learn(written, waiting, 1.0, 1.0 + seconds)
    return pace


@pytest.mark.parametrize(
    ("pace", "waits"),
    [
        (pace_of(25, 25, 0.025, 0.010), True),  # new files on a slow disk
        (pace_of(50, 0, 0.005, 0.025), False),  # a quick disk
        (pace_of(25, 25, 0.012, 0.012), False),  # a slow one, where a file grows
        (pace_of(1, 0, 0.004, 0.001), False),  # one client is all there is
        (_Pace(), False),
    ],
)
def test_a_batch_waits_for_clients_that_are_quicker_than_the_disk(
    pace: _Pace, waits: bool
) -> None:
    assert (pace.seconds_to_gather(max(1, pace.clients // 2)) > 0) == waits
    assert pace.seconds_to_gather(pace.clients) == 0  # all are there


# Who writes


class Store(NothingYet):
    """A store that notes who wrote, and can fail."""

    def __init__(self) -> None:
        super().__init__("somewhere")
        self.writers: list[str] = []
        self.tidied = 0
        self.rested = 0
        self.error: Callable[[float], Exception | None] = lambda patience: None
        self.hold: threading.Event | None = None

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        if self.hold is not None and patience:
            assert self.hold.wait(PATIENCE)
        if error := self.error(patience):
            raise error
        is_loop = threading.current_thread() is threading.main_thread()
        self.writers += ["loop" if is_loop else "thread"] * len(mails)

    def clear(self) -> None:
        self.writers.clear()

    def tidy_up(self) -> None:
        self.tidied += 1

    def rest(self) -> None:
        self.rested += 1

    def effort(self, mail: Mail) -> Effort:
        return Effort.LARGE if mail is LARGE else Effort.SMALL


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """What says how long a loop may write from now on: for ever, to begin with."""

    def longest(seconds: float) -> None:
        monkeypatch.setattr(commit, "LONGEST_ON_LOOP", seconds)

    longest(IS_QUICK)
    return longest


@pytest.fixture
def commits(store: Store) -> Iterator[Commits]:
    commits = Commits(store)
    yield commits
    commits.close()


class Clock:
    """Time that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001  # how long a write takes
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(commit, "time", clock)
    return clock


async def wrote(store: Store, commits: Commits, *mails: Mail) -> list[str]:
    """Return who wrote each of *mails*, which come one after the other."""
    before = len(store.writers)
    for mail in mails or [MAIL]:
        assert await asyncio.wait_for(commits.commit(mail), PATIENCE) == "250 OK"
    return store.writers[before:]


@pytest.mark.usefixtures("quick")
async def test_the_loop_writes_when_the_first_showed_that_the_disk_is_quick(
    store: Store, commits: Commits
) -> None:
    assert await wrote(store, commits, MAIL, MAIL, MAIL) == ["thread", "loop", "loop"]


@pytest.mark.usefixtures("quick")
async def test_what_waits_for_no_disk_is_written_by_the_loop_at_once(store: Store) -> None:
    commits = Commits(store, is_quick=True)
    assert await wrote(store, commits) == ["loop"]
    await asyncio.sleep(0)
    assert store.tidied == 1
    commits.close()
    assert store.rested == 1


async def test_a_disk_that_is_slow_from_the_first_is_the_threads(
    store: Store, commits: Commits, quick: Callable[[float], None], clock: Clock
) -> None:
    quick(STALLS)
    assert await wrote(store, commits, MAIL, MAIL) == ["thread", "thread"]


async def test_after_a_stall_the_thread_writes_for_a_while_and_ever_longer(
    store: Store, commits: Commits, quick: Callable[[float], None], clock: Clock
) -> None:
    async def pause() -> float:
        """Return for how long the loop doesn't write, and then does."""
        since = clock.now
        while await wrote(store, commits) == ["thread"]:
            pass
        return clock.now - since

    assert await wrote(store, commits, MAIL, MAIL) == ["thread", "loop"]
    quick(STALLS)
    assert await wrote(store, commits) == ["loop"]
    first, second, third = [await pause() for _ in range(3)]
    assert 1.5 * first < second < third / 1.5
    quick(IS_QUICK)
    await pause()
    quick(STALLS)  # whoever was quick is trusted again
    assert await wrote(store, commits) == ["loop"]
    assert await pause() < 1.5 * first


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "error", [LockTimeoutError(11, "a lock is held"), OSError(5, "no"), ZeroDivisionError()]
)
async def test_what_fails_on_the_loop_is_tried_again_by_the_thread(
    store: Store, commits: Commits, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await wrote(store, commits)
    store.error = lambda patience: None if patience == LOCK_TIMEOUT else error
    assert await wrote(store, commits) == ["thread"]
    assert caplog.records == []
    store.error = lambda patience: error
    assert (await commits.commit(MAIL)).startswith("451")
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("quick")
async def test_a_large_message_is_the_threads_with_what_comes_with_it(
    store: Store, commits: Commits
) -> None:
    await wrote(store, commits)
    together = asyncio.gather(*map(commits.commit, [MAIL, LARGE, MAIL]))
    await asyncio.wait_for(together, PATIENCE)
    assert store.writers[1:] == ["thread"] * 3
    assert await wrote(store, commits) == ["loop"]


@pytest.mark.usefixtures("quick")
async def test_the_loop_does_not_write_while_the_thread_does(
    store: Store, commits: Commits
) -> None:
    await wrote(store, commits)
    store.hold = threading.Event()
    writing = threading.Thread(target=commits.store, args=[[MAIL]])
    writing.start()
    await asyncio.to_thread(wait_until, lambda: commits._writing.locked())
    reply = asyncio.ensure_future(commits.commit(MAIL))
    await asyncio.sleep(0.05)
    assert not reply.done()
    store.hold.set()
    assert await asyncio.wait_for(reply, PATIENCE) == "250 OK"
    writing.join(PATIENCE)
    assert store.writers[1:] == ["thread"] * 2


async def test_many_messages_leave_the_loop_its_turns(
    store: Store, commits: Commits, quick: Callable[[float], None], clock: Clock
) -> None:
    quick(0.060)
    written: list[int] = []
    add = store.add

    def slow_add(mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        add(mails, patience)
        clock.now += 0.001 * len(mails)
        written.append(len(mails))

    store.add = slow_add  # type: ignore[method-assign]
    assert await wrote(store, commits) == ["thread"]
    replies = [commits.commit(MAIL) for _ in range(100)]
    await asyncio.wait_for(asyncio.gather(*replies), PATIENCE)
    assert sum(written) == 101
    # It has learnt what a message takes, and writes for 20 ms at a time.
    assert 10 < max(written) <= 20


async def test_a_wait_that_is_most_of_the_time_is_shared_by_ever_more_messages(
    store: Store, commits: Commits, quick: Callable[[float], None], clock: Clock
) -> None:
    quick(0.030)
    written: list[int] = []
    add = store.add

    def slow_add(mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        add(mails, patience)
        clock.now += 0.006 + 0.0001 * len(mails)
        written.append(len(mails))

    store.add = slow_add  # type: ignore[method-assign]
    assert await wrote(store, commits) == ["thread"]
    replies = [commits.commit(MAIL) for _ in range(200)]
    await asyncio.wait_for(asyncio.gather(*replies), PATIENCE)
    assert sum(written) == 201
    assert max(written) >= 15


@pytest.mark.parametrize(("seconds", "next_one"), [(0.009, "loop"), (0.011, "thread")])
async def test_a_lone_message_that_takes_a_third_of_the_longest_time_shows_a_slow_disk(
    store: Store,
    commits: Commits,
    quick: Callable[[float], None],
    clock: Clock,
    seconds: float,
    next_one: str,
) -> None:
    quick(0.030)
    add = store.add

    def slow_add(mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        add(mails, patience)
        clock.now += seconds

    store.add = slow_add  # type: ignore[method-assign]
    assert await wrote(store, commits) == ["thread"]
    assert (await wrote(store, commits))[-1] == next_one


# What takes long


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


MANY = raw_mail(HELLO, [f"{number}@example.com" for number in range(5000)])
HUGE = raw_mail(HELLO * 100_000)


@pytest.mark.parametrize("long", [MANY, HUGE], ids=["5,000 recipients", "a huge message"])
async def test_a_message_that_takes_long_keeps_no_other_waiting(
    tmp_path: Path, long: Mail
) -> None:
    before = set(threading.enumerate())
    handler = Held(tmp_path / "people", sync=False)
    slow = asyncio.ensure_future(handler.store(long))
    assert await asyncio.wait_for(handler.store(MAIL), PATIENCE) == "250 OK"
    assert not slow.done()
    assert len(Inbox(handler.path)) == 1
    handler.let_go.set()
    assert await slow == "250 OK"
    handler.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


async def test_a_message_is_not_refused_for_the_room_that_a_long_one_takes_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Held(tmp_path / "people", sync=False)
    add, attempted = handler._add, threading.Event()

    def full_meanwhile(mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        is_long = mails[0] is HUGE
        if is_long or not handler.let_go.is_set():
            attempted.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(mails, patience)

    handler._add = full_meanwhile
    long = asyncio.ensure_future(handler.store(HUGE))
    small = asyncio.ensure_future(handler.store(MAIL))
    await asyncio.wait_for(asyncio.to_thread(attempted.wait), PATIENCE)
    handler.let_go.set()
    replies = await asyncio.wait_for(asyncio.gather(long, small), PATIENCE)
    assert [reply[:3] for reply in replies] == ["452", "250"]
    assert len(Inbox(handler.path)) == 1
    assert len(caplog.records) == 1  # of the one that was refused
    handler.close()


async def test_while_a_long_message_is_interpreted_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, interpret = threading.Event(), StoredMessage.summary

    def held(message: Any, *others: Any) -> Any:
        if len(message.original_content) == len(HUGE.content):
            assert let_go.wait(PATIENCE)
        return interpret(message, *others)

    monkeypatch.setattr(StoredMessage, "summary", held)
    handler = JsonLines(tmp_path / "mail.jsonl")
    slow = asyncio.ensure_future(handler.store(HUGE))
    for _ in range(3):  # by the thread and the loop
        assert await asyncio.wait_for(handler.store(MAIL), PATIENCE) == "250 OK"
    assert not slow.done()
    let_go.set()
    assert await slow == "250 OK"
    assert len(Inbox(handler.path)) == 4
    handler.close()


async def test_a_reset_empties_what_many_recipients_have_too(tmp_path: Path) -> None:
    handler = Held(tmp_path / "people", sync=False)
    many = asyncio.ensure_future(handler.store(HUGE))
    await asyncio.sleep(0)  # it begins
    reset = asyncio.ensure_future(handler._commits.commit_reset())
    assert not (await asyncio.wait({reset}, timeout=0.1))[0]
    handler.let_go.set()
    assert [await many, await reset] == ["250 OK", "250 OK"]
    assert len(Inbox(handler.path)) == 0
    handler.close()


async def test_a_client_that_leaves_takes_nothing_with_it(tmp_path: Path) -> None:
    handler = Held(tmp_path / "people", sync=False)
    many = asyncio.ensure_future(handler.store(HUGE))
    await asyncio.sleep(0)
    many.cancel()
    handler.let_go.set()
    await asyncio.wait({many})
    await asyncio.to_thread(handler.close)
    assert len(Inbox(handler.path)) == 1
