"""Work ends when its client leaves, and HEAD is GET without a body."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import HOOK, store_directly
from support import PATIENCE

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mailhandlers.web.app import create_app
from mailhandlers.web.mailbox import Mailbox


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store_directly(tmp_path / "inbox", HOOK)
    return tmp_path / "inbox"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    with TestClient(create_app(store), base_url="http://localhost") as client:
        yield client


# Clients that leave


class Caller:
    """A client of the application that can leave, as one behind a socket does."""

    def __init__(self, app: Starlette, path: str, method: str = "GET") -> None:
        self.left = asyncio.Event()
        self.sent: list[Any] = []
        self._requests = [{"type": "http.request", "body": b"", "more_body": False}]
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "method": method, "scheme": "http", "path": path, "raw_path": path.encode(),
            "root_path": "", "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
        }  # fmt: skip
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        if self._requests:
            return self._requests.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), PATIENCE)

    asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "path", ["/api/messages/latest?to=nobody@x&timeout=50", "/api/events", "/arrivals"]
)
def test_a_wait_that_was_given_up_searches_no_more(
    store: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    searches: list[str] = []
    monkeypatch.setattr(Mailbox, "miss", lambda *_: searches.append("miss"))

    async def leave() -> None:
        app = create_app(store)
        callers = [Caller(app, path) for _ in range(20)]
        await until(lambda: len(app.state.arrivals._subscriptions) == 20)
        for caller in callers:
            caller.left.set()
        await asyncio.gather(*(caller.task for caller in callers))
        assert all(caller.sent[1:] == [] for caller in callers)
        await until(lambda: app.state.arrivals._subscriptions == set())

    run(leave)
    assert searches == []


def test_what_has_not_begun_when_its_client_leaves_never_begins(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    go_on = threading.Event()

    def get(_: Mailbox, name: str) -> None:
        begun.append(name)
        go_on.wait(PATIENCE)
        raise LookupError

    monkeypatch.setattr(Mailbox, "get", get)

    async def leave() -> None:
        app = create_app(store)
        async with app.router.lifespan_context(app):
            callers = [Caller(app, f"/api/messages/{n}") for n in range(20)]
            await until(lambda: len(begun) == 4)  # as many as there are threads
            for caller in callers:
                caller.left.set()
            await until(lambda: sum(caller.task.done() for caller in callers) == 16)
            go_on.set()
            await asyncio.gather(*(caller.task for caller in callers), return_exceptions=True)

    try:
        run(leave)
    finally:
        go_on.set()
    assert len(begun) == 4


# HEAD


@pytest.mark.parametrize(
    "path",
    ["/", "/static/page.js", "/rows", "/clear", "/nothing", "/api/openapi.json",
     "/api/messages", "/api/messages?limit=0"],
)  # fmt: skip
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.content == b""
    assert head.status_code == got.status_code
    assert head.headers == got.headers


@pytest.mark.slow
def test_head_of_what_never_ends_ends(store: Path) -> None:
    async def ask() -> None:
        caller = Caller(create_app(store), "/api/events", "HEAD")
        await caller.task
        start, body = caller.sent
        assert start["status"] == 200
        assert not body.get("body")
        assert not body.get("more_body")

    run(ask)
