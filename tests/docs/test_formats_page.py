"""The reader on the page of the formats, which imports nothing of ours, reads what we store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("docutils", reason="docutils reads the page")

from markup import sections
from strategies import anything, contents, mails
from support import json_line

from mailhandlers import block
from mailhandlers.mail import Mail
from mailhandlers.stores import mbox
from mailhandlers.stores.people import folder_name

PAGE = Path(__file__).parents[2] / "docs/reference/formats.rst"


def program(name: str) -> dict[str, Any]:
    """Return the names of the program that the page calls *name*."""
    blocks = [block for section in sections(PAGE) for block in section.blocks]
    (text,) = (
        code.text for comment, code in pairwise(blocks) if comment.text == f"file: {name}"
    )
    names: dict[str, Any] = {}
    exec(compile(text, name, "exec"), names)
    return names


READER = program("independent.py")
NAME_OF: Callable[[str], str] = program("folder_name.py")["folder_name"]


KEYS = ("id", "peer", "helo", "auth", "mail_from", "mail_options", "rcpt_tos", "size")


def chosen(found: Iterable[tuple[dict[str, Any], bytes]]) -> list[Any]:
    """Return the octets that were read, and what is comparable of the envelopes."""
    return [(octets, [facts[key] for key in KEYS]) for facts, octets in found]


def as_sent(some: list[Mail]) -> list[Any]:
    return chosen((mail.envelope.to_dict(), mail.content) for mail in some)


@given(mail=mails(contents))
def test_a_mail_file(mail: Mail) -> None:
    found = READER["mail_file"](b"".join(block.encode(mail)))
    assert chosen([found]) == as_sent([mail])


@given(some=st.lists(mails(contents), max_size=3))
def test_an_mbox(some: list[Mail]) -> None:
    data = b"".join(piece for mail in some for piece in mbox.encode(mail))
    assert chosen(READER["mbox"](data)) == as_sent(some)


@given(some=st.lists(mails(contents), max_size=3))
def test_json_lines(some: list[Mail]) -> None:
    data = b"".join(map(json_line, some))
    assert chosen(READER["json_lines"](data)) == as_sent(some)
    assert chosen(READER["json_lines"](data + b'{"id": "')) == as_sent(some)


@given(address=anything | st.just("~" * 300))
def test_the_name_of_a_folder(address: str) -> None:
    assert NAME_OF(address) == folder_name(address)
