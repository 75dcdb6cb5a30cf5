"""What a message must be to be found."""

from __future__ import annotations

import dataclasses
import re
import smtplib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cases import case
from posting import Post, subjects
from support import Kind
from test_envelope import EXAMPLE

from mailhandlers import Inbox, MailCatcher, NoMessageError, PerRecipientDir, StoredMessage
from mailhandlers.inbox.criteria import Criteria
from mailhandlers.mail import Mail


def test_criteria(kind: Kind, inbox: Inbox, post: Post) -> None:
    criteria: dict[str, list[Any]] = {
        "to": ["bob@example.com", "BOB@example.COM"],
        "mail_from": ["eva@example.com", "Eva@Example.com"],
        "subject": ["Grüße 4711", re.compile("4711$"), re.compile("^gr", re.IGNORECASE)],
        "matching": ["Subject: Grüße", "C.de 482913", re.compile("CODE", re.IGNORECASE)],
        "where": [lambda message: message.codes == ["482913"]],
    }
    post("other", to="carol@example.com", sender="dan@example.com")
    post("=?utf-8?q?Gr=C3=BC=C3=9Fe_4711?=", body="Code 482913")
    for name, values in criteria.items():
        for value in values:
            assert inbox.latest(**{name: value})["Subject"] == "Grüße 4711", name
            assert subjects(inbox.messages(**{name: value})) == ["Grüße 4711"], name
    assert inbox.messages(subject="Grüße") == []
    assert inbox.messages(to="carol@example.com", mail_from="eva@example.com") == []
    if kind.keeps_all:
        assert inbox.latest(to="carol@example.com")["Subject"] == "other"


def test_what_arrived_since_a_message(kind: Kind, inbox: Inbox, post: Post) -> None:
    post("one")
    first = inbox.latest().envelope.id
    assert inbox.messages(since=first) == []
    with pytest.raises(NoMessageError, match=f"since='{re.escape(first)}'"):
        inbox.latest(since=first)
    post("two")
    post("three")
    assert subjects(inbox.messages(since=first)) == ["two", "three"][not kind.keeps_all :]
    assert inbox.latest(since=first)["Subject"] == "three"
    inbox.clear()
    post("four")
    assert subjects(inbox.messages(since=first)) == ["four"]


def test_since_counts_the_moments_of_ids() -> None:
    def arrived(name: str, since: str, second: int = 0) -> bool:
        received = datetime.fromtimestamp(second, timezone.utc)
        envelope = dataclasses.replace(EXAMPLE, id=name, received=received)
        return Criteria(since=since).allow(Mail(envelope, b""))

    mark = "1700000000.M000007P1Q000001.host"
    for later in ("1700000000.M000008P1Q000001.host", "1700000000.M000007P1Q000002.host"):
        assert arrived(later, mark)
        assert not arrived(mark, later)
    assert not arrived(mark, mark)
    # Of other programs: a Maildir's file with flags, and an mbox without ids.
    assert not arrived("1700000000.V8I1.host:2,S", "1700000000.V8I1.host", 1800000000)
    assert arrived("1700000001.V8I1.host:2,S", "1700000000.V8I1.host:2,", 1)
    assert arrived("", mark, 1700000001)
    assert not arrived("", mark, 1700000000)


def test_an_envelope_is_not_searched(inbox: Inbox, post: Post) -> None:
    post(body="no digits")
    assert inbox.messages(matching=r"\d{4}") == []
    assert inbox.messages(matching="Return-Path|X-") == []


@pytest.mark.parametrize(
    ("criteria", "text"),
    [
        ({"too": "x"}, "there is no criterion 'too': choose from to, mail_from, subject"),
        ({"to": re.compile("x")}, "the criterion 'to' can't be re.compile"),
        ({"to": ["bob@x"]}, "the criterion 'to' can't be ['bob@x']"),
        ({"mail_from": b"x"}, "the criterion 'mail_from' can't be b'x'"),
        ({"subject": 1}, "the criterion 'subject' can't be 1"),
        ({"subject": re.compile(b"x")}, "the criterion 'subject' can't be re.compile"),
        ({"where": "x"}, "the criterion 'where' is a function, not 'x'"),
        ({"since": 1}, "the criterion 'since' can't be 1"),
    ],
)
def test_misuse_is_told_at_once(tmp_path: Path, criteria: Any, text: str) -> None:
    inbox = Inbox(tmp_path / "none")
    for call in (inbox.latest, inbox.messages, inbox.expect, inbox.expect_none):
        with pytest.raises(TypeError, match=re.escape(text)):
            call(**criteria)
    with pytest.raises(re.error):
        inbox.messages(matching="(")


def found(message: StoredMessage, pattern: str) -> bool:
    return Criteria(matching=pattern).match(message)


def test_what_is_searched_is_what_is_read() -> None:
    message = case("search-html-entities")
    for words in ("Grüße", "order 4711", "zebra", "^Schöne Grüße, order 4711, zebra$"):
        assert found(message, words), words
    for words in ("uuml", "nbsp", "<p>", "<b>"):
        assert not found(message, words), words


def test_each_form_of_the_text_is_searched_and_names_of_files() -> None:
    message = StoredMessage.parse(
        b"Subject: =?utf-8?q?caf=C3=A9?=\nContent-Type: multipart/mixed; boundary=a\n\n--a\n"
        b"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\xc2\xa0text\n--b\n"
        b"Content-Type: text/html\n\n<p>ht&shy;ml&#8203; text\n--b--\n--a\n\nbar 42\n--a\n"
        b"Content-Disposition: attachment; filename*=utf-8''caf%C3%A9.pdf\n\nsecret\n--a--\n"
    )
    for pattern in ("^Subject: café$", "^plain text$", "^html text$", "^bar 42$", "^café.pdf$"):
        assert found(message, pattern), message.searched_text
    assert not found(message, "secret")
    # What is compiled has the flags that it was compiled with.
    assert not Criteria(matching=re.compile("^bar 42$")).match(message)
    # For a terminal the plain text is enough.
    assert message.shown_text == "plain\xa0text\nbar 42"


@pytest.mark.parametrize(
    ("asked", "recipient"),
    [
        ("bob@münchen.example", "bob@xn--mnchen-3ya.example"),
        ("bob@xn--mnchen-3ya.example", "bob@münchen.example"),
        ("BOB@MÜNCHEN.example", "bob@XN--MNCHEN-3YA.example"),
        ("bob@mu\u0308nchen.example", "bob@münchen.example"),
        ("bob@straße.example", "bob@xn--strae-oqa.example"),
        ("bob@xn--a.example", "bob@XN--a.example"),
    ],
)
def test_a_domain_in_unicode_or_in_punycode(asked: str, recipient: str) -> None:
    envelope = dataclasses.replace(EXAMPLE, rcpt_tos=["eva@x.test", recipient])
    assert Criteria(to=asked).allow(Mail(envelope, b""))
    assert not Criteria(to=f"a{asked}").allow(Mail(envelope, b""))
    sent = dataclasses.replace(EXAMPLE, mail_from=recipient)
    assert Criteria(mail_from=asked).allow(Mail(sent, b""))
    to = f"To: eva@x.test, {asked}\n\n".encode()
    assert StoredMessage.parse(to, envelope).bcc == []


def test_a_recipient_whose_folder_is_in_punycode(tmp_path: Path) -> None:
    with MailCatcher(PerRecipientDir(tmp_path / "people")) as inbox:
        with smtplib.SMTP(inbox.host, inbox.port) as smtp:
            smtp.sendmail("a@x", ["b@xn--mnchen-3ya.example", "c@x"], "Subject: x\n\n")
        assert inbox.latest(to="b@münchen.example")["Subject"] == "x"
        assert inbox.latest(to="b@xn--mnchen-3ya.example")["Subject"] == "x"
        assert inbox.messages(to="d@münchen.example") == []


def test_an_id_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="since='yesterday' is no id of a message"):
        Inbox(tmp_path / "inbox").messages(since="yesterday")
