"""What a message must be to be the one that a test looks for."""

from __future__ import annotations

import dataclasses
import re
import smtplib
from pathlib import Path

import pytest
from cases import case
from test_envelope import EXAMPLE

from mailhandlers import MailCatcher, PerRecipientDir, StoredMessage
from mailhandlers.inbox.criteria import Criteria
from mailhandlers.mail import Mail


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
