"""mboxrd: each entry gives back what was stored, whatever is in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from strategies import contents, mails
from support import entries

from mailhandlers import read_messages
from mailhandlers.mail import Mail
from mailhandlers.stores import mbox


def mbox_entry(mail: Mail) -> bytes:
    return b"".join(mbox.encode(mail))


@given(contents)
def test_quoted_from_lines_are_unquoted(data: bytes) -> None:
    quoted = mbox.quote_from(data)
    assert mbox.unquote_from(quoted) == data
    assert not re.search(rb"^From ", quoted, re.MULTILINE)


@given(mails())
def test_an_mbox_entry_gives_back_envelope_and_content(mail: Mail) -> None:
    assert mbox.decode(mbox_entry(mail)) == mail


@given(st.lists(mails(), max_size=5))
def test_an_mbox_splits_at_its_from_lines_only(some: list[Mail]) -> None:
    data = b"".join(map(mbox_entry, some))
    assert [mbox.decode(entry) for entry in entries(data, mbox.MboxStore)] == some


@given(mails())
def test_an_mbox_entry_ends_in_a_blank_line(mail: Mail) -> None:
    assert mbox_entry(mail).endswith(b"\n\n")


@given(mails())
def test_headers_that_mutt_adds_are_taken_off_again(mail: Mail) -> None:
    content = b"Subject: hi\r\n\r\nhello\r\n"
    mail = Mail(replace(mail.envelope, size=len(content), sha256=None), content).sealed()
    marked = mbox_entry(mail).replace(b": hi\n", b": hi\nStatus: RO\nLines: 3\n", 1)
    assert mbox.decode(marked) == mail


def test_an_mbox_with_crlf_has_its_messages_without_the_blank_lines_between(
    tmp_path: Path,
) -> None:
    entry = "From eva@x.test Sat Nov 21 08:48:00 2026\nSubject: crlf\n\nbody\n\n"
    (tmp_path / "mail.mbox").write_bytes(entry.replace("\n", "\r\n").encode() * 2)
    assert [m.text for m in read_messages(tmp_path / "mail.mbox")] == ["body\n", "body\n"]
