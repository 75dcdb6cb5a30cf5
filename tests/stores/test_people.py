"""The names of recipients' folders."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from shell import raw_mail
from strategies import anything
from support import HELLO
from test_envelope import EXAMPLE

from mailhandlers import Inbox, MaildirSink, PerRecipientDir, read_messages
from mailhandlers.disk.files import Disk
from mailhandlers.handler import Handler
from mailhandlers.mail import Mail
from mailhandlers.stores.people import PeopleStore, folder_name


@given(anything)
@example("..")
@example("/etc/passwd")
@example("~")
@example("a.")
@example("AUX.x")
def test_a_folder_name_stays_in_its_folder(recipient: str) -> None:
    name = folder_name(recipient)
    assert re.fullmatch(r"[A-Za-z0-9@+_=%~-]([A-Za-z0-9@.+_=%~-]{,198}[^.])?", name)
    # What Windows takes for a device, with any ending.
    assert not re.match(r"(?i)(con|prn|aux|nul|(com|lpt)\d)(\.|$)", name)


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
        (".hidden.", "%2Ehidden%2E"),
        ("../../x", "%2E%2E%2F..%2Fx"),
        ('"a b"@x', "%22a%20b%22@x"),
        ("zoë", "zo%C3%AB"),
        ("\udcff\0\r", "%FF%00%0D"),
        ("latest.eml", "latest.eml"),
        ("a...", "a%2E%2E%2E"),
        ("NUL", "%6Eul"),
        ("com1.txt", "%63om1.txt"),
        ("lpt9.a@x", "%6Cpt9.a@x"),
        ("con@x", "con@x"),
        ("nul ", "nul%20"),
        ("console", "console"),
        ("", "%"),
    ],
)
def test_folder_names_are_the_documented_ones(recipient: str, name: str) -> None:
    assert folder_name(recipient) == name


@pytest.mark.posix  # on Windows these were no folders
@pytest.mark.parametrize("recipient", ["bob@example.com.", "nul", "Aux.x"])
def test_the_folders_of_1_1_stay_readable(tmp_path: Path, recipient: str) -> None:
    store = PeopleStore(str(tmp_path / "people"), Disk(sync=False))
    first, second = (
        Mail(replace(EXAMPLE, id=f"176371488{n}.M000001P1Q1.x", rcpt_tos=[recipient]), HELLO)
        for n in range(2)
    )
    store.add([first])
    (tmp_path / "people" / folder_name(recipient)).rename(
        tmp_path / "people" / recipient.casefold()
    )
    store.add([second])
    for messages in (read_messages(store.path), read_messages(store.path, to=recipient)):
        ids = [message.envelope.id for message in messages if message.envelope]
        assert ids == [first.envelope.id, second.envelope.id]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("handler", [PerRecipientDir, MaildirSink])
def test_an_accent_is_the_same_in_both_forms_whichever_store(
    handler: type[Handler], form: Literal["NFC", "NFD"], tmp_path: Path
) -> None:
    address = unicodedata.normalize(form, "\xe9va@\xe9cole.example")
    handler(tmp_path / "store").store_all([raw_mail(HELLO, [address])])
    inbox = Inbox(tmp_path / "store")
    for other in ("NFC", "NFD"):
        assert len(inbox.messages(to=unicodedata.normalize(other, address))) == 1


def test_mail_that_somebody_saves_beside_hides_none(tmp_path: Path) -> None:
    store = tmp_path / "people"
    PerRecipientDir(store).store_all([raw_mail(HELLO)])
    inbox = Inbox(store)
    assert len(inbox) == 1
    (store / "saved.eml").write_bytes(b"To: bob@example.com\r\nSubject: saved\r\n\r\n")
    for each in (inbox, Inbox(store)):
        assert {m["Subject"] for m in each} == {"hello", "saved"}
        assert len(each.messages(to="bob@example.com")) == 2
    (store / "saved.eml").unlink()
    assert [m["Subject"] for m in inbox] == ["hello"]
