"""The names of recipients' folders."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from strategies import anything

from mailhandlers.stores.people import folder_name


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
