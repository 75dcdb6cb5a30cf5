from __future__ import annotations

import errno
import json
import re
from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from strategies import anything, envelopes

from mailhandlers import Envelope
from mailhandlers.block import block_headers
from mailhandlers.mail import Identity, Mail, is_id, local_time

EXAMPLE = Envelope(
    id="1763714880.M123456P4242Q000001.laptop",
    received=datetime(2026, 11, 21, 8, 48, 0, 123456, timezone.utc),
    peer="127.0.0.1:54321",
    helo="laptop",
    protocol="ESMTPSA",
    tls="TLSv1.3",
    auth="eva",
    mail_from="eva@example.com",
    mail_options=["BODY=8BITMIME"],
    rcpt_tos=["bob@example.com", "carol@example.com"],
    size=2048,
)
AS_JSON = (
    '{"id": "1763714880.M123456P4242Q000001.laptop", '
    '"received": "2026-11-21T08:48:00.123456Z", "peer": "127.0.0.1:54321", '
    '"helo": "laptop", "protocol": "ESMTPSA", "tls": "TLSv1.3", "auth": "eva", '
    '"mail_from": "eva@example.com", "mail_options": ["BODY=8BITMIME"], '
    '"rcpt_tos": ["bob@example.com", "carol@example.com"], "size": 2048, '
    '"sha256": null}'
)


def test_the_json_form_is_the_documented_one() -> None:
    assert EXAMPLE.to_json() == AS_JSON
    assert Envelope.from_json(AS_JSON) == EXAMPLE
    assert Envelope.from_json(AS_JSON.encode()) == EXAMPLE


@given(envelopes())
def test_json_gives_back_any_envelope(envelope: Envelope) -> None:
    assert Envelope.from_json(envelope.to_json()) == envelope
    assert Envelope.from_dict(json.loads(envelope.to_json())) == envelope


@given(envelopes())
def test_the_json_form_is_one_line_of_printable_ascii(envelope: Envelope) -> None:
    text = envelope.to_json()
    assert text.isascii()
    assert text.replace("\x7f", "").isprintable()


@given(envelopes())
def test_no_name_breaks_out_of_its_header(envelope: Envelope) -> None:
    headers = block_headers(envelope)
    assert [name for name, _ in headers] == [
        *("Return-Path", "X-Peer", "X-MailFrom", "X-RcptTo", "X-Envelope"),
    ]
    for _, value in headers[:-1]:
        assert value.isprintable()
        value.encode()
    assert Envelope.from_json(headers[-1][1]) == envelope


def test_headers_show_what_people_look_for() -> None:
    assert block_headers(EXAMPLE) == [
        ("Return-Path", "<eva@example.com>"),
        ("X-Peer", "127.0.0.1:54321"),
        ("X-MailFrom", "eva@example.com"),
        ("X-RcptTo", "bob@example.com, carol@example.com"),
        ("X-Envelope", AS_JSON),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\rX-Peer: forged", r"a\x0dX-Peer: forged"),
        ("\0\t\x7f\x85", r"\x00\x09\x7f\x85"),
        ("\udcff", r"\xff"),
        ("\u2028\u202e", r"\u2028\u202e"),
        ("zoë@ümlaut.test", "zoë@ümlaut.test"),
    ],
)
def test_control_characters_are_shown_escaped(name: str, shown: str) -> None:
    assert dict(block_headers(replace(EXAMPLE, mail_from=name)))["X-MailFrom"] == shown


def test_an_envelope_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        EXAMPLE.helo = "another"  # type: ignore[misc]


def test_any_time_zone_is_written_as_utc() -> None:
    zone = timezone(timedelta(hours=-5))
    moved = replace(EXAMPLE, received=EXAMPLE.received.astimezone(zone))
    assert moved.to_json() == AS_JSON


@pytest.mark.parametrize("field", json.loads(AS_JSON))
@pytest.mark.parametrize("wrong", [True, 1.5, {}, [1]])
def test_a_mistyped_field_is_a_value_error(field: str, wrong: object) -> None:
    with pytest.raises(ValueError, match=field):
        Envelope.from_dict({**json.loads(AS_JSON), field: wrong})


@pytest.mark.parametrize(
    "field", sorted(json.loads(AS_JSON).keys() - {"tls", "auth", "sha256"})
)
def test_a_missing_field_is_a_value_error(field: str) -> None:
    record: dict[str, Any] = json.loads(AS_JSON)
    del record[field]
    with pytest.raises(ValueError, match=field):
        Envelope.from_dict(record)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"x"', "{}", AS_JSON[:-1]])
def test_other_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        Envelope.from_json(text)


@pytest.mark.parametrize("moment", ["yesterday", "", "2026-11-21T08:48:00"])
def test_a_moment_without_a_zone_is_a_value_error(moment: str) -> None:
    with pytest.raises(ValueError):
        Envelope.from_dict({**json.loads(AS_JSON), "received": moment})


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_moment_that_no_clock_can_show_is_a_value_error(moment: str) -> None:
    with pytest.raises(ValueError, match="received"):
        Envelope.from_dict({**EXAMPLE.to_dict(), "received": moment})


def test_any_time_zone_is_read_as_utc() -> None:
    record = {**EXAMPLE.to_dict(), "received": "2026-11-21T10:48:00+02:00"}
    received = Envelope.from_dict(record).received
    assert (received.hour, received.tzinfo) == (8, timezone.utc)


def test_an_envelope_of_version_1_0_has_no_checksum() -> None:
    old = AS_JSON.replace(', "sha256": null', "")
    assert old != AS_JSON
    assert Envelope.from_json(old) == EXAMPLE


def test_a_checksum_is_made_once() -> None:
    mail = Mail(EXAMPLE, b"hello").sealed()
    assert mail.envelope.sha256 == (
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )
    assert mail._replace(content=b"changed").sealed().envelope == mail.envelope


def test_further_keys_are_ignored() -> None:
    assert Envelope.from_dict({**json.loads(AS_JSON), "subject": "hi"}) == EXAMPLE


def test_identities_are_unique_and_sort_by_arrival() -> None:
    made = [Identity.now() for _ in range(5000)]
    assert [i.id for i in made] == sorted({i.id for i in made})
    assert [i.received for i in made] == sorted({i.received for i in made})


@given(anything)
@example("x" * 255)
def test_a_host_of_any_name_gives_a_file_name(host: str) -> None:
    name = Identity.at(1763714880_000042, 4242, 1, host).id
    assert re.fullmatch(r"1763714880\.M000042P4242Q000001\.[A-Za-z0-9._-]+", name)
    assert len(name) < 150
    assert is_id(name)


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "Invalid argument"), OverflowError()])
def test_a_moment_without_local_time_is_shown_as_it_is(error: Exception) -> None:
    class Moment(datetime):
        def astimezone(self, tz: object = None) -> Moment:
            raise error

    moment = Moment(1969, 1, 1, tzinfo=timezone.utc)
    assert local_time(moment) is moment
    now = datetime.now(timezone.utc)
    assert local_time(now) == now
