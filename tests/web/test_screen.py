"""What the list shows of what a person writes into the search field."""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime, timedelta, timezone
from itertools import repeat

import pytest
from cases import case
from hypothesis import given
from hypothesis import strategies as st
from test_envelope import EXAMPLE

from mailhandlers import StoredMessage
from mailhandlers.mail import Mail
from mailhandlers.stores.store import Entry
from mailhandlers.web.screen import Tally, criteria_for


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


def letter() -> StoredMessage:
    content = (
        b"Subject: Your order\r\nFrom: Shop <shop@x>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nThank you\r\n"
        b"--b\r\nContent-Type: application/pdf\r\n"
        b"Content-Disposition: attachment; filename=invoice-4711.pdf\r\n\r\n%PDF\r\n--b--\r\n"
    )
    received = datetime(2026, 11, 30, 23, 30, tzinfo=timezone.utc)
    return StoredMessage.parse(content, dataclasses.replace(EXAMPLE, received=received))


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("has:attachment", True),
        ("HAS:attachments order", True),
        ("-has:attachment", False),
        ("has:nothing", False),
        ("invoice-4711.pdf", True),
        ("-invoice-4711", False),
        ("order -welcome", True),
        ("order -thank", False),
        ('-"thank you"', False),
        ('-"thank me"', True),
        ("-to:bob", False),
        ("-to:dora -from:eva@y", True),
        ("-from:shop", False),
        ("-subject:welcome", True),
        ("thank-you", False),
        ("-", True),
        ("--thank", True),
        ('"-thank"', False),
        ("after:2026-11-30", True),
        ("after:2026-12-01", False),
        ("before:2026-11-30", False),
        ("before:2026-12-01", True),
        ("after:2026-11-30 before:2026-12-01", True),
        ("-before:2026-12-01", False),
        ("before:tomorrow", False),
        ("-before:tomorrow", True),
        ("after:2026-1-1", False),
    ],
)
def test_what_can_be_asked(text: str, is_found: bool) -> None:
    assert criteria_for(text, timezone.utc).match(letter()) is is_found


def test_a_day_is_one_of_the_zone() -> None:
    east = timezone(timedelta(hours=2))
    assert criteria_for("after:2026-12-01", east).match(letter())
    assert not criteria_for("before:2026-12-01", east).match(letter())


@pytest.mark.parametrize("year", [1, 9999])
def test_a_day_of_any_year_is_one(year: int) -> None:
    for month, day, hour in ((1, 1, 0), (12, 31, 23)):
        received = datetime(year, month, day, hour, tzinfo=timezone.utc)
        envelope = dataclasses.replace(EXAMPLE, received=received)
        message = StoredMessage.parse(b"\n", envelope)
        for hours in (-14, 14):
            zone = timezone(timedelta(hours=hours))
            assert criteria_for("before:2026-11-30", zone).match(message) is (year == 1)


@given(st.text(st.sampled_from('ab-:" to:has:attachmentbefore:2026-11-30')))
def test_any_text_is_a_search(text: str) -> None:
    assert criteria_for(text).match(letter()) in (True, False)


@pytest.mark.parametrize("piece", ['"', "-", "has:", "before:", "before:2026-", "to:", " -"])
def test_to_read_a_search_takes_time_in_proportion(piece: str) -> None:
    def seconds(count: int) -> float:
        begun = time.process_time()
        criteria_for(piece * (count // len(piece)))
        return time.process_time() - begun

    # The least of some: what else the process does, such as to collect garbage, comes on top.
    few, many = (min(seconds(count) for _ in range(3)) for count in (20_000, 80_000))
    assert many < 8 * few + 0.2


def test_a_count_that_takes_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("x", "x", lambda: Mail(EXAMPLE, b""))
    tally = Tally(repeat(entry, 3500))
    next(tally)
    assert tally.count_rest()
    assert tally.taken == 3500
    monkeypatch.setattr("mailhandlers.web.screen._LONGEST_COUNT", -1)
    endless = Tally(repeat(entry))
    assert not endless.count_rest()
    assert endless.taken == 1000


@pytest.mark.parametrize("text", ["to:münchen", "to:xn--mnchen-3ya", "to:b@münchen.example"])
def test_a_domain_in_unicode_or_in_punycode(text: str) -> None:
    for domain in ("münchen", "xn--mnchen-3ya"):
        envelope = dataclasses.replace(EXAMPLE, rcpt_tos=[f"b@{domain}.example"])
        assert criteria_for(text).match(StoredMessage.parse(b"\n", envelope))
