"""Mail that is expected, and where none is."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from posting import Post, growing, keep_all, send_in_loop, serving, subjects, written
from support import JSON_LINES, KINDS, MBOX, PATIENCE, WINDOWS, Kind, controlled

import mailhandlers
from mailhandlers import Inbox, NoMessageError, StoreError, block


def test_only_new_mail_is_expected(inbox: Inbox, post: Post) -> None:
    post("same")
    old = inbox.latest()
    with inbox.expect(timeout=PATIENCE, to="bob@example.com") as expected:
        post("same")
    assert expected.message.envelope != old.envelope
    assert expected.message.original_content == old.original_content


def test_mail_is_had_within_the_block(inbox: Inbox, post: Post) -> None:
    post("old")
    with inbox.expect(timeout=PATIENCE) as expected:
        thread = threading.Thread(target=post, args=("new",))
        thread.start()
        assert expected.message["Subject"] == "new"
    thread.join()
    assert expected.message["Subject"] == "new"


def test_mail_may_come_after_the_block(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    post("old")
    while_waiting(lambda: post("new"))
    with inbox.expect(timeout=PATIENCE, subject=re.compile("old|new")) as expected:
        pass
    assert expected.message["Subject"] == "new"


def test_the_first_that_came_is_had(kind: Kind, inbox: Inbox, post: Post) -> None:
    post("0", to="carol@example.com")
    with inbox.expect(to="bob@example.com") as expected:
        for number in range(1, 5):
            post(str(number), to=["carol@example.com", "bob@example.com"][number % 2])
        if not kind.keeps_all:
            post("1")
    assert expected.message["Subject"] == "1"


@pytest.mark.parametrize("kind", KINDS[:1], ids=["MailFile"])
def test_another_message_may_get_inode_size_and_time_of_the_old(
    inbox: Inbox, store: Path, post: Post
) -> None:
    post("same")
    status = store.stat()
    form = store.read_bytes()
    with inbox.expect(timeout=PATIENCE) as expected:
        identity = block.decode(form).envelope.id
        store.write_bytes(form.replace(identity.encode(), identity[::-1].encode()))
        os.utime(store, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert expected.message.envelope
    assert expected.message.envelope.id == identity[::-1]


@growing
def test_an_append_under_way_at_the_start_is_new(kind: Kind, store: Path) -> None:
    # A bare line feed keeps the entry out of LF form.
    whole, coming = written(kind), written(kind, "coming", body="bare\nLF")
    for length in (1, 5, len(coming) // 2, len(coming) - 2):
        store.write_bytes(whole + coming[:length])
        with Inbox(store).expect(timeout=PATIENCE) as expected, store.open("ab") as file:
            file.write(coming[length:])
        assert expected.message["Subject"] == "coming", length


def test_expecting_in_a_store_that_is_not_there(inbox: Inbox, post: Post) -> None:
    with inbox.expect(to="bob@example.com") as expected:
        post("first")
    assert expected.message["Subject"] == "first"


@pytest.mark.parametrize("before", [1, 3])
def test_expecting_in_a_store_that_is_cleared(inbox: Inbox, post: Post, before: int) -> None:
    for _ in range(before):
        post("same")
    with inbox.expect() as expected:
        inbox.clear()
        for subject in ("new", "same", "same"):
            post(subject)
    assert expected.message["Subject"] in ("new", "same")
    assert len(inbox) == len(inbox.messages(to="bob@example.com"))


@pytest.mark.parametrize("how", ["deleted", "rotated"])
def test_expecting_in_a_store_that_is_made_anew(
    kind: Kind, inbox: Inbox, store: Path, post: Post, how: str
) -> None:
    if WINDOWS and how == "deleted" and not kind.is_folder:
        pytest.skip("a file that somebody holds keeps its name under Wine")
    post("old")
    with inbox.expect(to="bob@example.com") as expected:
        if how == "rotated":
            store.rename(f"{store}.1")
        elif kind.is_folder:
            shutil.rmtree(store)
        else:
            store.unlink()
        post("new")
    assert expected.message["Subject"] == "new"
    assert subjects(inbox) == ["new"]


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda kind: kind.handler)
def test_expecting_what_came_right_before_a_rotation(
    kind: Kind, inbox: Inbox, store: Path, post: Post, before: int, after: int
) -> None:
    if WINDOWS and not before:
        pytest.skip("an empty file is held by nobody there")
    store.touch()  # as the command makes it
    for _ in range(before):
        post("old")
    with inbox.expect(count=1 + after, timeout=PATIENCE) as expected:
        post("new")
        store.rename(f"{store}.1")
        for _ in range(after):
            post("after")
    subjects = [message["Subject"] for message in expected.messages]
    assert subjects == ["new", "after"][: 1 + after]


def test_an_error_in_the_block_is_the_error(inbox: Inbox, post: Post) -> None:
    with pytest.raises(ZeroDivisionError), inbox.expect():
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), inbox.expect_none():
        post()
        _ = 1 / 0


@keep_all
def test_many_wait_for_their_own(inbox: Inbox, post: Post) -> None:
    people = [f"user{number}@example.com" for number in range(8)]
    start = threading.Barrier(len(people))

    def sign_up(person: str) -> object:
        with inbox.expect(timeout=PATIENCE, to=person) as expected:
            start.wait(PATIENCE)
            post(f"for {person}", to=person)
        return expected.message["Subject"]

    with ThreadPoolExecutor(len(people)) as pool:
        assert list(pool.map(sign_up, people)) == [f"for {person}" for person in people]


def test_no_mail_is_expected(inbox: Inbox, post: Post) -> None:
    post("old")
    with inbox.expect_none(within=0.02):
        pass
    with inbox.expect_none(within=0.02, to="bob@example.com"):
        post("for another", to="carol@example.com")
    with (
        pytest.raises(AssertionError, match=r"a message came .*: to bob@example.com: 'new'"),
        inbox.expect_none(within=PATIENCE, to="bob@example.com"),
    ):
        post("new")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (None, TypeError),
        ("1", TypeError),
        (True, TypeError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (-1, ValueError),
    ],
)
def test_what_is_no_number_of_seconds_is_no_wait_without_end(
    inbox: Inbox, seconds: Any, error: type[Exception]
) -> None:
    for call in (inbox.expect, inbox.latest, inbox.follow):
        if not (call == inbox.follow and seconds is None):  # which goes on for ever
            with pytest.raises(error, match=r"^timeout.* number of seconds"):
                call(timeout=seconds)
    with pytest.raises(error, match=r"^within.* number of seconds"):
        inbox.expect_none(within=seconds)


@pytest.mark.filterwarnings("error")
def test_without_with_there_is_a_warning(inbox: Inbox) -> None:
    for call in (inbox.expect, inbox.expect_none):
        with pytest.warns(UserWarning, match="need a 'with'"):
            call()
            gc.collect()
    lonely = inbox.expect()
    with pytest.raises(RuntimeError, match="needs a 'with'"):
        _ = lonely.message
    with pytest.warns(UserWarning, match="need a 'with'"):
        del lonely
        gc.collect()


@keep_all
def test_several_messages_are_expected_together(inbox: Inbox, post: Post) -> None:
    post("before")
    with inbox.expect(count=3, timeout=PATIENCE, to="bob@example.com") as expected:
        for number in range(4):
            post(str(number))
        post("other", to="carol@example.com")
    assert subjects(expected.messages) == ["0", "1", "2"]
    assert expected.message["Subject"] == "0"


@keep_all
def test_exactly_so_many_messages_are_expected(inbox: Inbox, post: Post) -> None:
    post("before")
    with inbox.expect(exactly=2, timeout=PATIENCE, to="bob@example.com") as expected:
        post("0")
        post("other", to="carol@example.com")
        post("1")
    assert subjects(expected.messages) == ["0", "1"]


@keep_all
@pytest.mark.parametrize(("exactly", "expected"), [(1, "one was"), (2, "2 were")])
def test_one_more_than_exactly_so_many_is_told(
    inbox: Inbox, post: Post, exactly: int, expected: str
) -> None:
    told = f"another message came where exactly {expected} expected: to bob@example.com: 'more'"
    with (
        pytest.raises(AssertionError, match=told),
        inbox.expect(exactly=exactly, timeout=PATIENCE),
    ):
        for subject in ["right"] * exactly + ["more", "not said"]:
            post(subject)


@keep_all
def test_one_more_may_come_after_the_block(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    while_waiting(lambda: post("late"))
    with (
        pytest.raises(AssertionError, match=r"exactly one was expected: .*'late'"),
        inbox.expect(exactly=1, timeout=PATIENCE) as expected,
    ):
        post("right")
    assert subjects(expected.messages) == ["right"]


@keep_all
def test_fewer_than_exactly_so_many_are_told(inbox: Inbox, post: Post) -> None:
    with (
        pytest.raises(NoMessageError, match=r"only 1 of 2 new messages in .*; no other came"),
        inbox.expect(exactly=2, timeout=0.01),
    ):
        post("right")


def test_what_keeps_one_message_can_not_tell_how_many_came(tmp_path: Path) -> None:
    handler = mailhandlers.MailFile(tmp_path / "latest.mail", sync=False)
    inbox = Inbox(handler.path)
    with (
        controlled(handler) as controller,
        pytest.raises(StoreError, match="keeps the latest message alone"),
        inbox.expect(exactly=1),
    ):
        Post(controller.port)()


@pytest.mark.filterwarnings("error")
def test_a_number_of_messages_is_one(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "none")
    for number in (0, -1, True, 1.5, "2"):
        for name in ("count", "exactly"):
            with pytest.raises(ValueError, match=f"{name} is how many .*, not {number!r}"):
                inbox.expect(**{name: number})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give one"):
        inbox.expect(count=2, exactly=2)
    gc.collect()  # what could not be made warns of no forgotten 'with'


def test_one_more_may_come_while_the_same_loop_waits(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"

    async def come(subject: str) -> None:
        with store.open("ab") as file:
            file.write(written(MBOX, subject))

    async def main() -> None:
        inbox = Inbox(store)
        async with inbox.expect(exactly=1, timeout=PATIENCE) as expected:
            await come("right")
        assert subjects(expected.messages) == ["right"]
        with pytest.raises(AssertionError, match=r"exactly one was expected: .*'more'"):
            async with inbox.expect(exactly=1, timeout=PATIENCE):
                await come("right")
                coming = asyncio.create_task(come("more"))
        await coming
        with (
            pytest.raises(RuntimeError, match=r"write 'async with inbox.expect\(exactly=1"),
            inbox.expect(exactly=1),
        ):
            pass

    asyncio.run(main())


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
