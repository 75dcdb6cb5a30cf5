"""What is told where no mail came."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from posting import Post, keep_all
from support import Kind

from mailhandlers import Inbox, NoMessageError, read_latest
from mailhandlers.stores.store import is_address


def test_the_error_tells_where_what_and_how_long(inbox: Inbox, post: Post) -> None:
    with pytest.raises(NoMessageError) as told:
        inbox.latest(timeout=0.02, to="bob@x.test", subject="Hi", matching="a.b")
    nothing = "it is empty" if is_address(inbox.path) else "nothing is there yet"
    assert str(told.value) == (
        f"no message in {inbox.path} with to='bob@x.test', subject='Hi', matching=/a.b/, "
        f"in 0.02 s; {nothing}"
    )
    post("before")
    with pytest.raises(NoMessageError) as told, inbox.expect(timeout=0.01, to="bob@x.test"):
        pass
    assert str(told.value) == (
        f"no new message in {inbox.path} with to='bob@x.test', in 0.01 s; no other came"
    )


def test_the_error_tells_what_came_instead(kind: Kind, inbox: Inbox, post: Post) -> None:
    post("before", to="dan@example.com")
    with (
        pytest.raises(NoMessageError) as told,
        inbox.expect(timeout=0.01, to="bob@example.com", subject="Welcome"),
    ):
        for number in range(6):
            post(f"other {number}", to="carol@example.com")
        post("Welcome", to="bobby@example.com")
        post("=?utf-8?q?Wel=1B[31m?=")
    misses = str(told.value).splitlines()
    assert misses[0].endswith("in 0.01 s; the nearest misses:")
    assert misses[1] == r"  to bob@example.com: 'Wel\x1b[31m'"
    if kind.keeps_all:
        assert misses[2] == "  to bobby@example.com: 'Welcome'"
        assert misses[3] == "  to carol@example.com: 'other 5'"
        assert len(misses) == 6
        assert "dan@" not in str(told.value)


def test_the_error_survives_what_a_function_can_not_take(inbox: Inbox, post: Post) -> None:
    post("no link")
    with pytest.raises(NoMessageError, match="no link"):
        inbox.latest(to="x@example.com", where=lambda message: message.links[0])
    with pytest.raises(IndexError):
        inbox.latest(where=lambda message: message.links[0])


@keep_all
def test_too_few_messages_are_told(store: Path, inbox: Inbox, post: Post) -> None:
    with (
        pytest.raises(NoMessageError) as told,
        inbox.expect(count=2, timeout=0.05, subject="wanted"),
    ):
        post("wanted")
        post("other")
    assert str(told.value) == (
        f"only 1 of 2 new messages in {store} with subject='wanted', in 0.05 s; "
        "the nearest misses:\n  to bob@example.com: 'other'"
    )


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
        with pytest.raises(NoMessageError) as told:
            await inbox.alatest(timeout=0.01)
        assert "loop" not in str(told.value)
        with pytest.raises(NoMessageError) as told:
            async with inbox.expect(timeout=0.01):
                pass
        assert "loop" not in str(told.value)

    asyncio.run(main())
    with pytest.raises(NoMessageError) as told:
        read_latest(tmp_path / "inbox", timeout=0.01)
    assert "loop" not in str(told.value)
