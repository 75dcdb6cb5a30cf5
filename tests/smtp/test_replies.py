"""Replies as text, and how those of a list are counted."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.main import parseargs
from hypothesis import assume, given
from hypothesis import strategies as st

from mailhandlers import Reply
from mailhandlers.smtp.replies import Replies


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("RCPT: 550 No", Reply("RCPT", "550 No")),
        ("rcpt x2: 450 Busy", Reply("RCPT", "450 Busy", times=2)),
        ("RCPT *@bounce.test: 550 No", Reply("RCPT", "550 No", match="*@bounce.test")),
        ("MAIL a@b x3: 451 4.7.1 G", Reply("MAIL", "451 4.7.1 G", match="a@b", times=3)),
        ("RCPT x1 x2: 550 No", Reply("RCPT", "550 No", match="x1", times=2)),
        (
            "RCPT a@[[]IPv6:::1]: 550 a: 551 b",
            Reply("RCPT", "550 a: 551 b", match="a@[[]IPv6:::1]"),
        ),
        ('RCPT "a b"@c: 550 No', Reply("RCPT", "550 No", match='"a b"@c')),
        ("MAIL <>: 550 No", Reply("MAIL", "550 No", match="<>")),
        ("DATA x1: 451", Reply("DATA", "451", times=1)),
        ("RCPT x2+: 450 Busy", Reply("RCPT", "450 Busy", first=2)),
        ("RCPT *@b x2+ delay=0.5: 450", Reply("RCPT", "450", "*@b", delay=0.5, first=2)),
        ("EHLO delay=2:", Reply("EHLO", delay=2)),
        ("DATA: hang-up", Reply("DATA", hang_up=True)),
        ("DATA amid x1:hang-up", Reply("DATA", match="amid", hang_up=True, times=1)),
        ("DATA before: 554 No", Reply("DATA", "554 No", match="before")),
        ("MAIL: 451 4.3.0 a; b;hang-up", Reply("MAIL", "451 4.3.0 a; b", hang_up=True)),
        ("MAIL: 451; hang-up", Reply("MAIL", "451", hang_up=True)),
        ("RCPT: 550 hang-up", Reply("RCPT", "550 hang-up")),
        (r"CONNECT: 554 No\nGo away", Reply("CONNECT", "554 No\nGo away")),
        ("STARTTLS: 454 4.7.0 No", Reply("STARTTLS", "454 4.7.0 No")),
        ("EHLO  lap* :  250 Hi", Reply("EHLO", "250 Hi", match="lap*")),
    ],
)
def test_a_reply_is_read_from_text(text: str, reply: Reply) -> None:
    assert Reply.parse(text) == reply


@pytest.mark.parametrize(
    "text",
    [
        *("", "RCPT", "RCPT 550 No", "550 No", ": 550 No", "RCPT:", "RCPT: No", "RCPT: 55 No"),
        *("RCPT: 5500 No", "RCPT x0: 550 No", "DATA a@b: 550 No"),
        *("RCPT: 350 Go on", "RCPT: 150 Wait", "RCPT: 599 No", "RCPT: 550 Ü", "AUTH: 235 Yes"),
        *("RCPT: 250 a\tb", "CONNECT: 250 Hi", "STARTTLS: 220 Go", "DATA amid: 451 No"),
        *("DATA before: 250 OK", "RCPT x0+: 550 No", "RCPT delay=x: 550 No", "QUIT a: 221 Bye"),
        *("RCPT delay=-1: 550 No", "RCPT delay=inf: 550 No", "CONNECT: 354 Hi"),
        *("RCPT: 550 a\nb", "RCPT: 550 a\r", "RCPT x99999999999999999999 550"),
    ],
)
def test_misuse_ends_in_an_example(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-c", "mailhandlers.MailFile", str(tmp_path / "latest.mail"), f"reply={text}"]
    with pytest.raises(SystemExit) as caught:
        parseargs(arguments)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "RCPT *@bounce.test: 550 5.1.1 No such user" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "parts",
    [
        {"verb": 250},
        {"text": 550},
        {"text": None},
        {"match": re.compile("a@b")},
        {"times": 1.5},
        {"times": "2"},
        {"times": True},
        {"delay": "1"},
        {"delay": False},
        {"hang_up": "no"},
        {"first": 1.5},
    ],
)
def test_a_part_of_another_type_is_a_mistake(parts: dict[str, Any]) -> None:
    (name,) = parts
    with pytest.raises(TypeError, match=f"^{name} is .*, not "):
        Reply(**{"verb": "RCPT", "text": "550 No"} | parts)


@given(
    st.sampled_from(["MAIL", "RCPT", "VRFY", "EHLO", "HELO", "NOOP"]),
    st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.none() | st.integers(1, 10**6),
    st.integers(200, 299) | st.integers(400, 559),
    st.text(st.characters(min_codepoint=33, max_codepoint=126)),
)
def test_what_is_written_is_read(
    verb: str, match: str | None, times: int | None, code: int, words: str
) -> None:
    assume(code % 100 < 60)  # else it is no code of SMTP
    assume(not (match or "").startswith("x") and ":" not in (match or ""))
    glob = "" if match is None else f" {match}"
    count = "" if times is None else f" x{times}"
    text = f"{code} {words}".rstrip()
    assert Reply.parse(f"{verb}{glob}{count}: {text}") == Reply(verb, text, match, times)


def test_equal_replies_are_added_and_taken_away_each_by_itself() -> None:
    replies, later = Replies([]), Reply("NOOP", "450 Later")
    with replies.add([later]):
        with replies.add([later]):
            assert replies.unused == [later, later]
        assert replies.next("NOOP", None) is later
    assert replies.next("NOOP", None) is None


def test_replies_are_counted_by_many_threads_at_once() -> None:
    replies = Replies([Reply("NOOP", "450 Later", times=100)])
    said: list[Reply | None] = []

    def ask() -> None:
        with replies.add([Reply("NOOP", "451 First", times=1)]):
            said.extend(replies.next("NOOP", None) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 400
    assert sum(reply is not None and reply.text == "450 Later" for reply in said) == 100
    assert replies.verbs == {"NOOP"}
