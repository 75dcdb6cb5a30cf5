"""Files that grow: what a crash leaves at the end, and where entries are, from the end."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from locking import leave_dotlock
from strategies import mails, wire_mails
from support import WINDOWS, entries, json_line
from test_envelope import EXAMPLE

from mailhandlers.disk.files import Disk
from mailhandlers.mail import Mail
from mailhandlers.stores import json_lines, mbox
from mailhandlers.stores.entries import backwards
from mailhandlers.stores.growing import GrowingStore
from mailhandlers.stores.json_lines import JsonLinesStore
from mailhandlers.stores.mbox import MboxStore

FOREIGN = b"From eva Sat Nov 21 08:48:00 2026\nSubject: not ours\n\nFrom\nhere\n\n"


def mbox_entry(mail: Mail) -> bytes:
    return b"".join(mbox.encode(mail))


# Mending what a crash left


def mended(data: bytes, form: type[GrowingStore], begun: int | None = None) -> bytes:
    """Return what is left of a file that holds *data*, after a writer mended its end.

    *begun* is where a writer began to append that was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store")
        path.write_bytes(data)
        if begun is not None and form is MboxStore:
            leave_dotlock(path, begun)
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
    step = 40 if WINDOWS else 3  # Wine takes 50 ms for a file
    for length in {*range(0, len(last), step), *range(len(last) - 9, len(last))}:
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
    ("file", "form", "back"),
    [
        (MboxStore, mbox_entry, mbox.decode),
        (JsonLinesStore, json_line, json_lines.decode),
    ],
    ids=["mbox", "json lines"],
)
@settings(max_examples=25)
@given(st.lists(wire_mails, min_size=1, max_size=3), wire_mails, st.data())
def test_what_follows_a_torn_entry_reads_as_it_was_sent(
    file: type[GrowingStore],
    form: Callable[[Mail], bytes],
    back: Callable[[bytes], Mail],
    some: list[Mail],
    after: Mail,
    data: st.DataObject,
) -> None:
    *whole, torn = some
    cut = data.draw(st.integers(0, len(form(torn))))
    before = b"".join(map(form, whole))
    left = mended(before + form(torn)[:cut], file, len(before))
    read = [back(entry) for entry in entries(left + form(after), file)]
    assert read in ([*whole, after], [*some, after])


@pytest.mark.parametrize("foreign", [FOREIGN, FOREIGN[:-1], FOREIGN[:-2], FOREIGN[:-6]])
def test_mail_of_another_program_is_kept_and_closed(foreign: bytes) -> None:
    assert mended(foreign, MboxStore) == foreign.rstrip(b"\n") + b"\n\n"


def test_a_line_of_another_program_is_kept_and_closed() -> None:
    assert mended(b'{"a": 1}\n{"b": ', JsonLinesStore) == b'{"a": 1}\n{"b": \n'


# Entries from the end


def entries_from_the_front(data: bytes, store: type[GrowingStore]) -> list[bytes]:
    found: list[bytes] = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        is_begun = len(line) < 4096 and not line.endswith(b"\n") and found[-1:] != []
        is_begun = is_begun and found[-1].endswith((b"\n\n", b"\n\r\n"))
        is_from = line.startswith(b"From ") and (b" " + DATE in line[:4096] or is_begun)
        if not found or store is JsonLinesStore or is_from:
            found.append(line)
        else:
            found[-1] += line
    return found


DATE = b"Sat Nov 21 08:48:00 2026"
FROM = b"From x " + DATE + b"\n"
long_files = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\n", b"From ", b"\nFrom ", b"\n\n", b"\r\n", b"Fro", b"From x\n", FROM, DATE]
        ),
        st.integers(65520, 65545).map(lambda n: b"x" * n),
        st.integers(131060, 131080).map(lambda n: b"y" * n),
    ),
    max_size=8,
).map(b"".join)


@given(long_files, st.sampled_from([JsonLinesStore, MboxStore]))
def test_entries_from_the_end_are_those_from_the_front(
    data: bytes, store: type[GrowingStore]
) -> None:
    assert entries(data, store) == entries_from_the_front(data, store)


@pytest.mark.parametrize("store", [JsonLinesStore, MboxStore])
@pytest.mark.parametrize("behind", range(65536 - 8, 65536 + 40))
def test_a_beginning_across_two_blocks_is_found(store: type[GrowingStore], behind: int) -> None:
    data = FROM + FROM.ljust(behind, b"x")
    assert len(entries(data, store)) == len(entries_from_the_front(data, store))
    assert entries(data, store) == entries_from_the_front(data, store)


def test_the_last_entry_of_a_large_file_costs_one_block() -> None:
    size = 1 << 40
    asked = []

    def read(start: int, end: int) -> bytes:
        asked.append(end - start)
        return FROM.rjust(end - start, b"\n")

    assert next(backwards(read, size, MboxStore.entry_start)) == (size - len(FROM), size)
    assert sum(asked) <= 1 << 17
