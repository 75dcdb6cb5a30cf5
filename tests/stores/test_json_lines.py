"""JSON Lines: each line gives back what was stored, whatever is in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import mails
from support import entries, json_line
from test_envelope import EXAMPLE

from mailhandlers.block import FormatError
from mailhandlers.mail import Mail
from mailhandlers.message.message import StoredMessage
from mailhandlers.stores import json_lines
from mailhandlers.stores.json_lines import JsonLinesStore


@given(mails())
def test_a_json_line_gives_back_envelope_and_content(mail: Mail) -> None:
    assert json_lines.decode(json_line(mail)) == mail


@given(mails())
def test_a_json_line_is_one_line_for_everybody(mail: Mail) -> None:
    text = json_line(mail).decode()
    assert text.splitlines() == [text[:-1]]
    assert not re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text[:-1])
    assert text.endswith("}\n")


@given(mails())
def test_a_json_line_has_the_documented_keys_in_order(mail: Mail) -> None:
    record = json.loads(json_line(mail))
    assert (record["raw"] is None) is (record["raw_base64"] is not None)
    assert (record["raw"] is not None) is is_text(mail.content)
    assert list(record) == [
        *("id", "received", "peer", "helo", "protocol", "tls", "auth", "mail_from"),
        *("mail_options", "rcpt_tos", "subject", "from", "to", "cc", "date", "message_id"),
        *("headers", "text", "html", "links", "codes", "attachments", "size", "sha256"),
        *("raw", "raw_base64"),
    ]


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_what_cant_be_parsed_is_null_and_the_line_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("an error that nobody foresaw")

    monkeypatch.setattr(StoredMessage, "parse", fails)
    mail = Mail(replace(EXAMPLE, size=3), b"a\r\n")
    record = json.loads(b"".join(json_lines._lines([mail])))
    assert record["raw"] == "a\r\n"
    assert record["subject"] is record["text"] is record["attachments"] is None
    assert "its line has its octets only" in caplog.text


def test_a_json_line_tells_what_the_message_says() -> None:
    content = (
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: Eva <eva@example.com>\r\n"
        b"To: bob@example.com\r\nDate: Mon, 21 Nov 2026 08:48:00 +0100\r\nX-Y: 1\r\nX-Y: 2\r\n"
        b"Message-ID: <1@x>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\nHello 482913 http://a.test/\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<b>Hi</b>\r\n"
        b"--b\r\nContent-Type: application/pdf\r\n"
        b"Content-Disposition: attachment; filename=a.pdf\r\n\r\n12345\r\n--b--\r\n"
    )
    record = json.loads(json_line(Mail(replace(EXAMPLE, size=len(content)), content)))
    assert {key: record[key] for key in ("subject", "from", "to", "cc", "date")} == {
        "subject": "Grüße",
        "from": "Eva <eva@example.com>",
        "to": "bob@example.com",
        "cc": None,
        "date": "2026-11-21T08:48:00+01:00",
    }
    assert record["headers"][4:6] == [["X-Y", "1"], ["X-Y", "2"]]
    assert record["message_id"] == "<1@x>"
    assert (record["text"].strip(), record["html"].strip()) == (
        "Hello 482913 http://a.test/",
        "<b>Hi</b>",
    )
    assert (record["links"], record["codes"]) == (["http://a.test/"], ["482913"])
    assert record["attachments"] == [
        {"filename": "a.pdf", "content_type": "application/pdf", "size": 5}
    ]
    assert record["raw"] == content.decode()


@given(st.binary() | st.sampled_from([b"{}", b"[]", b"null", b"[" * 100_000]))
def test_other_lines_are_format_errors(line: bytes) -> None:
    with pytest.raises(FormatError):
        json_lines.decode(line)


@given(st.lists(mails(), max_size=4))
def test_a_file_of_lines_splits_at_its_line_ends(some: list[Mail]) -> None:
    lines = [json_line(mail) for mail in some]
    ends = list(accumulate(map(len, lines)))
    data = b"".join(lines)
    assert entries(data, JsonLinesStore) == lines
    assert all(data[end - 1 : end] == b"\n" for end in ends)


def test_a_long_json_line_is_written_like_a_short_one() -> None:
    line = json_line(Mail(EXAMPLE, b"Subject: long\r\n\r\n" + 99_999 * b"x"))
    assert line == json.dumps(json.loads(line), ensure_ascii=False).encode() + b"\n"
