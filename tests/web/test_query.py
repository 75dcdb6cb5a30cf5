"""What a request asks for: a pattern has a second of matching in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from chromium import EVIL, HOOK, Web, processor_time, store_directly
from support import PATIENCE, wait_until

pytest.importorskip("starlette")
import httpx
from starlette.testclient import TestClient

from mailhandlers.web import query
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

        def seen(*ids: Any) -> Any:
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
