"""A handler of each kind, and the inbox that reads its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from posting import Post
from support import Kind, controlled

import mailhandlers
from mailhandlers import Inbox
from mailhandlers.inbox import waiting


@pytest.fixture
def post(kind: Kind, store: Path) -> Iterator[Post]:
    handler = getattr(mailhandlers, kind.handler)(store, sync=False)
    with controlled(handler) as controller:
        yield Post(controller.port)


@pytest.fixture
def inbox(store: Path) -> Inbox:
    return Inbox(store)


@pytest.fixture
def while_waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something once, when a reader has looked and waits before it looks again."""
    pause = waiting.Watch.pause

    def arrange(action: Callable[[], object]) -> None:
        # The third time: the second look is for the folders that the first one found.
        pending: list[Callable[[], object]] = [action, int, int]

        def act(self: waiting.Watch, cost: float) -> float:
            if pending:
                pending.pop()()
            return pause(self, cost)

        monkeypatch.setattr(waiting.Watch, "pause", act)

    return arrange
