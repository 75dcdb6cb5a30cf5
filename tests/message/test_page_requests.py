"""No mail asks for anything, in a frame or a saved page: in Chromium's log, and at a server."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from chromium import CHROMIUM, Web
from shell import put, raw_mail, shell
from support import HOST, PATIENCE

from mailhandlers import read_latest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

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
</style>
<style>@im@import x;port "URL/split.css";</style>
<style>@import url(foo;bar); @import url(URL/i2.css);</style>
<style>@\\69mport "URL/escaped.css";
.sm\\:p-4 { background: \\75\\72\\6c (URL/escaped1.png) }
ul { background: u\\72l(URL/escaped2.png); cursor: u\\rl('URL/escaped3.png'), auto }
h1 { background: url("\\68\\74tp:URL_NO_SCHEME/escaped4.png"); content: url(URL/content.png) }
h2 { background: image-set("URL/set.png" 1x); mask: url(URL/mask.svg#a);
filter: url(URL/f.svg#a) }
h3 { background: -webkit-image-set(url(URL/wset.png) 1x); border-image: url(URL/border.png) 1 }
h4 { background: -webkit-cross-fade(url(URL/f1.png), url(URL/f2.png), 50%);
clip-path: url(URL/c.svg#a) }
h5 { shape-outside: url(URL/shape.png); float: left; offset-path: url(URL/path.svg#a) }
h6 { background: /* \\*/ url(URL/comment.png
</style></head><body background="URL/body.png">
<h1>1</h1><h2>2</h2><h3>3</h3><h4>4</h4><h5>5</h5><h6>6</h6><div class="sm:p-4">News</div>
<base href="URL/based/"><img src="relative.png"><img src="http:/api/messages">
<table background="URL/table.png"><tr><td background="URL/td.png">td</table>
<link rel=modulepreload href="URL/module.js"><link rel=alternate href="URL/alternate">
<meta http-equiv=x-dns-prefetch-control content=on>
<script type=speculationrules>{"prerender": [{"source": "list", "urls": ["URL/speculated"]}]}
</script><img src="URL/image.png"><img srcset="URL/srcset.png 1x">
<img src=cid:nothing loading=eager>
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
NO_IMAGE = "http://api/messages"  # what "http:/api/messages" means in a file
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


def newsletter(elsewhere: Elsewhere) -> bytes:
    without_scheme = elsewhere.url.partition(":")[2]
    text = NEWSLETTER.replace("URL_NO_SCHEME", without_scheme).replace("URL", elsewhere.url)
    return text.encode()


@pytest.fixture
def store(elsewhere: Elsewhere, tmp_path: Path) -> Path:
    store = tmp_path / "inbox"
    put("MaildirSink", store, raw_mail(newsletter(elsewhere)))
    return store


def requests(address: str, folder: Path, shown: str) -> set[str]:
    """Return what a Chromium that shows the page at *address* requests for it, by its log."""
    log = folder / "net.json"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}"]
    command += [f"--log-net-log={log}", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
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


def leaving(page: Path, shown: str = "News") -> set[str]:
    """Return what a Chromium that shows the file *page* requests for it that isn't in it."""
    return requests(page.as_uri(), page.parent, shown)


def test_the_page_that_open_writes_asks_for_nothing(
    store: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert shell("open", store, "--output", page).returncode == 0
    assert leaving(page) == set()
    # Nor did it connect beforehand, which is no request.
    assert (elsewhere.connections, elsewhere.asked) == (0, [])


def test_the_frame_of_the_web_page_asks_for_nothing(
    store: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    name = read_latest(store).envelope.id
    with Web(store) as web:
        # With an old part of the list beside it: nothing waits for arrivals, for which
        # Chromium's clock would wait in turn.
        address = f"{web.url}/messages/{name}?before={name}"
        asked = requests(address, tmp_path, "<iframe")
        frame = f"{web.url}/api/messages/{name}/html"
        assert frame in asked
        assert [url for url in asked if "/api/" in url] == [frame]
        assert {url for url in asked if not url.startswith(f"{web.url}/")} == set()
    assert (elsewhere.connections, elsewhere.asked) == (0, [])


def test_a_page_with_remote_images_asks_for_them_alone(
    store: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    read_latest(store).save_page(page, remote=True)
    left = {url.removeprefix(f"{elsewhere.url}/") for url in leaving(page)}
    assert left >= {"image.png", "background.png", "style.png", "li.png", "escaped1.png"}
    assert all(re.search(r"\.(?:png|svg)(?:#a)?\Z", url) for url in left - {NO_IMAGE})
    assert left.isdisjoint({"preload.png", "icon.png", "srcset.png", "poster.png", "svg.png"})


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
        *("i2.css", "escaped.css", "comment.png", "table.png", "td.png", "shape.png"),
        *("escaped1.png", "escaped2.png", "escaped3.png", "escaped4.png", "content.png"),
        *("set.png", "wset.png", "mask.svg#a", "border.png"),
        *("module.js", "based/relative.png"),
    }


def test_a_connection_counts_though_nothing_is_asked(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(f'<link rel=preconnect href="{elsewhere.url}"><p>News')
    assert leaving(page) == set()
    assert (elsewhere.connections > 0, elsewhere.asked) == (True, [])
