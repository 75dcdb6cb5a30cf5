"""What a request may cost: a pattern's second, work for a client that left, slow requests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from chromium import EVIL, HOOK, Web, processor_time, store_directly
from support import PATIENCE, wait_until

pytest.importorskip("starlette")
import httpx
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mailhandlers.web import query, server
from mailhandlers.web.app import create_app
from mailhandlers.web.mailbox import Mailbox
from mailhandlers.web.query import LimitedPattern, ParameterError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store_directly(tmp_path / "inbox", HOOK)
    return tmp_path / "inbox"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    with TestClient(create_app(store), base_url="http://localhost") as client:
        yield client


# Patterns


def test_a_pattern_shares_its_time_among_all_its_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(query, "_MATCHING_SECONDS", 0.05)
    pattern = LimitedPattern(EVIL)
    assert pattern.search("aaa")
    assert pattern.search("b") is None
    before = time.process_time()
    for text in ("a" * 5000 + "!", "aaa"):
        with pytest.raises(ParameterError) as refused:
            pattern.search(text)
        assert refused.value.reason.startswith(
            "it takes more than 0.05 s to search for this: make"
        )
    assert time.process_time() - before < 1


def test_other_threads_run_while_a_pattern_is_searched() -> None:
    def search() -> None:
        with suppress(ParameterError):
            LimitedPattern(EVIL).search("a" * 5000 + "!")

    searching = threading.Thread(target=search)
    before = time.thread_time()
    searching.start()
    while searching.is_alive():
        pass
    # Of the second, which is the process's; with the interpreter held, some milliseconds.
    assert time.thread_time() - before > 0.1


@pytest.mark.parametrize("path", ["messages", "messages/latest", "messages/latest?timeout=9"])
def test_a_pattern_that_takes_too_long(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(query, "_MATCHING_SECONDS", 0.05)
    url = httpx.URL(f"/api/{path}").copy_add_param("matching", EVIL)
    answer = client.get(url)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["parameter"] == "matching"


def test_an_answer_begins_when_all_is_searched(
    store: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "_MATCHING_SECONDS", 0.05)
    store_directly(store, b"Subject: newer\r\n\r\naaa")
    params = {"matching": EVIL}
    assert client.get("/api/messages", params=params).status_code == 422
    params |= {"limit": "1"}
    (record,) = client.get("/api/messages", params=params).json()
    assert record["subject"] == "newer"


def test_a_wait_shares_the_time_with_what_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "_MATCHING_SECONDS", 0.05)
    store = tmp_path / "inbox"
    store_directly(store, b"Subject: harmless\r\n\r\n")
    with TestClient(create_app(store), base_url="http://localhost") as client:
        mailbox: Mailbox = client.app.state.mailbox  # type: ignore[attr-defined]
        looked = threading.Event()
        entries = mailbox.entries

        def seen(*ids: str) -> Any:
            found = list(entries(*ids))
            looked.set()
            return iter(found)

        monkeypatch.setattr(mailbox, "entries", seen)
        answers: list[httpx.Response] = []
        params = {"matching": EVIL, "timeout": 50}
        waiting = threading.Thread(
            target=lambda: answers.append(client.get("/api/messages/latest", params=params))
        )
        waiting.start()
        assert looked.wait(PATIENCE)
        store_directly(store, HOOK)
        waiting.join(PATIENCE)
    assert [answer.status_code for answer in answers] == [422]


@pytest.mark.parametrize(
    "pattern",
    ["(", "*", "(" * 500 + ")" * 500, "a{99999999999999999999}", "(?:a{4294967295}){9}",
     r"\L<a>", r"\1", "[b-a]", "(?P<a>a)(?&b)", "(?V1)a", "(?a)(?L)a", r"\N{NO NAME}", "(?<=a"],
)  # fmt: skip
def test_what_does_not_compile(client: TestClient, pattern: str) -> None:
    answer = client.get("/api/messages", params={"matching": pattern})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("matching: no regular expression: ")


def test_events_end_when_a_pattern_has_had_its_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(query, "_MATCHING_SECONDS", 0.05)
    # A moment before all: what came since is sent.
    headers = {"Last-Event-ID": "1000000000.M000001P1Q1.x"}
    answer = client.get("/api/events", params={"matching": EVIL}, headers=headers)
    assert answer.status_code == 200
    assert "hook" not in answer.text
    assert caplog.text == ""


def test_while_patterns_run_all_others_are_answered(store: Path) -> None:
    with Web(store) as web:
        ended: list[int] = []

        def search() -> None:
            with suppress(httpx.HTTPError):  # it ends before they do
                url = f"{web.url}/api/messages"
                ended.append(httpx.get(url, params={"matching": EVIL}, timeout=300).status_code)

        httpx.get(f"{web.url}/api/messages")
        before = processor_time(web.process.pid)
        # More than there are threads, and each takes a second.
        searches = [threading.Thread(target=search) for _ in range(12)]
        for each in searches:
            each.start()
        wait_until(lambda: processor_time(web.process.pid) - before > 0.5)
        for path in ("/", "/static/page.js", "/api/messages", "/api/messages/latest?to=x"):
            assert httpx.get(web.url + path, timeout=300).status_code in (200, 404)
        still_running = len(searches) - len(ended)
        assert web.stop() == 0
        for each in searches:
            each.join(PATIENCE)
    assert still_running > 6


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


def test_head_of_what_never_ends_ends(store: Path) -> None:
    async def ask() -> None:
        caller = Caller(create_app(store), "/api/events", "HEAD")
        await caller.task
        start, body = caller.sent
        assert start["status"] == 200
        assert not body.get("body")
        assert not body.get("more_body")

    run(ask)


# Requests that never end


@contextmanager
def serving_here(store: Path) -> Iterator[int]:
    """Serve in a thread; yield the port."""
    site = server.Site(store, "127.0.0.1:0")
    running = threading.Thread(target=site.run)
    running.start()
    try:
        yield site.sockets[0].getsockname()[1]
    finally:
        site.server.should_exit = True
        running.join(PATIENCE)


NEVER_ENDING = {
    "nothing": b"",
    "part of a line": b"GET /",
    "headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "body": b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    "second": b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n",
}


@pytest.mark.parametrize("drips", [False, True])
@pytest.mark.parametrize("begun", NEVER_ENDING)
def test_a_request_that_never_ends_is_closed(
    store: Path, monkeypatch: pytest.MonkeyPatch, begun: str, drips: bool
) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.3)
    with serving_here(store) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(NEVER_ENDING[begun])
        client.settimeout(0.02 if drips else PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if not client.recv(1 << 16):
                    return
                continue
            except TimeoutError:
                assert drips, "it stayed open"
            except ConnectionResetError:
                return
            try:
                client.sendall(b"x")
            except OSError:
                return
        pytest.fail("it stayed open")


def test_what_is_being_answered_stays_open(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.3)
    with serving_here(store) as port:
        url = f"http://127.0.0.1:{port}"
        with httpx.stream("GET", f"{url}/api/events", timeout=PATIENCE) as events:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as later:
                assert later.recv(1) == b""
            store_directly(store, b"Subject: new\r\n\r\n")
            assert any("new" in line for line in events.iter_lines() if line[:5] == "data:")
