"""Mail that wants to break out of the page: nothing runs, nothing leaves, all stays usable."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chromium import Web, browser, store_directly
from hostile import corpus

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from mailhandlers.web.app import create_app

__all__ = ["browser"]

CORPUS = dict(corpus())
assert len(CORPUS) >= 40
_PATIENCE = 90_000


class Shown(NamedTuple):
    """The page that shows them, and what was seen of it."""

    page: Any
    web: Web
    ids: dict[str, str]
    requests: list[Any]
    surprises: list[str]

    def leaving(self) -> list[str]:
        """Return what was asked for elsewhere, and not blocked by a policy before it left."""
        return [
            request.url
            for request in self.requests
            if not request.url.startswith((f"{self.web.url}/", "data:image/"))
            and request.failure != "csp"
        ]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    store = tmp_path_factory.mktemp("hostile") / "inbox"
    return store, {name: store_directly(store, content) for name, content in CORPUS.items()}


@pytest.fixture(scope="module")
def shown(filled: tuple[Path, dict[str, str]], browser: Any) -> Iterator[Shown]:
    store, ids = filled
    requests: list[Any] = []
    surprises: list[str] = []
    with Web(store) as web:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        context.set_default_timeout(_PATIENCE)
        page = context.new_page()
        context.on("request", lambda request: requests.append(request))
        context.on("page", lambda popup: surprises.append(f"opened {popup.url}"))
        page.on("dialog", lambda dialog: surprises.append(dialog.message))
        page.on("download", lambda download: surprises.append(f"saved {download.url}"))
        yield Shown(page, web, ids, requests, surprises)
        context.close()


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_message_stays_in_its_frame(shown: Shown, name: str) -> None:
    page, web, ids, requests, surprises = shown
    requests.clear()
    surprises.clear()
    oldest = next(iter(ids.values()))
    url = f"{web.url}/messages/{ids[name]}?before={oldest}"  # no list beside it: faster
    page.goto(url, wait_until="load")
    title = page.title()
    for frame in page.frames[1:]:
        assert frame.url == f"{web.url}/api/messages/{ids[name]}/html"
        assert frame.evaluate(_ACTIVE) == 0
        for bait in frame.get_by_text("bait", exact=True).all():
            bait.click(force=True, no_wait_after=True)
    page.locator("#subject").click()
    assert len(page.frames) <= 2
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    assert page.url == url
    assert page.title() == title
    assert "pwned" not in title or "subject" in name or "plain" in name
    assert page.evaluate("'pwned' in window") is False
    assert surprises == []
    assert shown.leaving() == []


_ACTIVE = """() => document.querySelectorAll(
    'script,iframe,frame,object,embed,form,input,button,base,link,svg,math,video,audio,' +
    'meta[http-equiv=refresh],[onerror],[onload],[onclick],[srcset],[ping]'
).length"""


def test_a_large_message_waits_until_it_is_wanted(shown: Shown) -> None:
    page, web, ids, requests, _ = shown
    page.goto(f"{web.url}/messages/{ids['large']}", wait_until="load")
    assert len(page.frames) == 1
    requests.clear()
    page.get_by_role("link", name="Show it").click()
    page.locator("iframe").wait_for()
    # Its frame works for long, and the page around it goes on.
    page.keyboard.press("t")
    page.locator("[data-view=text][aria-current]").wait_for()
    assert shown.leaving() == []


def test_the_list_of_them(shown: Shown) -> None:
    page, web, _, requests, surprises = shown
    requests.clear()
    page.goto(f"{web.url}/")
    while page.locator(".older").count():
        page.locator(".older").first.scroll_into_view_if_needed()
        page.locator(".row").nth(50).wait_for()
    assert page.locator(".row").count() == len(CORPUS)
    assert page.evaluate("'pwned' in window") is False
    assert surprises == []
    assert shown.leaving() == []


def test_it_is_the_frame_that_holds_them(shown: Shown, filled: tuple[Path, Any]) -> None:
    # The same payload runs at once where it is no mail: this browser could be broken into.
    page = shown.page.context.browser.new_page()
    page.goto("about:blank")
    page.set_content("<script>top.pwned=1</script>")
    assert page.evaluate("'pwned' in window") is True
    page.close()


class _Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


_PLACES = ("./", "../", "static/", "messages/", "api/")
_OURS = (
    "html head base meta title link script body header a svg rect path span form input div nav "
    "ol ul li bdi time main article h1 h2 dl dt dd p pre section table tbody tr th td code "
    "iframe fieldset legend label dialog kbd button img figure figcaption"
)


@pytest.mark.parametrize("view", ["html", "text", "links", "headers", "envelope", "source"])
def test_our_pages_hold_nothing_of_theirs(
    filled: tuple[Path, dict[str, str]], view: str
) -> None:
    store, ids = filled
    oldest = next(iter(ids.values()))
    with TestClient(create_app(store), base_url="http://localhost") as client:
        for name, message in ids.items():
            if name == "large" and view != "source":
                continue  # takes seconds each time
            params = {"view": view, "before": oldest}
            answer = client.get(f"/messages/{message}", params=params)
            assert answer.status_code == 200
            assert not any(char in answer.text for char in "\0\x1b\u202e\u2028\x9b"), name
            found = _Tags(answer.text).found
            bases = [(tag, attributes) for tag, attributes in found if tag == "base"]
            assert bases == [("base", {"href": "../"})], name
            for tag, attributes in found:
                assert tag in _OURS.split(), (name, tag)
                assert not any(key.startswith("on") for key in attributes), (name, attributes)
                assert "style" not in attributes, (name, attributes)
                if tag == "img":
                    source = attributes["src"] or ""
                    assert source.startswith(f"api/messages/{message}/attachments/"), name
                for key in ("src", "href", "action", "formaction"):
                    address = attributes.get(key) or "./"
                    theirs = ("http://", "https://", "mailto:") if tag == "a" else ()
                    assert address.startswith((*_PLACES, *theirs)), (name, address)


def test_a_file_is_saved_whatever_it_says_it_is(filled: tuple[Path, dict[str, str]]) -> None:
    store, ids = filled
    with TestClient(create_app(store), base_url="http://localhost") as client:
        for name, message in ids.items():
            if name.startswith(("name-", "type-")):
                answer = client.get(f"/api/messages/{message}/attachments/0")
                assert answer.status_code == 200, name
                disposition = answer.headers["content-disposition"]
                assert disposition.startswith("attachment; filename=")
                assert disposition.isascii()
                assert disposition.isprintable()
                assert "/" not in disposition.replace("%2F", "/").partition("filename*")[0]
                kind = answer.headers["content-type"]
                assert kind in ("application/octet-stream", "image/png", "application/pdf")
