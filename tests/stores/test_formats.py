from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from strategies import anything, contents, envelopes, mails, wire_mails
from support import json_line
from test_envelope import EXAMPLE

from mailhandlers import Envelope, block
from mailhandlers.block import FormatError
from mailhandlers.disk.files import Disk
from mailhandlers.mail import Mail
from mailhandlers.stores import json_lines, mbox
from mailhandlers.stores.growing import GrowingStore, backwards
from mailhandlers.stores.json_lines import JsonLinesStore
from mailhandlers.stores.mbox import MboxStore
from mailhandlers.stores.people import folder_name

FOREIGN = b"From eva Sat Nov 21 08:48:00 2026\nSubject: not ours\n\nFrom\nhere\n\n"


def mail_form(mail: Mail) -> bytes:
    return b"".join(block.encode(mail))


def mbox_entry(mail: Mail) -> bytes:
    return b"".join(mbox.encode(mail))


# LF form


@given(contents)
def test_the_lf_form_gives_back_the_wire_form(wire: bytes) -> None:
    kept = block.to_lf(wire)
    assert wire in (kept, block.from_lf(kept))


@given(contents)
def test_lf_is_kept_only_where_it_is_reversible(wire: bytes) -> None:
    replaced = wire.replace(b"\r\n", b"\n")
    reversible = b"\r\n" not in replaced and replaced.replace(b"\n", b"\r\n") == wire
    assert block.to_lf(wire) == (replaced if reversible else wire)


# Folding


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@example("é" * 2000)
@example("x" * 990 + " " + "\U0001f600" * 600)
@example(" " * 3000)
def test_a_folded_header_unfolds_to_itself(value: str) -> None:
    header = f"X-RcptTo: {value}".encode()
    folded = block.fold(header)
    assert block.unfold(folded) == header
    for line in folded.split(b"\n"):
        assert len(line) <= 998
        line.decode()


@given(envelopes())
def test_the_block_is_five_headers_in_lines_that_rfc_5322_allows(envelope: Envelope) -> None:
    lines = block.header_block(envelope).split(b"\n")
    assert all(len(line) <= 998 for line in lines)
    starts = [line.split(b":")[0] for line in lines[:-1] if line[:1] not in (b" ", b"\t")]
    assert starts == [b"Return-Path", b"X-Peer", b"X-MailFrom", b"X-RcptTo", b"X-Envelope"]


# The mail form


@given(mails())
@example(Mail(replace(EXAMPLE, size=6), b" }\n\t}\n").sealed())
def test_the_mail_form_gives_back_envelope_and_content(mail: Mail) -> None:
    assert block.decode(mail_form(mail)) == mail


@settings(max_examples=10)
@given(wire_mails)
def test_a_part_of_the_mail_form_is_altered_or_refused(mail: Mail) -> None:
    whole = mail_form(mail)
    for end in range(len(whole)):
        with suppress(FormatError):
            assert block.decode(whole[:end]).is_altered


@given(wire_mails)
def test_version_1_0_had_no_checksum_and_its_messages_are_whole_by_their_length(
    mail: Mail,
) -> None:
    old = mail._replace(envelope=replace(mail.envelope, sha256=None))
    line = f', "sha256": "{mail.envelope.sha256}"'.encode()
    form = mail_form(mail)
    stored = block.unfold(form[: -len(block.to_lf(mail.content)) or None])
    stored = stored.replace(line, b"") + block.to_lf(mail.content)
    assert stored.count(b'"size": ') == form.count(b'"size": ')
    assert block.decode(stored) == old
    assert block.decode(stored + b"x" * (old.envelope.size + 9)).is_altered


@given(envelopes(0), envelopes(0))
def test_a_forged_block_is_content(ours: Envelope, forged: Envelope) -> None:
    content = block.header_block(forged) + b"\nbody\n"
    mail = Mail(replace(ours, size=len(content)), content).sealed()
    assert block.decode(mail_form(mail)) == mail


# mbox


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
    assert [mbox.decode(entry) for entry in entries(data, b"From ")] == some


@given(mails())
def test_an_mbox_entry_ends_in_a_blank_line(mail: Mail) -> None:
    assert mbox_entry(mail).endswith(b"\n\n")


@given(mails())
def test_headers_that_mutt_adds_are_taken_off_again(mail: Mail) -> None:
    content = b"Subject: hi\r\n\r\nhello\r\n"
    mail = Mail(replace(mail.envelope, size=len(content), sha256=None), content).sealed()
    marked = mbox_entry(mail).replace(b": hi\n", b": hi\nStatus: RO\nLines: 3\n", 1)
    assert mbox.decode(marked) == mail


# JSON Lines


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


# Mending what a crash left


LONG = b"Subject: long\r\n\r\n" + 99_999 * b"x"


def mended(data: bytes, form: type[GrowingStore], begun: int | None = None) -> bytes:
    """Return what is left of a file that holds *data*, after a writer mended its end.

    *begun* is where a writer began to append that was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store")
        path.write_bytes(data)
        if begun is not None and form is MboxStore:
            Path(f"{path}.lock").symlink_to(f"mailhandlers.1.{path.stat().st_ino}.{begun}")
        form(str(path), Disk(sync=False)).prepare()
        assert not os.path.lexists(f"{path}.lock")
        left = path.read_bytes()
        aside = Path(f"{path}.torn")
        if aside.exists():
            assert begun is None
            assert len(left) + aside.stat().st_size >= len(data.rstrip(b"\0"))
        return left


QUICK = [Phase.explicit, Phase.reuse, Phase.generate]  # to shrink what fails takes minutes


def check_every_prefix(
    before: bytes, last: bytes, form: type[GrowingStore], closing: range
) -> None:
    """Cut *last* behind *before* anywhere: what was whole stays, what was torn goes.

    *closing* says how many octets at the end of *last* are no part of its message.
    """
    for length in {*range(0, len(last), 3), *range(len(last) - 9, len(last))}:
        # Where a power cut left the length and not the octets, these are NULs.
        left = mended(before + last[:length] + bytes(length % 7), form, len(before))
        if len(last) - length not in closing:
            assert left == before
        elif left != before:  # the message had all its octets, only the end was cut
            assert left[: len(before)] == before
            assert last.startswith(left[len(before) :].rstrip(b"\n"))
        # Where nothing tells that the writer was killed, all that was whole stays all the same.
        if before and length % 5 == 0:
            assert mended(before + last[:length], form).startswith(before)


@settings(max_examples=5, phases=QUICK)
@given(st.lists(wire_mails, max_size=2), wire_mails, st.sampled_from([b"", FOREIGN]))
@example([], Mail(replace(EXAMPLE, size=16), b"\r\n\nFrom \nFrom \r\n").sealed(), b"")
def test_an_mbox_cut_anywhere_mends_to_its_whole_entries(
    whole: list[Mail], torn: Mail, foreign: bytes
) -> None:
    before = foreign + b"".join(map(mbox_entry, whole))
    check_every_prefix(before, mbox_entry(torn), MboxStore, range(3))


@settings(max_examples=5, phases=QUICK)
@given(st.lists(mails(), max_size=2), mails(), st.sampled_from([b"", b'{"a": 1}\n', b"\n"]))
def test_json_lines_cut_anywhere_mend_to_their_whole_lines(
    whole: list[Mail], torn: Mail, foreign: bytes
) -> None:
    before = foreign + b"".join(map(json_line, whole))
    check_every_prefix(before, json_line(torn), JsonLinesStore, range(2))


@pytest.mark.parametrize(
    ("file", "form", "back", "mark"),
    [
        (MboxStore, mbox_entry, mbox.decode, b"From "),
        (JsonLinesStore, json_line, json_lines.decode, b""),
    ],
    ids=["mbox", "json lines"],
)
@settings(max_examples=25)
@given(st.lists(wire_mails, min_size=1, max_size=3), wire_mails, st.data())
def test_what_follows_a_torn_entry_reads_as_it_was_sent(
    file: type[GrowingStore],
    form: Callable[[Mail], bytes],
    back: Callable[[bytes], Mail],
    mark: bytes,
    some: list[Mail],
    after: Mail,
    data: st.DataObject,
) -> None:
    *whole, torn = some
    cut = data.draw(st.integers(0, len(form(torn))))
    before = b"".join(map(form, whole))
    left = mended(before + form(torn)[:cut], file, len(before))
    read = [back(entry) for entry in entries(left + form(after), mark)]
    assert read in ([*whole, after], [*some, after])


@pytest.mark.parametrize("foreign", [FOREIGN, FOREIGN[:-1], FOREIGN[:-2], FOREIGN[:-6]])
def test_mail_of_another_program_is_kept_and_closed(foreign: bytes) -> None:
    assert mended(foreign, MboxStore) == foreign.rstrip(b"\n") + b"\n\n"


def test_a_line_of_another_program_is_kept_and_closed() -> None:
    assert mended(b'{"a": 1}\n{"b": ', JsonLinesStore) == b'{"a": 1}\n{"b": \n'


# Entries from the end


def entries(data: bytes, mark: bytes) -> list[bytes]:
    """Return the entries of a file, first first."""
    found = backwards(lambda start, end: data[start:end], len(data), mark)
    return [data[start:end] for start, end in found][::-1]


def entries_from_the_front(data: bytes, mark: bytes) -> list[bytes]:
    found: list[bytes] = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        if not found or line.startswith(mark):
            found.append(line)
        else:
            found[-1] += line
    return found


long_files = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"From ", b"\nFrom ", b"\n\n", b"Fro", b"From x\n"]),
        st.integers(65520, 65545).map(lambda n: b"x" * n),
        st.integers(131060, 131080).map(lambda n: b"y" * n),
    ),
    max_size=8,
).map(b"".join)


@given(long_files, st.sampled_from([b"", b"From "]))
def test_entries_from_the_end_are_those_from_the_front(data: bytes, mark: bytes) -> None:
    assert entries(data, mark) == entries_from_the_front(data, mark)


@pytest.mark.parametrize("mark", [b"", b"From "])
@pytest.mark.parametrize("behind", range(65536 - 8, 65536 + 8))
def test_a_mark_across_two_blocks_is_found(mark: bytes, behind: int) -> None:
    data = b"From a\n" + b"From b\n".ljust(behind, b"x")
    assert len(entries(data, mark)) == len(entries_from_the_front(data, mark))
    assert entries(data, mark) == entries_from_the_front(data, mark)


def test_the_last_entry_of_a_large_file_costs_one_block() -> None:
    size = 1 << 40
    asked = []

    def read(start: int, end: int) -> bytes:
        asked.append(end - start)
        return b"From x\n".rjust(end - start, b"\n")

    assert next(backwards(read, size, b"From ")) == (size - 7, size)
    assert sum(asked) <= 1 << 17


# Folder names


@given(anything)
@example("..")
@example("/etc/passwd")
@example("~")
def test_a_folder_name_stays_in_its_folder(recipient: str) -> None:
    name = folder_name(recipient)
    assert re.fullmatch(r"[A-Za-z0-9@+_=%~-][A-Za-z0-9@.+_=%~-]{,199}", name)


@given(anything)
def test_a_short_folder_name_tells_the_address(recipient: str) -> None:
    name = folder_name(recipient)
    if "~" not in name and recipient:
        octets = recipient.casefold().encode("utf-8", "surrogateescape")
        assert unquote_to_bytes(name) == octets


@given(anything, anything)
@example("x" * 300 + "a", "x" * 300 + "b")
@example("é" * 80, "é" * 80 + "x")
@example("a/b", "a%2Fb")
@example("a~b", "a%7eb")
@example(".a", "%2Ea")
@example("", "%")
@example("x" * 400, folder_name("x" * 400))
def test_two_addresses_share_a_folder_only_if_equal_but_for_case(one: str, two: str) -> None:
    same = one.casefold() == two.casefold()
    assert (folder_name(one) == folder_name(two)) == same
    assert folder_name(one.upper().casefold()) == folder_name(one.upper())


@pytest.mark.parametrize(
    ("recipient", "name"),
    [
        ("Bob@Example.com", "bob@example.com"),
        ("a+b=c_d-e@x", "a+b=c_d-e@x"),
        ("..", "%2E%2E"),
        (".hidden.", "%2Ehidden."),
        ("../../x", "%2E%2E%2F..%2Fx"),
        ('"a b"@x', "%22a%20b%22@x"),
        ("zoë", "zo%C3%AB"),
        ("\udcff\0\r", "%FF%00%0D"),
        ("latest.eml", "latest.eml"),
        ("", "%"),
    ],
)
def test_folder_names_are_the_documented_ones(recipient: str, name: str) -> None:
    assert folder_name(recipient) == name


# Nothing is lost in between


@given(st.lists(mails(), max_size=4))
def test_a_file_of_lines_splits_at_its_line_ends(some: list[Mail]) -> None:
    lines = [json_line(mail) for mail in some]
    ends = list(accumulate(map(len, lines)))
    data = b"".join(lines)
    assert entries(data, b"") == lines
    assert all(data[end - 1 : end] == b"\n" for end in ends)


def test_a_long_json_line_is_written_like_a_short_one() -> None:
    line = json_line(Mail(EXAMPLE, LONG))
    assert line == json.dumps(json.loads(line), ensure_ascii=False).encode() + b"\n"


def test_an_envelope_nested_too_deep_is_none() -> None:
    names = b"Return-Path: a\nX-Peer: a\nX-MailFrom: a\nX-RcptTo: a\nX-Envelope: "
    with pytest.raises(FormatError):
        block.decode(names + b"[" * 100_000 + b"}\n")
