"""The page of a message in a browser: what its own log says of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hostile import corpus
from web import CHROMIUM

from mailhandlers import StoredMessage

# Much text and many elements ask for nothing that the others don't.
MAIL = {name: mail for name, mail in corpus() if name != "large" and "nested" not in name}
MAIL["newsletter"] = b"""Subject: newsletter\r\nContent-Type: text/html\r\n\r\n
<html><head><meta http-equiv=refresh content="0;url=http://evil.example/next">
<link rel=stylesheet href="http://evil.example/style.css">
<style>@import url(http://evil.example/more.css);
body { background: url(http://evil.example/back.png) }</style></head>
<body background="http://evil.example/body.png">
<img src="http://evil.example/open.gif" width=1 height=1>
<img src="http://evil.example/a.png" srcset="http://evil.example/b.png 2x">
<form action="http://evil.example/form"><input name=q autofocus></form>
<iframe src="http://evil.example/frame"></iframe>
<object data="http://evil.example/o"></object><embed src="http://evil.example/e">
<video src="http://evil.example/v.mp4" poster="http://evil.example/p.png" autoplay></video>
<a href="http://evil.example/click" ping="http://evil.example/ping">Click</a></body></html>
"""
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
CHROMIUMS_OWN = re.compile(
    r"(file|data|about|blob|chrome[\w-]*|devtools):|(https?://)?(~notfound|([\w-]+\.)*(google|googleapis)\.com)(/|:|$)"
)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as running:
        yield running


def requests_of(playwright: Any, pages: Sequence[Path], log: Path) -> set[str]:
    """Return what Chromium wants from elsewhere when it shows *pages*, one after the other."""
    flags = [*FLAGS, f"--log-net-log={log}", "--net-log-capture-mode=Everything"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
    tab = browser.new_page()
    for page in pages:
        tab.goto(page.as_uri())
        with suppress(playwright_error()):  # the page leads elsewhere: that is in the log
            # A refresh after 0 s, and what follows a load, comes before a second timer.
            tab.evaluate("new Promise(done => setTimeout(() => setTimeout(done)))")
    browser.close()
    events = json.loads(log.read_bytes())["events"]
    found = [event.get("params", {}) for event in events]
    urls = {str(params["url"]) for params in found if "url" in params}
    hosts = {str(params["host"]) for params in found if "host" in params}
    return {name for name in urls | hosts if not CHROMIUMS_OWN.match(name)}


def playwright_error() -> type[Exception]:
    error: type[Exception] = pytest.importorskip("playwright.sync_api").Error
    return error


def test_no_request_leaves_a_page(playwright: Any, tmp_path: Path) -> None:
    pages = []
    for name, mail in MAIL.items():
        pages.append(tmp_path / f"{name}.html")
        StoredMessage.parse(mail).save_page(pages[-1])
    assert requests_of(playwright, pages, tmp_path / "log") == set()


def test_the_mail_itself_would_ask(playwright: Any, tmp_path: Path) -> None:
    raw = tmp_path / "raw.html"
    raw.write_bytes(MAIL["newsletter"].partition(b"\r\n\r\n")[2])
    asked = requests_of(playwright, [raw], tmp_path / "log")
    names = {url.rpartition("/")[2] for url in asked if "http://evil.example" in url}
    assert names >= {"next", "style.css", "back.png", "open.gif", "a.png", "frame", "p.png"}
