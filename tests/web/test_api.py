"""The HTTP API: the same messages as in Python, and waiting for them."""

from __future__ import annotations

import base64
import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from chromium import EVIL, HOOK, Web, catching, deliver, get, store_directly
from shell import put, raw_mail
from support import JSON_LINES, KINDS, MBOX, PATIENCE, Kind, wait_until

pytest.importorskip("starlette")
import httpx
from starlette.testclient import TestClient

from mailhandlers import Inbox, MailCatcher, StoredMessage
from mailhandlers.web.app import create_app
from mailhandlers.web.mailbox import Mailbox

LETTERS = [
    (b"Subject: one\r\n\r\nthe code is 1111\r\n", ["bob@example.com"]),
    (
        b"Subject: two\r\n\r\nhttps://example.com/2\r\n",
        ["carol@example.com", "BOB@example.com"],
    ),
    (b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nthree\r\n", ["dora@example.com"]),
    (b"Subject: one\r\n\r\nfour\r\n", ["dora@example.com", "carol@example.com"]),
]


@pytest.fixture
def filled(kind: Kind, store: Path) -> Path:
    """A store with a few letters."""
    with catching(store, kind.handler) as catcher:
        for content, to in LETTERS:
            deliver(catcher, content, to)
        deliver(catcher, b"Subject: bounce\r\n\r\n\xff\xfe\r\n", ["bob@example.com"], "")
    return store


def client_of(store: Path) -> TestClient:
    return TestClient(create_app(store), base_url="http://localhost")


@pytest.fixture
def api(filled: Path) -> Iterator[TestClient]:
    with client_of(filled) as client:
        yield client


CRITERIA: list[dict[str, str]] = [
    {},
    {"to": "bob@example.com"},
    {"to": "CAROL@example.com", "subject": "one"},
    {"mail_from": ""},
    {"mail_from": "EVA@example.com"},
    {"subject": "grüße"},
    {"matching": r"code is \d{4}"},
    {"matching": "(?i)SUBJECT: one"},
    {"to": ""},
    {"subject": ""},
    {"to": "../etc", "matching": "."},
]


def test_the_same_criteria_find_the_same_messages_as_in_python(
    filled: Path, api: TestClient
) -> None:
    inbox = Inbox(filled)
    for criteria in CRITERIA:
        found: Any = criteria
        ids = [message.envelope.id for message in inbox.messages(**found)]
        records = api.get("/api/messages", params=criteria).json()
        assert [record["id"] for record in records] == ids[::-1], criteria
        latest = api.get("/api/messages/latest", params=criteria)
        if ids:
            assert latest.json()["id"] == ids[-1]
        else:
            assert latest.status_code == 404


def test_a_record_is_that_of_json_lines(tmp_path: Path) -> None:
    store = tmp_path / "mail.jsonl"
    with catching(store, "JsonLines") as catcher:
        for content, to in LETTERS:
            deliver(catcher, content, to)
    lines = [json.loads(line) for line in store.read_text().splitlines()]
    with client_of(store) as api:
        assert api.get("/api/messages").json() == lines[::-1]
        single = api.get(f"/api/messages/{lines[1]['id']}").json()
    assert list(single)[-1] == "problems"
    assert single.pop("problems")
    assert single == lines[1]


def test_a_single_message_has_its_problems(tmp_path: Path) -> None:
    name = store_directly(tmp_path / "inbox", b"From: eva@localhost\r\n\r\nHello\r\n")
    expected = [each.to_dict() for each in Inbox(tmp_path / "inbox").latest().problems()]
    assert [each["name"] for each in expected] == ["no-date", "no-message-id", "from-nowhere"]
    with client_of(tmp_path / "inbox") as client:
        for path in (name, "latest"):
            assert client.get(f"/api/messages/{path}").json()["problems"] == expected
        (listed,) = client.get("/api/messages").json()
        assert "problems" not in listed


def test_each_message_is_found_by_its_id_and_given_back_exactly(
    filled: Path, api: TestClient
) -> None:
    for message in Inbox(filled).messages():
        at = f"/api/messages/{message.envelope.id}"
        assert api.get(at).json()["id"] == message.envelope.id
        source = api.get(f"{at}/source")
        assert source.content == message.original_content
        assert source.headers["content-disposition"].startswith("attachment;")
        assert api.get(f"{at}/text").text == message.text
        assert api.get(f"{at}/html").text == message.page()


def test_a_page_of_the_list_ends_where_the_next_begins(tmp_path: Path) -> None:
    for kind in KINDS[1:]:
        store = tmp_path / kind.store
        with catching(store, kind.handler) as catcher:
            for number in range(5):
                deliver(catcher, f"Subject: {number}\r\n\r\n", [f"u{number}@example.com"])
        with client_of(store) as api:
            subjects: list[str] = []
            before = ""
            while records := api.get(
                "/api/messages", params={"limit": 2, "before": before}
            ).json():
                subjects += [record["subject"] for record in records]
                before = records[-1]["id"]
        assert subjects == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize("criteria", [each for each in CRITERIA if each])
def test_the_same_messages_are_removed_as_found(
    filled: Path, api: TestClient, criteria: dict[str, str]
) -> None:
    there = [record["id"] for record in api.get("/api/messages").json()]
    found = [r["id"] for r in api.get("/api/messages", params=criteria).json()]
    assert api.delete("/api/messages", params=criteria).status_code == 204
    left = [record["id"] for record in api.get("/api/messages").json()]
    assert left == [name for name in there if name not in found]
    assert len(Inbox(filled)) == len(left)


def test_one_message_is_removed_by_its_id(filled: Path, api: TestClient) -> None:
    names = [record["id"] for record in api.get("/api/messages").json()]
    while names:
        gone = names.pop(len(names) // 2)
        assert api.delete(f"/api/messages/{gone}").status_code == 204
        assert [record["id"] for record in api.get("/api/messages").json()] == names
        assert api.get(f"/api/messages/{gone}").status_code == 404
        assert api.delete(f"/api/messages/{gone}").status_code == 404


def test_messages_of_other_programs_are_removed_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "mail.mbox"
    path.write_bytes(b"From e@x Sat Nov 21 08:48:00 2026\nSubject: a\n\nx\n\n" * 2)
    with path.open("ab") as file:
        file.write(b"From e@x Sat Nov 21 08:48:00 2026\nSubject: b\n\nx\n\n")
    with client_of(path) as api:
        newest = api.get("/api/messages/latest").json()["id"]
        assert api.delete(f"/api/messages/{newest}").status_code == 204
        first = api.get("/api/messages/latest").json()["id"]
        assert api.delete(f"/api/messages/{first}").status_code == 204
        assert [record["subject"] for record in api.get("/api/messages").json()] == ["a"]


def test_a_pattern_that_takes_too_long_removes_nothing(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    for content in (LETTERS[0][0], HOOK):
        store_directly(store, content)
    with client_of(store) as api:
        assert api.delete("/api/messages", params={"matching": EVIL}).status_code == 422
    assert len(Inbox(store)) == 2


def test_what_can_not_be_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "mail.jsonl"
    with catching(store, "JsonLines") as catcher:
        deliver(catcher, LETTERS[0][0])

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)

    with client_of(store) as api, monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        answer = api.delete("/api/messages", params={"subject": "one"})
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith(": No space left on device")
    assert len(Inbox(store)) == 1


def test_a_file_that_fails_while_it_is_read_has_no_name(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Mailbox, name: str) -> StoredMessage:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Mailbox, "get", fail)
    with client_of(store) as api:
        answer = api.get("/api/messages/x")
    assert (answer.status_code, answer.json()["detail"]) == (503, os.strerror(errno.EIO))


def test_only_what_came_after_counts(kind: Kind, store: Path) -> None:
    with catching(store, kind.handler) as catcher, client_of(store) as api:
        deliver(catcher, "Subject: old\r\n\r\n", ["bob@example.com"])
        deliver(catcher, "Subject: newest\r\n\r\n", ["dora@example.com"])
        after = api.get("/api/messages/latest").json()["id"]
        for criteria in ({}, {"to": "bob@example.com"}):
            params = {"after": after, **criteria}
            assert api.get("/api/messages", params=params).json() == []
            answer = api.get("/api/messages/latest", params=params)
            assert answer.status_code == 404
            assert f"after {after} count" in answer.json()["detail"]
        deliver(catcher, "Subject: new\r\n\r\n", ["bob@example.com"])
        found = api.get("/api/messages", params={"after": after, "to": "bob@example.com"})
        assert [record["subject"] for record in found.json()] == ["new"]


def test_after_a_message_that_was_cleared_since(kind: Kind, store: Path) -> None:
    with catching(store, kind.handler) as catcher, client_of(store) as api:
        deliver(catcher, "Subject: first\r\n\r\n")
        after = api.get("/api/messages/latest").json()["id"]
        assert api.delete("/api/messages").status_code == 204
        assert api.get("/api/messages").json() == []
        assert api.get("/api/messages", params={"after": after}).json() == []
        deliver(catcher, "Subject: second\r\n\r\n")
        found = api.get("/api/messages", params={"after": after}).json()
        assert [record["subject"] for record in found] == ["second"]


@pytest.mark.parametrize("parameter", ["after", "before"])
def test_an_id_that_nobody_has_finds_nothing_by_chance(api: TestClient, parameter: str) -> None:
    answer = api.get("/api/messages", params={parameter: "undefined"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "no message has the id 'undefined'"


def test_a_wait_ends_with_the_message(kind: Kind, store: Path) -> None:
    with catching(store, kind.handler) as catcher, Web(store) as web:
        deliver(catcher, "Subject: old\r\n\r\n", ["bob@example.com"])
        after = get(f"{web.url}/api/messages/latest").json()["id"]
        answers: list[httpx.Response] = []

        def wait() -> None:
            params = {"to": "bob@example.com", "after": after, "timeout": "30"}
            url = f"{web.url}/api/messages/latest"
            answers.append(get(url, params=params))

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: connections(web) > 0)
        deliver(catcher, "Subject: other\r\n\r\n", ["carol@example.com"])
        deliver(catcher, "Subject: new\r\n\r\n", ["bob@example.com"])
        waiting.join()
    assert answers[0].json()["subject"] == "new"


def connections(web: Web) -> int:
    """Return how many clients are connected."""
    wanted = f"0100007F:{web.port:04X}"
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1] == wanted and line.split()[3] == "01" for line in table)


def test_a_wait_in_vain_tells_what_came_instead(api: TestClient) -> None:
    params = {"to": "bob@example.com", "subject": "Welcome", "timeout": 0.1}
    answer = api.get("/api/messages/latest", params=params)
    assert answer.status_code == 404
    problem = answer.json()
    assert problem["title"] == "Not Found"
    assert "in 0.1 s; the nearest misses:\n  to bob@example.com: 'bounce'" in problem["detail"]


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"timeout": 61}, "timeout"),
        ({"timeout": "nan"}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": ""}, "timeout"),
        ({"matching": "("}, "matching"),
        ({"matching": "x" * 1001}, "matching"),
    ],
)
def test_a_parameter_that_is_none(
    tmp_path: Path, params: dict[str, Any], parameter: str
) -> None:
    with client_of(tmp_path / "inbox") as api:
        answer = api.get("/api/messages/latest", params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/messages?recipient=x"),
        ("GET", "/api/messages?To=x"),
        ("GET", "/api/messages?to=x&to=y"),
        ("GET", "/api/messages/latest?recipient=x"),
        ("GET", "/api/messages/latest?limit=1"),
        ("GET", "/api/messages/latest?where"),
        ("GET", "/api/messages/{id}?to=x"),
        ("GET", "/api/messages/{id}/html?remot=true"),
        ("GET", "/api/messages/{id}/text?x"),
        ("GET", "/api/messages/{id}/source?x="),
        ("GET", "/api/messages/{id}/attachments/0?x=1"),
        ("GET", "/api/events?after=x"),
        ("DELETE", "/api/messages?recipient=x"),
        ("DELETE", "/api/messages?after=x"),
        ("DELETE", "/api/messages/{id}?to=x"),
        ("GET", "/?to=bob"),
        ("GET", "/rows?to=bob"),
        ("GET", "/messages/{id}?page=2"),
        ("GET", "/arrivals?subject=x"),
        ("POST", "/clear?q=x"),
        ("POST", "/messages/{id}/delete?to=x"),
    ],
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, method: str, path: str) -> None:
    store = tmp_path / "inbox"
    name = store_directly(store, LETTERS[0][0])
    with client_of(store) as api:
        answer = api.request(method, path.format(id=name))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["parameter"] in path
    assert "no such parameter here: " in error["detail"] or "more than once" in error["detail"]
    assert len(Inbox(store)) == 1


def test_attachments_are_files_and_never_pages(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["Subject"] = "files"
    mail.set_content("see below")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
    page = b"<script>alert(1)</script>"
    mail.add_attachment(
        page, maintype="text", subtype="html", filename='..\\x/"\r\n\u202egpj.htm'
    )
    with catching(tmp_path / "inbox") as catcher, client_of(tmp_path / "inbox") as api:
        deliver(catcher, mail.as_bytes())
        at = f"/api/messages/{api.get('/api/messages/latest').json()['id']}/attachments"
        pdf, html = api.get(f"{at}/0"), api.get(f"{at}/1")
        missing = api.get(f"{at}/2")
    assert (pdf.content, pdf.headers["content-type"]) == (b"%PDF", "application/pdf")
    assert html.content == page
    assert html.headers["content-type"] == "application/octet-stream"
    for answer in (pdf, html):
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
    assert "\u202e" not in html.headers["content-disposition"]
    assert missing.status_code == 404


def test_events_bring_each_message_once_and_what_was_missed(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    with catching(store) as catcher, Web(store) as web:
        deliver(catcher, "Subject: seen\r\n\r\n")
        seen = get(f"{web.url}/api/messages/latest").json()["id"]
        deliver(catcher, "Subject: missed\r\n\r\n")
        subjects = []
        headers = {"Last-Event-ID": seen}
        with httpx.stream(
            "GET", f"{web.url}/api/events", headers=headers, timeout=PATIENCE
        ) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            for line in events.iter_lines():
                if line.startswith("data:"):
                    subjects.append(json.loads(line[5:])["subject"])
                    if len(subjects) == 3:
                        break
                    deliver(catcher, f"Subject: {len(subjects)}\r\n\r\n")
        assert web.stop() == 0
    assert subjects == ["missed", "1", "2"]


@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda kind: kind.handler)
def test_an_event_for_what_came_right_before_a_rotation(kind: Kind, store: Path) -> None:
    seen, missed = (raw_mail(b"Subject: %b\r\n\r\n" % word) for word in (b"seen", b"missed"))
    put(kind.handler, store, seen, missed)
    put(kind.handler, store.with_name("other"), raw_mail(b"Subject: last\r\n\r\n"))
    last = store.with_name("other").read_bytes()
    headers = {"Last-Event-ID": seen.envelope.id}
    subjects = []
    deadline = time.monotonic() + PATIENCE
    with (
        Web(store) as web,
        httpx.stream(
            "GET", f"{web.url}/api/events", headers=headers, timeout=PATIENCE
        ) as events,
    ):
        # Comments, which keep the connection, come all the time.
        for line in takewhile(lambda _: time.monotonic() < deadline, events.iter_lines()):
            if line.startswith("data:"):
                subjects.append(json.loads(line[5:])["subject"])
                if len(subjects) == 2:
                    break
                with store.open("ab") as file:
                    file.write(last)
                store.rename(f"{store}.1")
    assert subjects == ["missed", "last"]


def test_messages_of_other_programs_have_ids_of_their_own(tmp_path: Path) -> None:
    mbox = tmp_path / "archive.mbox"
    entries = (
        f"From eva@example.com Sat Nov 21 08:48:0{n} 2026\nSubject: {n}\n\nhello {n}\n\n"
        for n in range(3)
    )
    mbox.write_text("".join(entries))
    maildir = tmp_path / "Maildir"
    for folder in ("new", "cur", "tmp"):
        (maildir / folder).mkdir(parents=True)
    for n in range(3):
        name = f"176371488{n}.V1I{n}.caf\udce9:2,S" if n else "1763714880.plain"
        (maildir / "cur" / name).write_text(f"Subject: {n}\n\nhello {n}\n")
    for store in (mbox, maildir):
        with client_of(store) as api:
            records = api.get("/api/messages").json()
            assert [record["subject"] for record in records] == ["2", "1", "0"]
            assert len({record["id"] for record in records}) == 3
            for record in records:
                single = api.get(f"/api/messages/{record['id']}").json()
                assert {name: single[name] for name in record} == record
            newer = api.get("/api/messages", params={"after": records[1]["id"]}).json()
            assert newer == records[:1]


@pytest.mark.parametrize("path", ["/api/messages", "/api/events", "/arrivals"])
def test_a_path_that_holds_something_else(tmp_path: Path, path: str) -> None:
    (tmp_path / "notes").write_text("these are my notes\n")
    with client_of(tmp_path / "notes") as api:
        answer = api.get(path)
    assert answer.status_code == 409
    assert "no mail file, mbox or JSON Lines" in answer.json()["detail"]


def test_content_that_is_no_text_is_given_in_base64(tmp_path: Path) -> None:
    content = b"Subject: \xff\r\n\r\n\xc3\x28\r\n"
    with catching(tmp_path / "inbox") as catcher, client_of(tmp_path / "inbox") as api:
        deliver(catcher, content)
        record = api.get("/api/messages/latest").json()
    assert base64.b64decode(record["raw_base64"]) == content
    assert record["raw"] is None


def test_a_message_of_a_catcher_is_there_at_once(mailcatcher: MailCatcher) -> None:
    with client_of(Path(mailcatcher.path)) as api:
        for number in range(20):
            deliver(mailcatcher, f"Subject: {number}\r\n\r\n")
            assert api.get("/api/messages/latest").json()["subject"] == str(number)
    assert isinstance(mailcatcher.latest(), StoredMessage)


def test_an_error_of_ours_is_told_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("mailhandlers.web.mailbox.Mailbox.get", broken)
    app = create_app(tmp_path / "inbox")
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as api:
        answer = api.get("/api/messages/1")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "mistake" not in answer.text
    assert "a mistake" in caplog.text


def test_a_record_has_what_its_description_names(tmp_path: Path) -> None:
    name = store_directly(tmp_path / "inbox", LETTERS[0][0])
    with client_of(tmp_path / "inbox") as api:
        record = api.get(f"/api/messages/{name}").json()
        assert list(record.pop("problems")[0]) == ["name", "text", "source", "url"]
        described = api.get("/api/openapi.json").json()["components"]["schemas"]["Message"]
    assert list(record) == described["required"] == list(described["properties"])
