"""What ``mailhandlers open`` writes asks for nothing, in Chromium's own log and at a server."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from shell import put, raw_mail, shell
from support import HOST, PATIENCE
from web import CHROMIUM

from mailhandlers import read_latest

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

NEWSLETTER = """Subject: News\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<html><head><meta http-equiv=refresh content="1;url=URL/refresh">
<link rel=stylesheet href="URL/sheet.css"><link rel=icon href="URL/icon.png">
<link rel=prefetch href="URL/prefetch"><link rel=preload as=image href="URL/preload.png">
<link rel=prerender href="URL/prerender"><link rel=preconnect href="URL">
<link rel=dns-prefetch href="URL"><link rel=manifest href="URL/manifest">
<style>@import "URL/import.css"; @font-face { font-family: f; src: url(URL/font.woff) }
body { background: url(URL/background.png); font-family: f } li { list-style: url(URL/li.png) }
</style></head><body background="URL/body.png">
<img src="URL/image.png"><img srcset="URL/srcset.png 1x"><img src=cid:nothing loading=eager>
<picture><source srcset="URL/source.png"><img alt=x></picture>
<p style="background: url('URL/style.png')">News<ul><li>one</ul>
<form action="URL/form" method=post><input autofocus><input type=image src="URL/input.png">
</form><script src="URL/script.js"></script><iframe src="URL/frame"></iframe>
<iframe srcdoc="<form action='URL/sent'></form>
<script>document.forms[0].submit()</script>"></iframe>
<svg width=9 height=9><image href="URL/svg.png" width=9 height=9 /><use href="URL/use.svg#a" />
<rect width=9 height=9 fill="url(URL/fill.svg#a)" /></svg>
<video src="URL/video.mp4" poster="URL/poster.png" autoplay></video>
<audio src="URL/a.ogg" autoplay></audio>
<object data="URL/object"></object><embed src="URL/embed">
<a href="URL/click" ping="URL/ping">Click</a></body></html>
"""
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # Where a request would go out of this machine it fails at once, and is in the log.
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}",
    # Longer than the refresh takes.
    *("--virtual-time-budget=5000", "--dump-dom", "--net-log-capture-mode=Everything"),
]
OWN = ("file", "data", "chrome")


class Elsewhere(ThreadingHTTPServer):
    """A server that counts who connects, and what they ask for."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), Refusal)
        self.url = f"http://{HOST}:{self.server_address[1]}"
        self.connections = 0
        self.asked: list[str] = []

    def get_request(self):  # type: ignore[no-untyped-def]
        self.connections += 1
        return super().get_request()


class Refusal(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.asked.append(self.path[1:])
        self.send_error(404)

    do_POST = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def store(elsewhere: Elsewhere, tmp_path: Path) -> Path:
    store = tmp_path / "inbox"
    put("MaildirSink", store, raw_mail(NEWSLETTER.replace("URL", elsewhere.url).encode()))
    return store


def leaving(page: Path, shown: str = "News") -> set[str]:
    """Return what a Chromium that shows *page* requests for it that isn't in it, by its log."""
    log = page.with_name("net.json")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={page.with_name('profile')}"]
    command += [f"--log-net-log={log}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    logged = json.loads(log.read_bytes())
    kind = logged["constants"]["logSourceType"]["URL_REQUEST"]
    requests = [
        event["params"]
        for event in logged["events"]
        if event["source"]["type"] == kind and "initiator" in event.get("params", {})
    ]
    assert shown in done.stdout  # a file is no request, so the log doesn't tell
    # Chromium looks for updates, the time and its user's account, whatever its options say:
    # those are requests that no page began.
    begun = [r["url"] for r in requests if r["initiator"] != "not an origin"]
    return {url for url in begun if urlsplit(url).scheme not in OWN}


def test_the_page_that_open_writes_asks_for_nothing(
    store: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert shell("open", store, "--output", page).returncode == 0
    assert leaving(page) == set()
    # Nor did it connect beforehand, which is no request.
    assert (elsewhere.connections, elsewhere.asked) == (0, [])


def test_a_page_with_remote_images_asks_for_them_alone(
    store: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    read_latest(store).save_page(page, remote=True)
    left = {url.removeprefix(f"{elsewhere.url}/") for url in leaving(page)}
    assert left == {"image.png", "background.png", "style.png", "li.png"}
    assert {*elsewhere.asked} == left


def test_the_newsletter_itself_asks_in_many_ways(
    store: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(read_latest(store).html)
    # It leads elsewhere, so that what is shown at the end is any of its pages.
    left = {url.removeprefix(f"{elsewhere.url}/").rstrip("?") for url in leaving(page, "")}
    assert left >= {
        *("sheet.css", "import.css", "script.js", "prefetch", "preload.png", "icon.png"),
        *("image.png", "srcset.png", "source.png", "svg.png", "style.png", "background.png"),
        *("poster.png", "video.mp4", "a.ogg", "frame", "object", "embed", "sent", "refresh"),
    }


def test_a_connection_counts_though_nothing_is_asked(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(f'<link rel=preconnect href="{elsewhere.url}"><p>News')
    assert leaving(page) == set()
    assert (elsewhere.connections > 0, elsewhere.asked) == (True, [])
