"""What a message must be to be found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from posting import Post, subjects
from support import Kind

from mailhandlers import Inbox


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
    ],
)
def test_misuse_is_told_at_once(tmp_path: Path, criteria: Any, text: str) -> None:
    inbox = Inbox(tmp_path / "none")
    for call in (inbox.latest, inbox.messages, inbox.expect, inbox.expect_none):
        with pytest.raises(TypeError, match=re.escape(text)):
            call(**criteria)
    with pytest.raises(re.error):
        inbox.messages(matching="(")
