"""What a line of JSON Lines costs: no message keeps other senders waiting for long."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import JSON_LINES, Server

from mailhandlers import StoredMessage, read_messages
from mailhandlers.mail import UNKNOWN, Mail
from mailhandlers.message.budget import LINE, Budget
from mailhandlers.message.record import KEYS
from mailhandlers.stores.json_lines import JsonLinesStore

OF_HEADERS = {"subject", "headers"}
OF_TEXTS = {"text", "html", "links", "codes"}
OVER = LINE + 1


def line_of(content: bytes) -> Iterable[bytes]:
    mail = Mail(replace(UNKNOWN, size=len(content)), content)
    return JsonLinesStore("mail.jsonl").encode([mail])


def record(content: bytes) -> dict[str, Any]:
    """Return what the line of a message holds."""
    line = b"".join(line_of(content))
    loaded: dict[str, Any] = json.loads(line)
    assert set(KEYS) <= set(loaded)
    raw, coded = loaded["raw"], loaded["raw_base64"]
    assert content == (base64.b64decode(coded) if raw is None else raw.encode())
    return loaded


def told(loaded: dict[str, Any]) -> set[str]:
    return {key for key in KEYS if loaded[key] is not None}


def parts(*some: str) -> bytes:
    head = "Subject: hello\nContent-Type: multipart/mixed; boundary=b\n\n"
    return (head + "".join(f"--b\n{part}\n" for part in some) + "--b--\n").encode()


PLAIN = "Content-Type: text/plain\n\nThe code is 4711, see https://e.test/\n"
FILE = "Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n"


def test_mail_with_large_attachments_is_within_the_budget() -> None:
    data = bytes(20_000_000)
    html = "Content-Type: text/html\n\n" + "<p>All work and no play.</p>\n" * 10_000
    loaded = record(parts(PLAIN, html, FILE + base64.encodebytes(data).decode(), PLAIN))
    assert told(loaded) == OF_HEADERS | OF_TEXTS | {"attachments"}
    assert (loaded["codes"], loaded["links"]) == (["4711"], ["https://e.test/"])
    assert loaded["attachments"] == [
        {"filename": "a.pdf", "content_type": "application/pdf", "size": len(data)}
    ]


def test_text_over_the_budget_is_null_and_the_rest_is_told() -> None:
    loaded = record(parts(PLAIN, "\n" + "x" * OVER, FILE + "AAAA"))
    assert told(loaded) == OF_HEADERS | {"attachments"}
    assert loaded["subject"] == "hello"
    assert loaded["attachments"][0]["size"] == 3


def test_headers_over_the_budget_are_null_and_so_is_all() -> None:
    assert told(record(b"Subject: hello\nX: " + b"x" * OVER + b"\n\nhello\n")) == set()


@pytest.mark.parametrize(
    "content",
    [
        parts(PLAIN, "X: " + "x" * OVER + "\n\nhello"),
        parts(PLAIN, "--bb\n" * OVER),
        parts("Content-Type: message/rfc822\n\nX: " + "x" * OVER + "\n\nhello"),
    ],
)
def test_a_structure_over_the_budget_tells_of_no_part(content: bytes) -> None:
    assert told(record(content)) == OF_HEADERS


@pytest.mark.parametrize(
    "part",
    [
        "Content-Type: message/rfc822\n\n\n" + "\n" * OVER,
        FILE + "A=" * OVER,
        "Content-Type: a/b\nContent-Transfer-Encoding: uuencode\n\nbegin 6 a\n" + "#\n" * OVER,
    ],
)
def test_an_attachment_over_the_budget_has_no_size(part: str) -> None:
    loaded = record(parts(PLAIN, part, FILE + "AAAA"))
    assert told(loaded) == OF_HEADERS | OF_TEXTS - {"html"} | {"attachments"}
    assert [each["size"] for each in loaded["attachments"]] == [None, 3]


def test_a_budget_is_one_of_octets_to_the_last_one() -> None:
    head = b"Subject: hello\n\n"
    fits = head + b"x" * (LINE - len(head) + 1)
    assert record(fits)["text"] == "x" * (LINE - len(head) + 1)
    assert record(fits + b"x")["text"] is None


def test_who_reads_has_no_budget() -> None:
    message = StoredMessage.parse(parts(PLAIN, "\n" + "x" * OVER, "X: " + "x" * OVER + "\n"))
    assert len(message.summary()["text"]) > OVER
    assert message.summary(Budget()) == message.summary()


def _nested() -> bytes:
    head = "Content-Type: multipart/mixed; boundary=%s\n\n--%s\n"
    return "".join(head % (("b" * n,) * 2) for n in range(48, 0, -1)).encode()


_HTML = b"Content-Type: text/html\n\n"
_UU = b"Content-Type: a/b\nContent-Transfer-Encoding: uuencode\n\nbegin 644 a\n"
# What is repeated, behind what, up to 32 MiB. SMTP's lines end in CRLF.
HOSTILE = {
    "headers": (b"", b"a:\r\n"),
    "header": (b"Subject: ", b" =?utf-8?q?=41?=\r\n"),
    "addresses": (b"To: ", b"a@,"),
    "parameters": (b"Content-Type: text/plain;", b","),
    "text": (b"Subject: x\r\n\r\n", b"https://e.test/ 4711 "),
    "tags": (_HTML, b"<a href=x:y>"),
    "marks": (_HTML, b"<"),
    "attributes": (_HTML + b"<p", b" a"),
    "references": (_HTML, b"&amp"),
    "parts": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"--b\r\n\r\n"),
    "part-headers": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"a:\r\n"),
    "delimiters": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"--b-\r\n"),
    "nested": (_nested(), b"--" + b"b" * 20 + b"x\r\n"),
    "message": (b"Content-Type: message/rfc822\r\n\r\n\r\n", b"\r\n"),
    "status": (b"Content-Type: message/delivery-status\r\n\r\n", b"a:b\r\n\r\n"),
    "uuencode": (_UU, b"#\r\n"),
    "base64": (FILE.encode(), b"A="),
    "flowed": (b"Content-Type: text/plain; format=flowed\r\n\r\n", b"> \r\n"),
    "deletes": (b"Subject: x\r\n\r\n", b"\x7f"),
    "controls": (b"Subject: x\r\n\r\n", "\x85\u4e2d\x7f".encode()),
    "octets": (b"Subject: x\r\n\r\n", b"\xff"),
}
OTHER = b"Subject: other\r\n\r\n"
# aiosmtpd itself reads 32 MiB of short lines for most of a minute.
LONG_LINES = ("text", "tags", "marks", "attributes", "base64", "deletes", "controls")
_HALF, _MOST = LINE - 2000, (32 << 20) - 2


def hostile(name: str, size: int) -> bytes:
    head, unit = HOSTILE[name]
    return head + unit * ((size - len(head)) // len(unit)) + b"\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("size", [_HALF // 2, _HALF, _MOST])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_line_takes_more_than_two_seconds_of_processor_time(name: str, size: int) -> None:
    content = hostile(name, size)
    begun = time.process_time()
    for _ in line_of(content):
        pass
    assert time.process_time() - begun < 2


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_LINES)
def test_who_sends_beside_a_hostile_message_waits_a_moment(name: str, tmp_path: Path) -> None:
    store = tmp_path / JSON_LINES.store
    content = hostile(name, _MOST)
    longest, sent = 0.0, 0
    with (
        Server(JSON_LINES.handler, store, "max_line=40000000", "sync=no") as server,
        server.client() as large,
        server.client() as other,
    ):
        large.submit(content)
        while large.is_silent(0):
            begun = time.monotonic()
            assert other.send(OTHER).startswith("250")
            longest = max(longest, time.monotonic() - begun)
            sent += 1
        assert large.reply().startswith("250")
    # Up to 2 s on a machine that does nothing else; without a budget up to 40 s.
    assert longest < 10
    received = [message.original_content for message in read_messages(store)]
    assert sorted(received) == sorted([content, *[OTHER] * sent])
