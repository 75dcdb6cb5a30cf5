"""The headers above stored mail, the form of its lines, and what of it is as received."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import contents, envelopes, mails, wire_mails
from test_envelope import EXAMPLE

from mailhandlers import Envelope, block
from mailhandlers.block import FormatError
from mailhandlers.mail import Mail


def mail_form(mail: Mail) -> bytes:
    return b"".join(block.encode(mail))


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


def test_an_envelope_nested_too_deep_is_none() -> None:
    names = b"Return-Path: a\nX-Peer: a\nX-MailFrom: a\nX-RcptTo: a\nX-Envelope: "
    with pytest.raises(FormatError):
        block.decode(names + b"[" * 100_000 + b"}\n")
