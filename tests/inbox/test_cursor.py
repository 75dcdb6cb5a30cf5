"""Following a store: each message that arrives, once, in order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from posting import Post, keep_all, send_in_loop, serving, subjects
from support import JSON_LINES, MBOX, PATIENCE, Kind

from mailhandlers import Inbox


@keep_all
def test_each_message_is_followed_once_in_order(inbox: Inbox, post: Post) -> None:
    post("before")
    followed = inbox.follow(timeout=PATIENCE)
    for number in range(3):
        post(f"a{number}")
    assert subjects(next(followed) for _ in range(2)) == ["a0", "a1"]
    post("b")
    assert subjects(next(followed) for _ in range(2)) == ["a2", "b"]
    assert subjects(inbox.follow(timeout=0)) == []
    assert subjects(inbox.follow(timeout=0, from_start=True)) == [
        *("before", "a0", "a1", "a2", "b")
    ]


def test_following_begins_before_there_is_a_store(inbox: Inbox, post: Post) -> None:
    followed = inbox.follow(timeout=PATIENCE, to="bob@example.com")
    post("other", to="carol@example.com")
    post("first")
    assert next(followed)["Subject"] == "first"


@keep_all
def test_following_goes_on_in_a_store_made_anew(
    kind: Kind, store: Path, inbox: Inbox, post: Post
) -> None:
    post("old")
    followed = inbox.follow(timeout=PATIENCE)
    post("one")
    assert next(followed)["Subject"] == "one"
    store.rename(f"{store}.1")
    post("two")
    assert next(followed)["Subject"] == "two"
    inbox.clear()
    post("three")
    assert next(followed)["Subject"] == "three"


@keep_all
def test_nothing_is_lost_under_load(inbox: Inbox, post: Post) -> None:
    numbers = [str(number) for number in range(60)]
    followed = inbox.follow(timeout=PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.map(post, numbers)
        assert subjects(next(followed) for _ in numbers) == numbers
        assert len(list(sent)) == len(numbers)


@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda kind: kind.handler)
def test_no_message_is_shown_twice_while_files_come_and_go(
    kind: Kind, inbox: Inbox, store: Path, post: Post
) -> None:
    def write() -> None:
        for number in range(200):
            post(f"{number}")
            if number % 3 == 0:
                store.rename(f"{store}.{number}")
            elif number % 7 == 0:
                store.unlink()

    with ThreadPoolExecutor() as pool:
        follower = inbox.follow(timeout=PATIENCE)
        writing = pool.submit(write)
        numbers = [0]
        while numbers[-1] < 199:
            numbers.append(int(next(follower)["Subject"]))
        writing.result()
    assert numbers[1:] == sorted(set(numbers[1:]))
    assert list(inbox.follow(timeout=0)) == []


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
