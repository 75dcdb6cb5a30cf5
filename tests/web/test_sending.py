"""A message is sent on from the page and over HTTP, where that was allowed alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Web, browser, store_directly

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from mailhandlers import MailCatcher, Reply
from mailhandlers.web.app import create_app
from mailhandlers.web.settings import WebSettings

__all__ = ["browser"]

MAIL = b"Subject: one\r\n\r\n.\r\n..hi\r\n"
REAL = "me+tag@real.example"


@pytest.fixture
def target() -> Iterator[MailCatcher]:
    with MailCatcher() as catcher:
        yield catcher


@pytest.fixture
def name(tmp_path: Path) -> str:
    return store_directly(tmp_path / "inbox", MAIL, ["bob@example.com"])


@pytest.fixture
def client(name: str, tmp_path: Path, target: MailCatcher) -> Iterator[TestClient]:
    settings = WebSettings(via=f"{target.host}:{target.port}", redirect_to=(REAL, "you@real"))
    app = create_app(tmp_path / "inbox", settings=settings)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


def test_over_http(client: TestClient, name: str, target: MailCatcher) -> None:
    answer = client.post(f"/api/messages/{name}/send", params={"redirect_to": REAL})
    assert (answer.status_code, answer.content) == (204, b"")
    [sent] = target
    assert sent.original_content == MAIL
    assert (sent.envelope.mail_from, sent.envelope.rcpt_tos) == ("eva@example.com", [REAL])


@pytest.mark.parametrize("address", ["bob@example.com", "", "ME@real.example", f"{REAL} "])
@pytest.mark.parametrize("path", ["/api/messages", "/messages"])
def test_to_nobody_else(
    client: TestClient, name: str, target: MailCatcher, path: str, address: str
) -> None:
    answer = client.post(f"{path}/{name}/send", params={"redirect_to": address})
    assert answer.status_code == 403
    assert "--redirect-to" in answer.json()["detail"]
    assert not target.sessions


def test_what_is_wrong_is_told(client: TestClient, name: str, target: MailCatcher) -> None:
    api = f"/api/messages/{name}/send"
    assert client.post(api).status_code == 422
    assert client.post(api, params={"to": REAL}).status_code == 422
    assert client.get(api, params={"redirect_to": REAL}).status_code == 405
    gone = "/api/messages/1763714880.M1P1Q1.laptop/send"
    assert client.post(gone, params={"redirect_to": REAL}).status_code == 404
    answer = client.post(gone.removeprefix("/api"), params={"redirect_to": REAL})
    assert (answer.status_code, answer.headers["location"]) == (303, "../" + gone.split("/")[3])
    elsewhere = {"Origin": "http://evil.example"}
    answer = client.post(api, params={"redirect_to": REAL}, headers=elsewhere)
    assert answer.status_code == 403
    with target.replying(Reply("RCPT", "550 5.1.1 <b>No</b> such user")):
        answer = client.post(api, params={"redirect_to": REAL})
        assert answer.status_code == 502
        assert "550 5.1.1 <b>No</b> such user" in answer.json()["detail"]
        page = client.post(f"/messages/{name}/send", params={"redirect_to": REAL})
        assert page.status_code == 502
        assert "550 5.1.1 &lt;b&gt;No" in page.text
    target.stop()
    answer = client.post(api, params={"redirect_to": REAL})
    assert (answer.status_code, "Connection refused" in answer.text) == (502, True)
    assert len(target) == 0


def test_without_a_server_nothing_offers_it(name: str, tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path / "inbox"), base_url="http://localhost") as client:
        assert "Send" not in client.get(f"/messages/{name}").text
        answer = client.post(f"/api/messages/{name}/send", params={"redirect_to": REAL})
        assert answer.status_code == 403


@pytest.mark.parametrize("width", [320, 1280])
def test_a_long_address_is_within_the_screen(
    browser: Any, name: str, tmp_path: Path, target: MailCatcher, width: int
) -> None:
    address = f"{'long' * 16}@{'department.' * 6}example.com"
    more = ["--via", f"{target.host}:{target.port}", "--redirect-to", address]
    with Web(tmp_path / "inbox", "127.0.0.1:0", *more) as web:
        page = browser.new_page(viewport={"width": width, "height": 780})
        page.goto(f"{web.url}/messages/{name}")
        page.get_by_role("button", name="Send…").click()
        box = page.locator("#send").bounding_box()
        button = page.locator("#send button").bounding_box()
        assert 0 <= box["x"] < button["x"]
        assert button["x"] + button["width"] < box["x"] + box["width"] <= width
        page.close()


def test_in_a_browser(browser: Any, name: str, tmp_path: Path, target: MailCatcher) -> None:
    more = ["--via", f"{target.host}:{target.port}", "--redirect-to", "you@real"]
    more += ["--redirect-to", REAL]
    with Web(tmp_path / "inbox", "127.0.0.1:0", *more) as web:
        page = browser.new_page()
        page.goto(f"{web.url}/messages/{name}")
        page.get_by_role("button", name="Send…").click()
        page.get_by_role("button", name=f"To {REAL}").click()
        page.get_by_role("heading", name=f"Sent to {REAL}").wait_for()
        assert target.latest().envelope.rcpt_tos == [REAL]
        page.get_by_role("link", name="Back to the message").click()
        page.wait_for_url(f"{web.url}/messages/{name}")
        page.close()
