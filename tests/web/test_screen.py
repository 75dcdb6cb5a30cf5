"""What the list shows of what a person writes into the search field."""

from __future__ import annotations

import dataclasses

import pytest
from cases import case
from test_envelope import EXAMPLE

from mailhandlers import StoredMessage
from mailhandlers.web.screen import criteria_for


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("grüße", True),
        ('"order 4711"', True),
        ("ZEBRA schöne", True),
        ("uuml", False),
        ("zebra giraffe", False),
    ],
)
def test_the_search_looks_at_the_text_as_it_is_read(text: str, is_found: bool) -> None:
    assert criteria_for(text).match(case("search-html-entities")) is is_found


@pytest.mark.parametrize("text", ["to:münchen", "to:xn--mnchen-3ya", "to:b@münchen.example"])
def test_a_domain_in_unicode_or_in_punycode(text: str) -> None:
    for domain in ("münchen", "xn--mnchen-3ya"):
        envelope = dataclasses.replace(EXAMPLE, rcpt_tos=[f"b@{domain}.example"])
        assert criteria_for(text).match(StoredMessage.parse(b"\n", envelope))
