"""The page as a person has it: in Chromium, by keyboard, live, on a phone, in the dark."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from chromium import Web, browser, catching, deliver, store_directly

pytest.importorskip("starlette")
expect = pytest.importorskip("playwright.sync_api").expect

__all__ = ["browser"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def web(store: Path) -> Iterator[Web]:
    with Web(store) as web:
        yield web


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def fill(store: Path, count: int) -> list[str]:
    letters = (f"Subject: Letter {n}\r\n\r\nThis is letter {n}.\r\n" for n in range(count))
    return [store_directly(store, letter.encode()) for letter in letters]


def newsletter() -> bytes:
    mail = EmailMessage()
    mail["Subject"] = "News"
    mail["From"] = "Eva Example <eva@example.com>"
    mail.set_content("See https://example.com/news")
    mail.add_alternative("<h1>The news</h1><p>of today</p>", subtype="html")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="news.pdf")
    return mail.as_bytes()


def arrive(page: Any, url: str) -> None:
    """Wait for a page whose script has run, which minds the keys."""
    expect(page).to_have_url(url)
    expect(page.locator("html.live")).to_be_attached()


def test_keyboard(page: Any, web: Web, store: Path) -> None:
    ids = fill(store, 3)
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    rows = page.locator(".row")
    page.keyboard.press("j")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("Enter")
    arrive(page, f"{web.url}/messages/{ids[2]}")
    page.keyboard.press("j")
    arrive(page, f"{web.url}/messages/{ids[1]}")
    expect(page.get_by_role("heading", name="Letter 1")).to_be_visible()
    page.keyboard.press("k")
    arrive(page, f"{web.url}/messages/{ids[2]}")
    page.keyboard.press("s")
    arrive(page, f"{web.url}/messages/{ids[2]}?view=source")
    expect(page.locator("[data-view=source]")).to_have_attribute("aria-current", "page")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("u")
    arrive(page, f"{web.url}/")
    page.keyboard.press("/")
    page.keyboard.type("letter 0 j?")
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("letter 0 j?")
    page.get_by_role("searchbox").fill("subject:letter from:eva 0")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Letter 0")


def test_a_message_is_deleted_by_its_button_and_by_a_key(
    page: Any, web: Web, store: Path
) -> None:
    ids = fill(store, 3)
    page.goto(f"{web.url}/messages/{ids[1]}")
    page.get_by_role("button", name="Delete").click()
    arrive(page, f"{web.url}/")
    expect(page.locator(".row .subject")).to_have_text(["Letter 2", "Letter 0"])
    page.goto(f"{web.url}/messages/{ids[2]}")
    arrive(page, f"{web.url}/messages/{ids[2]}")
    page.keyboard.press("#")
    arrive(page, f"{web.url}/")
    expect(page.locator(".row .subject")).to_have_text(["Letter 0"])
    page.keyboard.press("j")
    page.keyboard.press("Delete")
    expect(page.get_by_role("heading", name="No mail yet")).to_be_visible()


def test_what_opens_above_the_page(page: Any, web: Web, store: Path) -> None:
    fill(store, 3)
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    opens, danger = page.get_by_text("Delete all…"), page.locator("button.danger")
    opens.click()
    expect(danger).to_be_visible()
    page.keyboard.press("#")  # the keys of the page are at rest
    page.keyboard.press("Escape")
    expect(danger).to_be_hidden()
    opens.click()
    page.mouse.click(5, 790)
    expect(danger).to_be_hidden()
    expect(page.locator(".row")).to_have_count(3)
    page.get_by_role("button", name="Help").click()
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_row_is_deleted_and_the_next_one_has_the_focus(
    page: Any, web: Web, store: Path
) -> None:
    ids = fill(store, 4)
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    item = page.locator("li", has=page.locator(f"[data-id='{ids[2]}']"))
    item.hover()
    item.get_by_role("button", name="Delete Letter 2").click()
    expect(page.locator(".row .subject")).to_have_text(["Letter 3", "Letter 1", "Letter 0"])
    expect(page.locator(f"[data-id='{ids[1]}']")).to_be_focused()
    arrive(page, f"{web.url}/")
    page.keyboard.press("#")
    expect(page.locator(".row .subject")).to_have_text(["Letter 3", "Letter 0"])
    expect(page.locator(f"[data-id='{ids[0]}']")).to_be_focused()


def test_arrow_keys(page: Any, web: Web, store: Path) -> None:
    ids = fill(store, 3)
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    rows = page.locator(".row")
    for key, focused in [("Down", 0), ("Down", 1), ("Down", 2), ("Down", 2), ("Up", 1)]:
        page.keyboard.press(f"Arrow{key}")
        expect(rows.nth(focused)).to_be_focused()
    page.keyboard.press("Enter")
    arrive(page, f"{web.url}/messages/{ids[1]}")
    page.keyboard.press("ArrowRight")
    arrive(page, f"{web.url}/messages/{ids[0]}")
    page.keyboard.press("ArrowLeft")
    arrive(page, f"{web.url}/messages/{ids[1]}")
    rows.nth(0).focus()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    page.get_by_role("searchbox").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_the_place_is_kept_after_u(page: Any, web: Web, store: Path) -> None:
    ids = fill(store, 130)
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    row = page.locator(f"[data-id='{ids[40]}']")  # among those that come as one scrolls
    while not row.count():
        page.keyboard.press("End")
        page.locator(".row").nth(page.locator(".row").count() - 1).wait_for()
    row.scroll_into_view_if_needed()
    before, top = row.bounding_box()["y"], page.evaluate("scrollY")
    row.click()
    expect(page.get_by_role("heading", name="Letter 40")).to_be_visible()
    expect(page.locator("html.live, .beside .rows:not([data-live])").first).to_be_attached()
    page.keyboard.press("u")
    expect(page).to_have_url(f"{web.url}/")
    expect(row).to_be_focused()
    assert row.bounding_box()["y"] == pytest.approx(before, abs=2)
    assert page.evaluate("scrollY") == pytest.approx(top, abs=2)
    # It is the one that was read last which has the focus.
    page.keyboard.press("Enter")
    page.locator("[data-view=source]").wait_for()
    page.get_by_role("link", name="Older", exact=True).click()
    expect(page.get_by_role("heading", name="Letter 39")).to_be_visible()
    page.locator(".back").click()
    expect(page.locator(f"[data-id='{ids[39]}']")).to_be_focused()
    # Who comes in another way begins at the top.
    page.goto(f"{web.url}/messages/{ids[39]}")
    page.locator(".home").click()
    expect(page).to_have_url(f"{web.url}/")
    arrive(page, f"{web.url}/")
    assert page.evaluate("scrollY") == 0


def test_what_came_since_one_last_looked(browser: Any, web: Web, store: Path) -> None:
    ids = fill(store, 3)
    context = browser.new_context()
    page = context.new_page()
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    since, new = page.locator(".since"), page.locator(".row.new")
    expect(since).to_be_hidden()  # nobody has looked before
    page.goto("about:blank")
    page.close()
    late = [*fill(store, 2)]
    page = context.new_page()
    page.goto(web.url)
    since, new = page.locator(".since"), page.locator(".row.new")
    expect(since).to_have_text("2 new since you last looked")
    expect(new).to_have_count(2)
    expect(page.locator(".total")).to_have_text("5 messages")
    # To read one is no new look.
    page.locator(f"[data-id='{late[0]}']").click()
    page.locator("[data-view=source]").wait_for()
    page.locator(".back").click()
    expect(new).to_have_count(2)
    # What comes while one looks is counted, too.
    arrive(page, f"{web.url}/")
    store_directly(store, b"Subject: live\r\n\r\n")
    expect(page.locator(".total")).to_have_text("6 messages")
    page.close()
    page = context.new_page()
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    expect(page.locator(".since")).to_be_hidden()
    expect(page.locator(".row.new")).to_have_count(0)
    assert len(ids) == 3
    context.close()


def test_times_are_those_of_the_browser(browser: Any, web: Web, store: Path) -> None:
    received = datetime(2020, 11, 30, 23, 30, tzinfo=timezone.utc)
    name = store_directly(store, b"Subject: x\r\n\r\n", received=received)
    context = browser.new_context(timezone_id="Asia/Kolkata")
    page = context.new_page()
    page.goto(web.url)
    expect(page.locator(".row time")).to_have_text("1 Dec 2020")
    expect(page.locator(".row time")).to_have_attribute(
        "title", re.compile("Tue, 1 Dec 2020, 05:00:00 GMT[+]5:30")
    )
    page.goto(f"{web.url}/messages/{name}")
    expect(page.locator("time.long")).to_have_text("Tue, 1 Dec 2020, 05:00:00 GMT+5:30")
    page.goto(f"{web.url}/?q=after:2020-12-01")
    expect(page.locator(".row")).to_have_count(1)
    page.goto(f"{web.url}/?q=after:2020-12-02")
    expect(page.locator(".row")).to_have_count(0)
    context.close()


def test_the_recipients_come_first_until_there_is_another_sender(
    page: Any, web: Web, store: Path
) -> None:
    for number in range(2):
        store_directly(store, b"From: Shop <s@x>\r\n\r\n", [f"u{number}@example.com"])
    page.goto(web.url)
    arrive(page, f"{web.url}/")

    def left_to_right() -> list[str]:
        row = page.locator(".row").last
        places = {name: row.locator(f".{name}").bounding_box()["x"] for name in ("from", "to")}
        return sorted(places, key=lambda name: places[name])

    assert left_to_right() == ["to", "from"]
    store_directly(store, b"From: Eva <eva@x>\r\n\r\n")
    expect(page.locator(".row")).to_have_count(3)
    expect(page.locator(".rows.whom")).to_have_count(0)
    assert left_to_right() == ["from", "to"]


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_at_any_width_one_sees_to_whom(page: Any, web: Web, store: Path, width: int) -> None:
    for sender in ("Shop", "Eva"):
        store_directly(store, f"From: {sender} <s@x>\r\n\r\n".encode(), [f"{sender}@to.test"])
    page.set_viewport_size({"width": width, "height": 780})
    page.goto(web.url)
    for name in ("Shop@to.test", "Eva@to.test"):
        expect(page.get_by_text(name, exact=True)).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("width", [320, 390])
def test_all_tabs_are_within_reach_on_a_phone(
    page: Any, web: Web, store: Path, width: int
) -> None:
    name = store_directly(store, newsletter())
    page.set_viewport_size({"width": width, "height": 780})
    page.goto(f"{web.url}/messages/{name}")
    for tab in page.locator(".tabs a").all():
        expect(tab).to_be_in_viewport(ratio=1)
    page.get_by_role("link", name="Source", exact=True).click()
    expect(page.locator("pre.text")).to_contain_text("Subject: News")


def test_images_are_shown_small_and_large(page: Any, web: Web, store: Path) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Pictures"
    mail.set_content("See the pictures")
    mail.add_attachment(image(200, 100), maintype="image", subtype="png", filename="a.png")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9'><script>alert(1)</script></svg>"
    mail.add_attachment(svg, maintype="image", subtype="png", filename="lie.png")
    name = store_directly(store, mail.as_bytes())
    page.goto(f"{web.url}/messages/{name}")
    small = page.locator(".attachments img")
    width = "img => img.decode().then(() => img.naturalWidth, () => 0)"
    assert small.first.evaluate(width) == 200
    assert small.last.evaluate(width) == 0  # no browser takes the one for the other
    box = small.first.bounding_box()
    assert box["width"] < 60
    small.first.click()
    large = page.locator("figure img")
    assert large.evaluate(width) == 200
    assert large.bounding_box()["width"] >= 200
    with page.expect_download() as saved:
        page.get_by_role("link", name="a.png image/png").click()
    assert Path(saved.value.path()).read_bytes() == image(200, 100)


def image(width: int, height: int) -> bytes:
    """Return a picture, as PNG has it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_without_storage_the_page_works(browser: Any, web: Web, store: Path) -> None:
    ids = fill(store, 3)
    context = browser.new_context()
    context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, "
        "name, { get() { throw new DOMException('denied', 'SecurityError'); } });"
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(web.url)
    arrive(page, f"{web.url}/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    arrive(page, f"{web.url}/messages/{ids[2]}")
    page.keyboard.press("u")
    arrive(page, f"{web.url}/")
    context.close()
    assert errors == []


def test_mail_appears_by_itself(page: Any, web: Web, store: Path) -> None:
    with catching(store) as catcher:
        page.goto(web.url)
        expect(page.get_by_role("heading", name="No mail yet")).to_be_visible()
        expect(page.locator("html.live")).to_be_attached()
        deliver(catcher, "Subject: First\r\n\r\n")
        expect(page.locator(".row")).to_have_count(1)
        expect(page.locator("html.live")).to_be_attached()
        for number in range(10):
            deliver(catcher, f"Subject: Number {number}\r\n\r\n")
        expect(page.locator(".row")).to_have_count(11)
        expect(page.locator(".row .subject")).to_have_text(
            [*(f"Number {number}" for number in range(9, -1, -1)), "First"]
        )
        expect(page).to_have_title("(10) inbox")
        expect(page.get_by_role("status")).to_have_text("10 new messages")


def test_more_than_a_screen_at_once_leaves_no_gap(page: Any, web: Web, store: Path) -> None:
    ids = fill(store, 10)
    for path in ("/", f"/messages/{ids[-1]}"):
        page.goto(f"{web.url}{path}")
        expect(page.locator("html.live")).to_be_attached()
        # Held until Playwright is called again: with all of these the page asks once.
        page.route("**/rows?**", lambda route: route.continue_())
        ids += fill(store, 70)
        page.locator(f"[data-id='{ids[-1]}']").wait_for()
        while page.locator(".older").count():
            count = page.locator(".row").count()
            page.locator(".older").scroll_into_view_if_needed()
            page.locator(".row").nth(count).wait_for(state="attached")
        expect(page.locator(".row")).to_have_count(len(ids))
        page.unroute("**/rows?**")


def test_a_search_is_live_as_well(page: Any, web: Web, store: Path) -> None:
    with catching(store) as catcher:
        deliver(catcher, "Subject: Wanted 1\r\n\r\n")
        page.goto(f"{web.url}/?q=wanted")
        expect(page.locator("html.live")).to_be_attached()
        deliver(catcher, "Subject: Other\r\n\r\n")
        deliver(catcher, "Subject: Wanted 2\r\n\r\n")
        expect(page.locator(".row .subject")).to_have_text(["Wanted 2", "Wanted 1"])


def test_mail_that_arrives_moves_nothing_that_one_reads(
    page: Any, web: Web, store: Path
) -> None:
    ids = fill(store, 40)
    page.goto(web.url)
    expect(page.locator("html.live")).to_be_attached()
    row = page.locator(f"[data-id='{ids[10]}']")
    row.scroll_into_view_if_needed()
    before = row.bounding_box()["y"]
    store_directly(store, b"Subject: New\r\n\r\n")
    expect(page.locator(".row")).to_have_count(41)
    assert row.bounding_box()["y"] == pytest.approx(before, abs=1)
    # The same beside a message, and the message itself.
    row.click()
    page.locator("html.live").wait_for(state="attached")
    heading, beside = page.locator("#subject"), page.locator(".row[aria-current]")
    boxes = [heading.bounding_box()["y"], beside.bounding_box()["y"]]
    store_directly(store, b"Subject: Newer\r\n\r\n")
    expect(page.locator(".row")).to_have_count(42)
    now = [heading.bounding_box()["y"], beside.bounding_box()["y"]]
    assert now == pytest.approx(boxes, abs=1)


def test_older_messages_come_as_one_scrolls(page: Any, web: Web, store: Path) -> None:
    fill(store, 130)
    page.goto(web.url)
    assert page.locator(".row").count() >= 50
    while page.locator(".older").count():
        count = page.locator(".row").count()
        page.keyboard.press("End")
        page.locator(".row").nth(count).wait_for()
    subjects = page.locator(".row .subject").all_text_contents()
    assert subjects == [f"Letter {number}" for number in range(129, -1, -1)]


def test_a_message_in_three_widths(page: Any, web: Web, store: Path) -> None:
    name = store_directly(store, newsletter())
    page.goto(f"{web.url}/messages/{name}")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="The news")).to_be_visible()
    widths = {}
    for choice in ("Phone", "Tablet", "Full"):
        page.get_by_text(choice, exact=True).click()
        widths[choice] = page.locator("iframe").bounding_box()["width"]
    assert (widths["Phone"], widths["Tablet"]) == (375, 768)
    assert widths["Full"] > 800
    page.get_by_role("link", name="Text", exact=True).click()
    expect(
        page.get_by_role("link", name="https://example.com/news", exact=True)
    ).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="news.pdf").click()
    assert saved.value.suggested_filename == "news.pdf"
    assert Path(saved.value.path()).read_bytes() == b"%PDF"


def test_what_is_wrong_with_a_message(page: Any, web: Web, store: Path) -> None:
    name = store_directly(store, newsletter())
    page.goto(f"{web.url}/messages/{name}")
    page.get_by_role("link", name="Problems 2").click()
    expect(page.locator("[data-view=problems]")).to_have_attribute("aria-current", "page")
    problems = page.locator(".problems > li")
    expect(problems).to_have_count(2)
    expect(problems.first).to_contain_text("There is no Date: mail programs show")
    source = problems.first.get_by_role("link", name="RFC 5322 section 3.6.1")
    expect(source).to_have_attribute("rel", "noopener noreferrer")


def test_what_one_taps_on_a_phone_is_large_enough(page: Any, web: Web, store: Path) -> None:
    fill(store, 3)
    name = store_directly(store, newsletter())
    page.set_viewport_size({"width": 390, "height": 780})
    for path in ("/", f"/messages/{name}", "/messages/none"):
        page.goto(web.url + path)
        for target in page.locator("a, button, input").all():
            if target.is_visible() and not target.evaluate("each => each.closest('p')"):
                assert target.bounding_box()["height"] >= 32, target.text_content()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: Any, web: Web, store: Path, width: int) -> None:
    fill(store, 3)
    name = store_directly(store, newsletter().replace(b"News", b"N" * 300))
    page.set_viewport_size({"width": width, "height": 780})
    for path in (
        "/",
        f"/messages/{name}",
        f"/messages/{name}?view=headers",
        f"/messages/{name}?view=problems",
        "/?q=nothing",
    ):
        page.goto(web.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.goto(f"{web.url}/messages/{name}")
    frame = page.locator("iframe").bounding_box()
    assert frame["width"] >= min(width, 800) * 0.9
    assert frame["height"] >= 300


def test_light_and_dark(browser: Any, web: Web, store: Path) -> None:
    fill(store, 1)
    grounds = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(web.url)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds[scheme] = sum(map(int, colour[4:-1].split(",")))
        page.close()
    assert grounds["dark"] < 150 < 600 < grounds["light"]


def test_without_javascript(browser: Any, web: Web, store: Path) -> None:
    fill(store, 60)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(web.url)
    page.get_by_role("link", name="Older messages").click()
    page.get_by_role("link", name="Letter 3 ").first.click()
    expect(page.get_by_role("heading", name="Letter 3")).to_be_visible()
    page.locator(".back").click()
    expect(page.locator(".row")).to_have_count(10)
    page.get_by_role("link", name="Newest messages").click()
    page.get_by_text("Delete all…").click()
    page.get_by_role("button", name="Delete all", exact=True).click()
    expect(page.get_by_role("heading", name="No mail yet")).to_be_visible()
    context.close()


def test_a_link_in_a_mail_leads_to_a_page_and_never_to_the_api(
    browser: Any, web: Web, store: Path
) -> None:
    name = store_directly(store, newsletter())
    paths = ["/api/messages?limit=1", "/api/messages/latest", "/api/openapi.json"]
    hrefs = [f"{start}{path}" for path in paths for start in (web.url, "http:", "")]
    sandbox = "allow-popups allow-popups-to-escape-sandbox"
    links = "".join(f'<p><a href="{each}" target="_blank">x</a>' for each in hrefs)
    page_link = f'<p><a href="{web.url}/" target="_blank">page</a>'
    headers = {"Content-Type": "text/html", "Content-Security-Policy": f"sandbox {sandbox}"}
    context = browser.new_context()
    # The frame with the links as they are, of which a mail's page takes some away.
    context.route("**/html", lambda it: it.fulfill(body=links + page_link, headers=headers))
    page = context.new_page()
    page.goto(f"{web.url}/messages/{name}")
    frame = page.frame_locator("iframe")
    for number in range(len(hrefs)):
        with context.expect_page() as opened:
            frame.get_by_text("x", exact=True).nth(number).click()
        expect(opened.value.locator("body")).to_contain_text('"status":403')
        opened.value.close()
    with context.expect_page() as opened:
        frame.get_by_text("page").click()
    expect(opened.value.locator(".row")).to_have_count(1)
    # The link of a text stands in a page of ours.
    text = f"Subject: text\r\n\r\n{web.url}/api/messages\r\n".encode()
    page.goto(f"{web.url}/messages/{store_directly(store, text)}")
    with context.expect_page() as opened:
        page.get_by_role("link", name=f"{web.url}/api/messages", exact=True).click()
    expect(opened.value.locator("body")).to_contain_text('"status":403')
    page.get_by_role("link", name="Envelope").click()
    page.get_by_role("link", name="All that is known, as JSON").click()
    expect(page.locator("body")).to_contain_text('"subject": "text"')
    page.reload()
    expect(page.locator("body")).to_contain_text('"subject": "text"')
    # What one types into the address bar.
    assert page.goto(f"{web.url}/api/messages").status == 200
    context.close()
