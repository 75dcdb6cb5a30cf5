"""The pages without a browser: they are whole without JavaScript."""

from __future__ import annotations

import base64
import html
import re
import time
import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timezone
from email.message import EmailMessage
from pathlib import Path

import pytest
from chromium import catching, deliver, store_directly

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from mailhandlers import Inbox, StoredMessage
from mailhandlers.mail import Mail
from mailhandlers.stores.maildir import MaildirStore
from mailhandlers.web import pages
from mailhandlers.web.app import create_app


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    with TestClient(create_app(store), base_url="http://localhost") as client:
        yield client


def subjects(page: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'class="subject">([^<]*)<', page)]


def test_the_newest_first_and_the_rest_behind_a_link(client: TestClient, store: Path) -> None:
    for number in range(120):
        store_directly(store, f"Subject: {number}\r\n\r\nhello\r\n".encode())
    page = client.get("/").text
    found = subjects(page)
    assert len(found) == 50
    while link := re.search(r'<li class="older"><a href="([^"]*)">Older messages', page):
        page = client.get(html.unescape(link[1])).text
        found += subjects(page)
    assert found == [str(number) for number in range(119, -1, -1)]


def test_what_is_new_can_be_asked_for_before_a_message(client: TestClient, store: Path) -> None:
    ids = [store_directly(store, b"Subject: %d\r\n\r\n" % number) for number in range(5)]
    found = client.get("/rows", params={"after": ids[0], "before": ids[3]}).text
    assert subjects(found) == ["2", "1"]


def test_a_screen_reads_no_more_than_it_shows(
    client: TestClient, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        store_directly(store, f"Subject: {number}\r\n\r\n".encode())
    read: list[str] = []

    def counted(store: MaildirStore, path: str) -> Mail:
        read.append(path)
        return read_file(store, path)

    read_file = MaildirStore.read_file
    monkeypatch.setattr(MaildirStore, "read_file", counted)
    client.get("/")
    assert 50 <= len(read) <= 51


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("welcome", ["Welcome, Bob"]),
        ("to:carol", ["Reset"]),
        ("from:EVA@", ["Reset", "Welcome, Bob"]),
        ('subject:"welcome, bob"', ["Welcome, Bob"]),
        ("4711 code", ["Reset"]),
        ("code from:eva to:carol", ["Reset"]),
        (".*", []),
        ("from:", []),
        ("   ", ["Reset", "Welcome, Bob"]),
    ],
)
def test_search(client: TestClient, store: Path, asked: str, found: list[str]) -> None:
    store_directly(store, b"Subject: Welcome, Bob\r\n\r\nhello\r\n")
    store_directly(store, b"Subject: Reset\r\n\r\nThe code is 4711\r\n", ["carol@example.com"])
    page = client.get("/", params={"q": asked}).text
    assert subjects(page) == found
    assert ("Nothing found" in page) == (found == [])
    for link in re.findall(r'class="row" href="([^"]*)"', page):
        assert client.get(html.unescape(link)).status_code == 200


def test_a_search_that_takes_long_goes_on_behind_a_link(
    client: TestClient, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        store_directly(store, f"Subject: {number}\r\n\r\n".encode())
    monkeypatch.setattr("mailhandlers.web.screen._LONGEST_SEARCH", 0.0)
    page, looked = client.get("/?q=subject:0").text, 0
    while link := re.search(r'<li class="older"><a href="([^"]*)">Search older', page):
        page = client.get(html.unescape(link[1])).text
        looked += 1
    assert looked > 0
    assert subjects(page) == ["0"]


@pytest.mark.parametrize(
    ("name", "handler"),
    [("inbox", "MaildirSink"), ("a b.mbox", "MboxSink"), ("x.jsonl", "JsonLines")],
)
def test_an_empty_inbox_says_how_mail_gets_there(
    tmp_path: Path, name: str, handler: str
) -> None:
    path = tmp_path / name
    with TestClient(create_app(path), base_url="http://localhost") as client:
        page = html.unescape(client.get("/").text)
    shown = f"'{path}'" if " " in name else str(path)
    assert f"aiosmtpd -n -c mailhandlers.{handler} {shown}<" in page
    assert "curl smtp://localhost:8025" in page


def test_a_message_has_links_to_its_neighbours(client: TestClient, store: Path) -> None:
    ids = [store_directly(store, f"Subject: {n}\r\n\r\n".encode()) for n in range(3)]
    page = client.get(f"/messages/{ids[1]}").text
    assert f'rel="prev" href="messages/{ids[2]}"' in page
    assert f'rel="next" href="messages/{ids[0]}"' in page
    assert "<title>1 - inbox</title>" in page


def test_what_a_message_page_tells(client: TestClient, store: Path) -> None:
    with catching(store) as catcher:
        content = (
            "From: Eva <eva@example.com>\r\nTo: bob@example.com\r\nSubject: Hi\r\n\r\n"
            "https://example.com/a?b=1&c=2 code 4711\r\n"
        )
        deliver(catcher, content, ["bob@example.com", "secret@example.com"])
    name = Inbox(store).latest().envelope.id
    page = client.get(f"/messages/{name}").text
    assert "<dt>Bcc</dt><dd><bdi>secret@example.com</bdi>" in page
    assert (
        'href="https://example.com/a?b=1&amp;c=2" target="_blank" rel="noopener noref' in page
    )
    links = client.get(f"/messages/{name}?view=links").text
    assert "<code>4711</code>" in links
    assert "https://example.com/a?b=1&amp;c=2" in links
    envelope = client.get(f"/messages/{name}?view=envelope").text
    assert ">ESMTP<" in envelope
    assert "Subject: Hi\n" in client.get(f"/messages/{name}?view=source").text
    assert client.get(f"/messages/{name}?view=nonsense").status_code == 422


def test_the_problems_of_a_message(client: TestClient, store: Path) -> None:
    faulty = b'From: eva@example.com\r\nContent-Type: text/html\r\n\r\n<img src="<b>.png">\r\n'
    name = store_directly(store, faulty)
    assert 'Problems <span class="count">4</span></a>' in client.get(f"/messages/{name}").text
    page = client.get(f"/messages/{name}?view=problems").text
    assert "An image has no alt (&lt;b&gt;.png):" in page
    link = 'href="https://www.rfc-editor.org/rfc/rfc5322#section-3.6.1" target="_blank"'
    assert f"<code>no-date</code> · <a {link}" in page
    sound = store_directly(
        store,
        b"From: eva@example.com\r\nDate: Mon, 30 Nov 2026 08:48:00 +0000\r\n"
        b"Message-ID: <1@example.com>\r\n\r\nHello\r\n",
    )
    page = client.get(f"/messages/{sound}?view=problems").text
    assert "Nothing is wrong with the message" in page
    assert "<code>no-date</code>" in page
    assert "<code>no-dkim</code>" not in page
    assert 'class="count"' not in page


def test_a_large_message_is_looked_at_when_somebody_asks(
    client: TestClient, store: Path
) -> None:
    name = store_directly(store, b"Subject: large\r\n\r\n" + b"x" * 600_000)
    assert 'class="count"' not in client.get(f"/messages/{name}").text
    page = client.get(f"/messages/{name}?view=problems").text
    assert "A line has more than 998 octets (line 3 has 600000)" in page


def test_remote_images_wait_for_a_click(client: TestClient, store: Path) -> None:
    name = store_directly(
        store,
        b"Subject: x\r\nContent-Type: text/html\r\n\r\n<img src='https://example.com/i.png'>\r\n",
    )
    page = client.get(f"/messages/{name}").text
    assert "Images from the web are not loaded" in page
    frame = client.get(f"/api/messages/{name}/html")
    assert "img-src data:;" in frame.headers["content-security-policy"]
    page = client.get(f"/messages/{name}?view=html&remote=true").text
    assert "not loaded" not in page
    assert f'"api/messages/{name}/html?remote=true"' in page
    frame = client.get(f"/api/messages/{name}/html?remote=true")
    assert "img-src data: https: http:;" in frame.headers["content-security-policy"]


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E"
    "rkJggg=="
)


def with_files(*types: str, content: bytes = PNG) -> bytes:
    """Return a message with a file of each of these types."""
    mail = EmailMessage()
    mail["Subject"] = "files"
    mail.set_content("See the files")
    for number, each in enumerate(types):
        main, _, sub = each.partition("/")
        mail.add_attachment(content, maintype=main, subtype=sub, filename=f"{number}")
    return mail.as_bytes()


def test_images_are_shown_of_the_four_types_alone(client: TestClient, store: Path) -> None:
    shown = ["image/png", "image/jpeg", "image/gif", "image/webp"]
    others = ["image/svg+xml", "image/bmp", "text/html", "application/pdf"]
    name = store_directly(store, with_files(*others, *shown))
    page = client.get(f"/messages/{name}").text
    sources = re.findall(r'<img src="([^"]*)"', page)
    assert sources == [f"api/messages/{name}/attachments/{number}" for number in range(4, 8)]
    for number in range(9):
        answer = client.get(f"/messages/{name}?view=image&n={number}")
        assert answer.status_code == (200 if 4 <= number < 8 else 404)
        assert ('<figure class="picture">' in answer.text) is (4 <= number < 8)
    assert client.get(f"/messages/{name}?view=image&n=-1").status_code == 422
    policy = client.get(f"/messages/{name}?view=image&n=4").headers["content-security-policy"]
    assert "img-src 'self'; " in policy


def test_an_image_that_would_keep_a_browser_busy_is_a_download(
    client: TestClient, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_LARGE_IMAGE", len(PNG) - 1)
    name = store_directly(store, with_files("image/png"))
    page = client.get(f"/messages/{name}").text
    assert "<img" not in page
    assert f'href="api/messages/{name}/attachments/0"' in page


@pytest.mark.parametrize(
    ("senders", "is_recipients_first"),
    [(["a"], False), (["a", "a"], True), (["a", "b"], False), ([], False)],
)
def test_the_recipients_come_first_where_there_is_one_sender(
    client: TestClient, store: Path, senders: list[str], is_recipients_first: bool
) -> None:
    for sender in senders:
        name = store_directly(store, f"From: {sender}@x.test\r\n\r\n".encode())
    for path in ["/", *([f"/messages/{name}"] if senders else [])]:
        assert ('class="rows whom"' in client.get(path).text) is is_recipients_first


def test_the_list_says_how_many_there_are(
    client: TestClient, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(path: str) -> str | None:
        match = re.search(r'<span class="total"[^>]*>([^<]*)<', client.get(path).text)
        return match and match[1]

    assert count("/") is None
    ids = [store_directly(store, b"Subject: 0\r\n\r\n")]
    assert count("/") == "1 message"
    ids += [store_directly(store, f"Subject: {n}\r\n\r\n".encode()) for n in range(1, 60)]
    assert count("/") == "60 messages"
    assert count("/?q=subject:7") == "6 found"
    assert count("/?q=subject:") == "More than 50 found"
    assert count(f"/?before={ids[55]}") is None
    monkeypatch.setattr("mailhandlers.web.screen._LONGEST_COUNT", -1)
    monkeypatch.setattr("mailhandlers.web.screen._COUNTED", 5)
    assert count("/") == "More than 56 messages"


@pytest.mark.parametrize(
    ("zone", "found"),
    [
        ("Pacific/Kiritimati", True),
        ("Pacific%2FKiritimati", True),
        ("Pacific/Pago_Pago", False),
        ("UTC", False),
    ],
)
def test_a_day_in_a_search_is_one_of_the_browsers_zone(
    client: TestClient, store: Path, zone: str, found: bool
) -> None:
    if "Pacific/Kiritimati" not in zoneinfo.available_timezones():
        pytest.skip("this computer knows no time zones")
    received = datetime(2026, 11, 30, 23, 30, tzinfo=timezone.utc)
    name = store_directly(store, b"Subject: x\r\n\r\n", received=received)
    client.cookies.set("zone", zone)
    assert (name in client.get("/?q=after:2026-12-01").text) is found
    assert (name in client.get("/rows?q=after:2026-12-01").text) is found


@pytest.mark.parametrize(
    "zone", ["", "Nowhere/Land", "../../etc/passwd", "Europe", "%00", "x" * 999]
)
def test_a_zone_that_is_none_is_this_computers(
    client: TestClient, store: Path, zone: str
) -> None:
    store_directly(store, b"Subject: x\r\n\r\n")
    client.cookies.set("zone", zone)
    assert subjects(client.get("/?q=after:2000-01-01").text) == ["x"]


def test_a_message_that_is_gone(client: TestClient, store: Path) -> None:
    answer = client.get("/messages/1763714880.M1P1Q1.laptop")
    assert answer.status_code == 404
    assert "This message is gone" in answer.text
    answer = client.get("/?before=1763714880.M1P1Q1.laptop", follow_redirects=False)
    assert answer.headers["location"] == "./"


def test_deleting_all_works_without_javascript(client: TestClient, store: Path) -> None:
    store_directly(store, b"Subject: x\r\n\r\n")
    assert 'action="clear"' in client.get("/").text
    answer = client.post("/clear", headers={"Origin": "http://localhost"})
    assert answer.status_code == 200
    assert "No mail yet" in answer.text


def test_deleting_one_works_without_javascript(client: TestClient, store: Path) -> None:
    ids = [store_directly(store, f"Subject: {n}\r\n\r\n".encode()) for n in range(3)]
    page = client.get(f"/messages/{ids[1]}?q=subject:").text
    action = f"/messages/{ids[1]}/delete?q=subject%3A"
    assert f'<form class="delete" method="post" action="{action[1:]}">' in page
    for _ in range(2):  # somebody else may have done so
        answer = client.post(action, headers={"Origin": "http://localhost"})
        assert answer.url == "http://localhost/?q=subject%3A"
        assert subjects(answer.text) == ["2", "0"]
    assert client.post("/messages/x/delete").url == "http://localhost/"
    elsewhere = {"Origin": "http://evil.example"}
    assert client.post(f"/messages/{ids[0]}/delete", headers=elsewhere).status_code == 403
    assert client.get(f"/messages/{ids[0]}/delete").status_code == 405
    assert len(Inbox(store)) == 2


def test_a_huge_message_costs_the_list_no_more_than_its_head(
    client: TestClient, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_directly(store, b"Subject: huge\r\n\r\n" + b"x" * 10_000_000)
    sizes: list[int] = []
    parse = StoredMessage.parse.__func__  # type: ignore[attr-defined]

    def parsed(cls: type[StoredMessage], content: bytes, *rest: object) -> StoredMessage:
        sizes.append(len(content))
        message: StoredMessage = parse(cls, content, *rest)
        return message

    monkeypatch.setattr(StoredMessage, "parse", classmethod(parsed))
    page = client.get("/").text
    assert subjects(page) == ["huge"]
    assert "10.0 MB" in page
    assert max(sizes) <= 1 << 15


@pytest.mark.parametrize(
    ("source", "is_offered"),
    [
        ("<img src=' HTTPS://e.test/1.gif'>", True),
        ('<img\nsrc =\n"http://e.test/1.gif">', True),
        ("<table background=http://e.test/1.gif>", True),
        ("<p style='background: URL(\"https://e.test/1.gif\")'>", True),
        ("<style>p { background: url(https://e.test/1.gif) }</style>", True),
        ("<img src=cid:a><img src=data:,><a href=https://e.test>https://e.test</a>", False),
        ("<p>curl(https://e.test/)", False),
    ],
)
def test_images_of_the_web_are_offered(
    client: TestClient, store: Path, source: str, is_offered: bool
) -> None:
    name = store_directly(store, f"Content-Type: text/html\r\n\r\n{source}".encode())
    page = client.get(f"/messages/{name}").text
    assert (f'"messages/{name}?view=html&amp;remote=true">Load them' in page) is is_offered
    page = client.get(f"/messages/{name}?remote=true").text
    assert "Load them" not in page


@pytest.mark.parametrize("piece", ["url(", "src=", "src", "src='"])
def test_to_look_for_them_takes_time_in_proportion(piece: str) -> None:
    seconds = []
    for count in (20_000, 80_000):
        source = piece + " " * count + piece * (count // len(piece))
        begun = time.process_time()
        assert pages._WEB_IMAGE.search(source) is None
        seconds.append(time.process_time() - begun)
    assert seconds[1] < 8 * seconds[0] + 0.2
