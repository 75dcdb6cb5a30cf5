"""Messages that other programs marked, edited and rewrote: none is lost, each is told."""

from __future__ import annotations

import email.policy
import imaplib
import mailbox
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from programs.test_programs import MBOX, imap_command, mutt, program, run, shared_folder
from strategies import envelopes
from support import IS_ROOT, PATIENCE, Client, Server, controlled, json_line, wait_until
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import (
    Envelope,
    Inbox,
    StoredMessage,
    block,
    read_latest,
    read_messages,
)
from mailhandlers.mail import Mail
from mailhandlers.message.headers import PARSER_FAULTS
from mailhandlers.stores import mbox

__all__ = ["shared_folder"]

EDITED = b"Subject: edited\r\n\r\nfirst\r\nsecond\r\nthird\r\n"
# Headers of the sender's that mutt, Dovecot or both take for their own.
CLAIMED = [b"Status: RO", b"Lines: 7", b"Content-Length: 3", b"X-UID: 12", b"X-Status: A"]


# Real programs, with a store of some size, while mail comes in


def numbered(number: int) -> bytes:
    """Return the message of this *number*, of which many kinds come in turn."""
    head = b"Subject: n%d\r\n" % number
    if number % 5 == 0:
        head += CLAIMED[number // 5 % len(CLAIMED)] + b"\r\n"
    bodies = [
        b"hello\r\n" * (number % 60),
        b"From here\r\n>From there\r\n\r\nFrom the end\r\n",
        b"\xff 8-bit \xe9\r\n\r\n\r\n",
        b"a bare\rCR\r\n",
        b"a bare\nLF\r\n",
        b"",
    ]
    return head + b"\r\n" + bodies[number % len(bodies)]


def may_change(number: int) -> bool:
    """Tell whether programs that mark the message take it for something else."""
    return number % 5 == 0 or b"\nLF\r\n" in numbered(number)


class Sender:
    """Sends numbered messages from a thread until it is told to stop."""

    def __init__(self, server: Server) -> None:
        self.acknowledged = 0
        self.pause = 0.005
        """How many seconds pass between two messages."""
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        with self._server.client() as client:
            while not self._stop.wait(self.pause):
                assert client.send(numbered(self.acknowledged)) == "250 OK"
                self.acknowledged += 1

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Some more come behind what the program left.
        before = self.acknowledged
        wait_until(lambda: self.acknowledged >= before + 5 or not self._thread.is_alive())
        self._stop.set()
        self._thread.join(PATIENCE)


def mutt_marks_all(store: Path, sender: Sender) -> None:
    keys = "<tag-pattern>~A<enter><tag-prefix><clear-flag>N<sync-mailbox><quit>"
    while sender.pause < 5:
        # Where mutt finds new mail between two keys, it forgets the others, and waits for
        # more. On a busy machine it always does, unless mail comes more slowly.
        with suppress(subprocess.TimeoutExpired):
            return mutt(store, keys, timeout=30)
        sender.pause *= 5
    pytest.fail("mutt found new mail each time")


def mutt_edits_one(store: Path) -> None:
    editor = store.parent / "editor"
    editor.write_text('#!/bin/sh\nsed -i "/hello/d; s/^Subject: n1$/&0000/" "$1"\n')
    editor.chmod(0o755)
    mutt(store, "<limit>~A<enter><first-entry><edit><sync-mailbox><quit>", editor=str(editor))


def dovecot_marks_all(store: Path, _: Sender) -> None:
    with imaplib.IMAP4_stream(imap_command(MBOX, store)) as client:
        for is_readonly in (True, False):
            assert client.select("INBOX", is_readonly)[0] == "OK"
            client.fetch("1:*", "(BODY.PEEK[HEADER])")
        client.store("1:*", "+FLAGS", r"(\Seen \Flagged)")
        client.close()


def formail_tags_all(store: Path, _: Sender) -> None:
    for name in ("lockfile", "formail"):
        program(name)
    script = 'lockfile -1 "$1.lock"; formail -i "X-Tag: 1" -s <"$1" >new; cat new >"$1"'
    run("sh", "-c", f'{script}; rm -f "$1.lock"', "sh", store, folder=store.parent)


def mailbox_edits_some(store: Path, _: Sender) -> None:
    script = """
import mailbox, sys, time
box = mailbox.mbox(sys.argv[1])
while True:
    try:
        box.lock()
        break
    except mailbox.ExternalClashError:
        time.sleep(0.001)
for key, message in box.items():
    if message["Subject"].endswith("3"):
        message["X-Tag"] = "1"
        box[key] = message
    elif message["Subject"].endswith("4"):
        message.add_flag("R")
        box[key] = message
box.flush()
box.unlock()
box.close()
"""
    run(sys.executable, "-c", script, store, folder=store.parent)


PROGRAMS: list[tuple[Callable[[Path, Sender], None], Callable[[int], bool]]] = [
    (mutt_marks_all, lambda number: False),
    (dovecot_marks_all, lambda number: False),
    (formail_tags_all, lambda number: True),
    (mailbox_edits_some, lambda number: number % 10 == 3),
]


@pytest.mark.parametrize(
    ("change", "edits"), PROGRAMS, ids=[change.__name__ for change, _ in PROGRAMS]
)
@pytest.mark.slow
def test_a_program_rewrites_the_store_while_mail_comes_in(
    change: Callable[[Path, Sender], None], edits: Callable[[int], bool], shared_folder: Path
) -> None:
    store = shared_folder / MBOX.store
    with Server(MBOX.handler, store, "sync=no") as server:
        with Sender(server) as sender:
            wait_until(lambda: sender.acknowledged > 200)
            if IS_ROOT:  # Dovecot never works as root
                nobody = pwd.getpwnam("nobody")
                for path in (shared_folder, store):
                    os.chown(path, nobody.pw_uid, nobody.pw_gid)
            rewritten = sender.acknowledged
            change(store, sender)
        assert not sender._thread.is_alive()
        assert server.errors() == ""
    assert sender.acknowledged > rewritten + 4
    assert not os.path.lexists(f"{store}.torn")
    found = {str(message["Subject"]): message for message in read_messages(store)}
    assert len(found) == len(Inbox(store)) == sender.acknowledged
    for number in range(sender.acknowledged):
        message = found[f"n{number}"]
        assert message.envelope.protocol == "ESMTP"
        if not message.is_altered:
            assert message.original_content == numbered(number)
            assert message["X-Tag"] is None
        else:
            assert edits(number) or may_change(number), number
    tagged = sum(message["X-Tag"] is not None for message in found.values())
    # formail takes a sender's Content-Length at its word, and sees fewer messages.
    assert tagged >= 0.9 * sum(map(edits, range(rewritten)))


@pytest.mark.slow
def test_mutt_edits_the_last_message(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    with Server("MboxSink", store) as server:
        assert server.send(b"Subject: n1\r\n\r\nhello\r\nstays\r\nhello\r\n") == "250 OK"
        mutt_edits_one(store)
        assert server.send() == "250 OK"
    edited, new = read_messages(store)
    assert (edited["Subject"], edited.text, edited.is_altered) == ("n10000", "stays\n", True)
    assert (new["Subject"], new.is_altered) == ("hello", False)


# A message that somebody shortened is no torn one


@contextmanager
def one_more(store: Path) -> Iterator[None]:
    """Change *store*, which holds one message, and have a new server append another."""
    for content in (EDITED, b"Subject: new\r\n\r\n"):
        with (
            controlled(mailhandlers.MboxSink(store)) as controller,
            Client(controller.port) as client,
        ):
            assert client.send(content) == "250 OK"
        if content == EDITED:
            yield


def test_an_editor_removes_a_line_of_the_last_message(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    with one_more(store):
        store.write_bytes(store.read_bytes().replace(b"second\n", b""))
        message = read_latest(store)
        assert message.is_altered
        assert message.text == "first\nthird\n"
        assert message.original_content == b"Subject: edited\n\nfirst\nthird\n"
    assert [message["Subject"] for message in read_messages(store)] == ["edited", "new"]
    assert os.listdir(tmp_path) == ["mail.mbox"]


def test_an_editor_removes_the_end_of_the_last_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "mail.mbox"
    with one_more(store):
        os.truncate(store, store.stat().st_size - len(b"ird\n\n"))
        left = store.read_bytes()
    # It may as well be a torn write: nobody can tell, and nothing is lost.
    assert [message["Subject"] for message in read_messages(store)] == ["new"]
    assert Path(f"{store}.torn").read_bytes() == left
    assert "the last entry is not whole" in caplog.text


def test_the_blank_line_at_the_end_may_be_missing(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    with one_more(store):
        os.truncate(store, store.stat().st_size - 1)
        assert read_latest(store).original_content == EDITED
    assert [message.is_altered for message in read_messages(store)] == [False, False]


def test_a_json_line_that_somebody_edited(tmp_path: Path) -> None:
    store = tmp_path / "mail.jsonl"
    mail = Mail(replace(EXAMPLE, size=len(EDITED)), EDITED)
    store.write_bytes(json_line(mail).replace(rb"second\r\n", b"").rstrip(b"\n"))
    assert read_latest(store).is_altered
    with (
        controlled(mailhandlers.JsonLines(store)) as controller,
        Client(controller.port) as client,
    ):
        assert client.send() == "250 OK"
    assert [message.is_altered for message in read_messages(store)] == [True, False]


@pytest.mark.parametrize("handler", ["MailFile", "MaildirSink", "PerRecipientDir"])
def test_a_file_that_somebody_edited(tmp_path: Path, handler: str) -> None:
    store = tmp_path / "store"
    with (
        controlled(getattr(mailhandlers, handler)(store)) as controller,
        Client(controller.port) as client,
    ):
        assert client.send(EDITED) == "250 OK"
    files = [path for path in (store, *store.rglob("*")) if path.is_file()]
    files[0].write_bytes(files[0].read_bytes().replace(b"second\n", b""))
    assert len(Inbox(store)) == 1
    (message,) = read_messages(store)
    assert (message.is_altered, message.text) == (True, "first\nthird\n")
    assert message.envelope.rcpt_tos == ["bob@example.com"]


def test_a_coincidence_of_length_is_no_whole_message() -> None:
    # mutt's headers are 40 octets, as many as LF form takes from 40 lines.
    content = b"Subject: x\r\n\r\n" + b"line\r\n" * 37
    marks = b"Status: RO\nContent-Length: 185\nLines: 3\n"
    mail = Mail(replace(EXAMPLE, size=len(content)), content).sealed()
    entry = b"".join(mbox.encode(mail)).replace(b": x\n", b": x\n" + marks)
    assert len(entry) == len(b"".join(mbox.encode(mail))) + len(marks)
    assert content.count(b"\n") == 39
    assert mbox.decode(entry.replace(b"Lines: 3\n", b"Lines: \n")) == mail
    stored = content.replace(b"\r\n", b"\n") + b"x" * 39
    changed = b"".join(block.encode(mail))[: -len(stored) + 39] + stored
    assert len(block.decode(changed).content) == mail.envelope.size
    assert block.decode(changed).is_altered


# What others make of our header block


@given(envelopes(len(EDITED)))
@example(replace(EXAMPLE, id="1.M1P1Q1." + "long-host-name." * 6, size=len(EDITED)))
@example(replace(EXAMPLE, rcpt_tos=["x" * 300 + "@\xe9", "a b  c@x"], size=len(EDITED)))
@example(replace(EXAMPLE, helo="=?utf-8?q?x=22=2C_=22auth=22=3A_=22root?=", size=len(EDITED)))
def test_a_message_that_python_wrote_again_keeps_its_envelope(envelope: Envelope) -> None:
    mail = Mail(envelope, EDITED).sealed()
    messages: list[Any] = [StoredMessage.parse(EDITED, mail.envelope)]
    for policy in (email.policy.compat32, email.policy.default):
        messages.append(email.message_from_bytes(b"".join(block.encode(mail)), policy=policy))
    for message in messages:
        try:
            again = message.as_bytes()
        except PARSER_FAULTS:  # Python can't write each header that it can read
            continue
        assert block.decode(again) == mail


def test_what_mailbox_adds_to_a_maildir_is_there_with_its_envelope(tmp_path: Path) -> None:
    envelope = replace(EXAMPLE, rcpt_tos=["x" * 200 + "@example.com"], size=len(EDITED))
    box = mailbox.Maildir(tmp_path / "box")
    box.add(StoredMessage.parse(EDITED, envelope).as_bytes())
    (message,) = read_messages(tmp_path / "box")
    assert message.envelope == envelope
    assert message.original_content == EDITED


def test_an_envelope_that_somebody_broke_hides_no_message(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    with one_more(store):
        store.write_bytes(store.read_bytes().replace(b'"received"', b'"deceived"'))
    edited, new = read_messages(store)
    assert (edited["Subject"], edited.envelope.protocol) == ("edited", "")
    assert edited.envelope.rcpt_tos == ["bob@example.com"]
    assert new["Subject"] == "new"


def test_mail_without_a_header_is_mail_in_a_maildir(tmp_path: Path) -> None:
    box = tmp_path / "box"
    mailbox.Maildir(box).close()
    (box / "new" / "1700000000.1.x").write_bytes(b"no header at all\n")
    (message,) = read_messages(box)
    assert message.original_content == b"no header at all\n"
    assert message.envelope.protocol == ""
    for octets in (b"\x7fELF\0", b"", b"\0" * 100, b"Subject: x\0y\n\na\0b\n"):
        (box / "new" / "1700000000.1.x").write_bytes(octets)
        assert read_latest(box).original_content == octets


def test_a_line_in_a_body_makes_no_json_lines_of_an_mbox(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    content = b'Subject: x\r\n\r\n{"id": "1"}\r\n'
    entry = b"".join(mbox.encode(Mail(replace(EXAMPLE, size=len(content)), content)))
    store.write_bytes(b"a line of somebody's\n" + entry)
    assert read_latest(store).original_content == content
    store.write_bytes(b"a line of somebody's\n" + json_line(Mail(EXAMPLE, b"From \r\n\nFrom ")))
    assert read_latest(store).is_altered  # the size is not the example's
