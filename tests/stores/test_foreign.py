"""Stores that other programs filled or changed: read all the same."""

from __future__ import annotations

import mailbox
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timezone
from email.message import EmailMessage
from pathlib import Path

import pytest
from cases import FOLDER
from support import PATIENCE, WINDOWS, Client, controlled
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import Inbox, read_latest, read_messages
from mailhandlers.mail import Mail
from mailhandlers.stores.mbox import quote_from

BODY = b"Hello\nFrom here\n>From there\n"
MESSAGE = (
    b"Return-Path: <eva@example.com>\nDelivered-To: bob@example.com\nReceived: by x\n"
    b"Subject: Gr\xc3\xbc\xc3\x9fe\nTo: list@example.com\n\n" + BODY
)


def test_a_maildir_of_the_standard_library(tmp_path: Path) -> None:
    box = mailbox.Maildir(str(tmp_path / "box"))
    box.colon = "!" if WINDOWS else ":"  # as its documentation has it
    box.add(MESSAGE)
    message = mailbox.MaildirMessage(b"Subject: seen\n\nBye\n")
    message.set_subdir("cur")
    message.set_flags("RS")
    box.add(message)
    box.close()
    assert sorted(m["Subject"] for m in Inbox(tmp_path / "box")) == ["Grüße", "seen"]
    got = read_latest(tmp_path / "box", to="BOB@example.com")
    assert got.original_content == MESSAGE.replace(b"\n", os.linesep.encode())
    assert got.envelope
    assert got.envelope.mail_from == "eva@example.com"
    assert got.envelope.rcpt_tos == got.bcc == ["bob@example.com"]
    assert got.envelope.size == len(got.original_content)
    assert abs(datetime.now(timezone.utc) - got.envelope.received).total_seconds() < 600
    assert read_latest(tmp_path / "box", subject="seen").envelope.protocol == ""


def test_an_mbox_of_the_standard_library(tmp_path: Path) -> None:
    box = mailbox.mbox(str(tmp_path / "box"))
    for content in (MESSAGE, b"Subject: second\n\nno end of line"):
        box.add(mailbox.mboxMessage(content))
    box.close()
    assert [m["Subject"] for m in Inbox(tmp_path / "box")] == ["Grüße", "second"]
    got = read_latest(tmp_path / "box", mail_from="eva@example.com")
    assert got.envelope
    assert got.envelope.rcpt_tos == ["bob@example.com"]
    assert got.text == BODY.decode().replace(">From there", "From there")
    with controlled(mailhandlers.MboxSink(tmp_path / "box", sync=False)) as controller:
        Client(controller.port).send()
    assert [m["Subject"] for m in Inbox(tmp_path / "box")] == ["Grüße", "second", "hello"]


def test_a_file_with_one_message(tmp_path: Path) -> None:
    path = tmp_path / "one.eml"
    path.write_bytes(MESSAGE.replace(b"\n", b"\r\n"))
    got = read_latest(path)
    assert got.original_content == MESSAGE.replace(b"\n", b"\r\n")
    assert got.text == BODY.decode()
    assert got.envelope
    assert [m.envelope for m in read_messages(tmp_path)] == [got.envelope]
    path.write_bytes(b"Subject: bare\n\n")
    assert read_latest(path).envelope.protocol == ""
    assert read_latest(path).bcc == []
    assert Inbox(path).messages(to="bob@example.com", mail_from="") == []


def test_a_folder_of_files(tmp_path: Path) -> None:
    for number, name in enumerate(["b.eml", "a.eml", "notes.txt"]):
        (tmp_path / name).write_bytes(b"Subject: %d\n\n" % number)
    assert sorted(m["Subject"] for m in Inbox(tmp_path)) == ["0", "1"]


@pytest.mark.parametrize(
    ("headers", "sender", "recipients"),
    [
        ("Return-Path: <>", "", []),
        ("Return-Path: <a@x>\nX-MailFrom: b@x\nX-RcptTo: c@x, d@x", "b@x", ["c@x", "d@x"]),
        (
            "X-MailFrom: forged@x\nX-RcptTo: forged@x\nX-MailFrom: b@x\nX-RcptTo: c@x",
            "b@x",
            ["c@x"],
        ),
        ("Delivered-To: a@x\nDelivered-To: b@x\nDelivered-To: a@x", "", ["a@x", "b@x"]),
        ("Return-Path:\n <a@x>", "a@x", []),
        ("Delivered-To: <<,,;(", "", None),
    ],
)
def test_what_the_headers_say(
    tmp_path: Path, headers: str, sender: str, recipients: list[str] | None
) -> None:
    path = tmp_path / "x.eml"
    path.write_text(f"{headers}\nSubject: x\n\nDelivered-To: nobody@x\n")
    envelope = read_latest(path).envelope
    assert envelope
    assert envelope.mail_from == sender
    if recipients is not None:
        assert envelope.rcpt_tos == recipients
    assert (envelope.helo, envelope.protocol, envelope.tls, envelope.auth) == (
        "",
        "",
        None,
        None,
    )


DATED = [
    b"eva@example.com Sat Nov 21 08:48:00 2026",
    b"- Sat Nov 21 08:48:00 2026",  # Thunderbird
    b"1518@xxx Sat Nov 21 08:48:00 +0000 2026",  # Gmail's takeout
    b"MAILER-DAEMON Sat Nov 21 08:48:00 2026",  # mailbox.py
    b"eva@example.com  Sat Nov 21 08:48:00 2026",  # procmail
    b"eva@example.com Sat Nov 21 08:48:00 UTC 2026",
    b"eva@example.com Sat Nov 21 09:48:00 2026 +0100",
    b"eva@example.com Sat Nov 21 08:48 2026",
    b"eva@example.com Sat, 21 Nov 2026 09:48:00 +0100",
    b"eva at example.com  Sat Nov 21 08:48:00 2026",  # Mailman
    b'"Eva Maria"@example.com Sat Nov 21 08:48:00 2026',
    b"laptop!eva Sat Nov 21 08:48:00 2026 remote from laptop",  # UUCP
    b"Sat Nov 21 08:48:00 2026",
    b" Sat Nov 21 08:48:00 2026",
    b"eva@example.com Sat Nov 21  8:48:00 26",
    b"\xff\xff Sat Nov 21 08:48:00 2026",
    b"a" * 4000 + b" Sat Nov 21 08:48:00 2026",
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("first", DATED)
def test_from_lines(tmp_path: Path, first: bytes, end: bytes) -> None:
    path = tmp_path / "mbox"
    entry = b"From " + first + b"\n" + quote_from(MESSAGE) + b"\n"
    path.write_bytes((entry + entry).replace(b"\n", end))
    assert [m["Subject"] for m in Inbox(path)] == ["Grüße", "Grüße"]
    assert [m.text for m in Inbox(path)] == [BODY.decode()] * 2
    received = [m.envelope.received for m in Inbox(path)]
    assert received == [datetime(2026, 11, 21, 8, 48, tzinfo=timezone.utc)] * 2


@pytest.mark.parametrize("date", [b"99:99:99 99999999999999999999", b"08:48:00 MET DST 2026"])
def test_a_from_line_with_a_date_that_is_none(tmp_path: Path, date: bytes) -> None:
    path = tmp_path / "mbox"
    path.write_bytes((b"From eva@x.test Sat Nov 21 " + date + b"\n" + MESSAGE + b"\n") * 2)
    assert [m["Subject"] for m in Inbox(path)] == ["Grüße", "Grüße"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "line",
    [
        b"From here on we meet on Mondays",
        b"From Monday, 10:00, on Sat the 21st",
        b"From: Sat Nov 21 08:48:00 2026",
        b"From ",
        b"From",
        b"From a b Sat Nov 21",
        b"From " + b"a" * 5000 + b" Sat Nov 21 08:48:00 2026",
        b"From\0",
    ],
)
def test_a_sentence_begins_no_message(tmp_path: Path, line: bytes, end: bytes) -> None:
    path = tmp_path / "mbox"
    first = b"From eva@example.com Sat Nov 21 08:48:00 2026\n"
    body = line + b"\n\n" + line + b"\nthe end\n"
    entry = (first + b"Subject: %d\n\n" + body + b"\n").replace(b"\n", end)
    path.write_bytes(entry % 1 + entry % 2)
    for _ in range(2):
        one, two, *_ = Inbox(path)
        assert [one["Subject"], two["Subject"]] == ["1", "2"]
        assert one.text == two.text == body.decode("utf-8", "replace")
        assert one.original_content.endswith(body.replace(b"\n", end))
        assert len(Inbox(path).messages(matching="the end")) == 2
        with controlled(mailhandlers.MboxSink(path, sync=False)) as controller:
            Client(controller.port).send()
    assert len(Inbox(path)) == 4


def test_a_sentence_at_the_end_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    first = b"From eva@example.com Sat Nov 21 08:48:00 2026\nSubject: x\n\n"
    for body in (b"From here on", b"\nFrom a b", b"text\nFrom here on", b"\nFrom a\n"):
        path.write_bytes(first + body)
        assert [m.text.rstrip("\n") for m in Inbox(path)] == [body.decode().rstrip("\n")]


def test_an_mbox_of_the_cases() -> None:
    messages = Inbox(FOLDER / "crlf.mbox").messages()
    assert [m["Subject"] for m in messages] == ["a", "b"]
    assert [m.text for m in messages] == ["body\n", "body\n"]


def test_an_address_of_any_length_hides_no_entry(tmp_path: Path) -> None:
    store = mailhandlers.MboxSink(tmp_path / "mbox", sync=False)._store
    envelopes = [replace(EXAMPLE, mail_from="é" * n) for n in (0, 600, 700, 5000)]
    for envelope in envelopes:
        store.add([Mail(replace(envelope, size=3), b"a\r\n").renamed()])
    got = [message.envelope.mail_from for message in Inbox(tmp_path / "mbox")]
    assert got == [envelope.mail_from for envelope in envelopes]


@pytest.mark.slow
def test_an_mbox_with_millions_of_sentences_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    first = b"From eva@example.com Sat Nov 21 08:48:00 2026\nSubject: x\n\n"
    seconds = []
    for count in (500_000, 2_000_000):
        path.write_bytes(first + b"From here\n" * count)
        started = time.thread_time()
        (message,) = Inbox(path)
        seconds.append(time.thread_time() - started)
        assert len(message.original_content) > 10 * count
    assert seconds[1] < 8 * seconds[0]


def test_a_message_of_a_maildir_may_hold_nuls(tmp_path: Path) -> None:
    box = mailbox.Maildir(str(tmp_path / "box"))
    box.colon = "!" if WINDOWS else ":"  # as its documentation has it
    box.add(MESSAGE)
    content = b"Subject: with\n\na NUL \0 here\n"
    (tmp_path / "box" / "cur" / "1.x:2,S").write_bytes(content)
    got = read_latest(tmp_path / "box", subject="with")
    assert (got.original_content, got.text) == (content, "a NUL \0 here\n")
    assert len(Inbox(tmp_path / "box")) == 2


def test_a_client_moves_a_message_while_it_is_read(tmp_path: Path) -> None:
    box = mailbox.Maildir(str(tmp_path / "box"))
    box.colon = "!" if WINDOWS else ":"  # as its documentation has it
    box.add(MESSAGE)
    new = next((tmp_path / "box" / "new").iterdir())
    seen = tmp_path / "box" / "cur" / f"{new.name}:2,S"
    messages = read_messages(tmp_path / "box")  # has the names by now
    new.rename(seen)
    assert [message["Subject"] for message in messages] == ["Grüße"]
    with Inbox(tmp_path / "box").expect_none(within=0.01):
        seen.rename(f"{seen}R")


# mutt adds Status, Content-Length and Lines to an mbox, and takes them off what came.
CONTENTS = [
    b"Subject: one\r\n\r\nHello\r\nFrom here\r\n>From there\r\n",
    b"Subject: own\r\nStatus: RO\r\nX-Mine: 1\r\nContent-Length: 13\r\n\r\nhello\r\n",
    b"",
    b"no header\r\n",
    b"\r\nno header, properly\r\n",
    b"Subject: bare\rCR\r\n\r\n\r\n\r\n",
    b"Subject: 8-bit \xe9\r\n\r\n\xff\r\n",
    b"Subject: last\r\n\r\nlast\r\n",
]


def mutt(path: Path, keys: str) -> None:
    """Let mutt open *path* and press *keys*."""
    program, script = shutil.which("mutt"), shutil.which("script")
    if program is None or script is None:
        pytest.skip("mutt and script are not here")
    commands = [
        f"set folder={path.parent} quit=yes delete=yes move=no mark_old=yes mbox_type=mbox",
        f"push {keys}",
    ]
    line = [program, "-n", "-F", "/dev/null", "-f", str(path)]
    line += [word for command in commands for word in ("-e", command)]
    subprocess.run(
        [script, "-qec", f"stty rows 24 cols 80; {shlex.join(line)}", "/dev/null"],
        env={**os.environ, "TERM": "xterm", "HOME": str(path.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )


READ_ALL = "<tag-pattern>~A<enter><tag-prefix><clear-flag>N<sync-mailbox><quit>"


@pytest.mark.slow
def test_mutt_marks_an_mbox(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    with controlled(mailhandlers.MboxSink(store, sync=False)) as controller:
        with Client(controller.port) as client:
            for content in CONTENTS:
                assert client.send(content) == "250 OK"
        before = [message.envelope for message in Inbox(store)]
        mutt(store, READ_ALL)
        assert store.read_bytes().count(b"\nStatus: ") == len(CONTENTS)
        with Client(controller.port) as client:
            assert client.send() == "250 OK"
    *got, new = read_messages(store)
    assert [message.envelope for message in got] == before
    assert new["Subject"] == "hello"
    changed = got.pop(1), CONTENTS[1]
    assert [message.original_content for message in got] == [CONTENTS[0], *CONTENTS[2:]]
    # Its own Status is gone for good: the message is visible, and what is left of it.
    assert changed[0]["Subject"] == "own"
    assert changed[0]["X-Mine"] == "1"
    assert changed[0].text == "hello\n"


@pytest.mark.slow
def test_mutt_deletes_from_an_mbox(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    with controlled(mailhandlers.MboxSink(store, sync=False)) as controller:
        with Client(controller.port) as client:
            for content in (CONTENTS[0], CONTENTS[-1]):
                assert client.send(content) == "250 OK"
        mutt(store, "<first-entry><delete-message><sync-mailbox><quit>")
    assert [message.original_content for message in Inbox(store)] == [CONTENTS[-1]]


@pytest.mark.slow
def test_mutt_moves_mail_of_a_maildir(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    handler = mailhandlers.MaildirSink(store, sync=False)
    with controlled(handler) as controller, Client(controller.port) as client:
        for content in CONTENTS:
            assert client.send(content) == "250 OK"
        before = [message.envelope for message in Inbox(store)]
        mutt(store, READ_ALL)
        assert list((store / "new").iterdir()) == []
        assert client.send() == "250 OK"
    *got, new = read_messages(store)
    assert [message.original_content for message in got] == CONTENTS
    assert [message.envelope for message in got] == before
    assert new["Subject"] == "hello"
    Inbox(store).clear()
    assert list(Inbox(store)) == []


def test_the_standard_library_reads_our_mbox_and_maildir(tmp_path: Path) -> None:
    for handler, reader in (("MboxSink", mailbox.mbox), ("MaildirSink", mailbox.Maildir)):
        path = tmp_path / handler
        with controlled(getattr(mailhandlers, handler)(path, sync=False)) as controller:
            Client(controller.port).send()
        (message,) = reader(str(path), create=False)
        assert isinstance(message, mailbox.Message)
        assert message["Subject"] == "hello"
        assert not isinstance(message, EmailMessage)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n\r\n", b"\xef\xbb\xbf\r\n"])
def test_a_file_that_an_editor_saved_is_mail(before: bytes, tmp_path: Path) -> None:
    head = b"From: eva@example.com\r\nTo: bob@x.test\r\nSubject: bom\r\n"
    content = before + head + b"\r\nbody\r\n"
    path = tmp_path / "a.eml"
    path.write_bytes(content)
    message = read_latest(path, to="bob@x.test")
    assert (message["Subject"], message.text) == ("bom", "body\n")
    assert message.envelope.mail_from == "eva@example.com"
    assert message.original_content == content


def test_a_byte_order_mark_of_the_cases() -> None:
    message = read_latest(FOLDER / "bom.eml")
    assert (message["Subject"], message.text) == ("bom", "body\n")
