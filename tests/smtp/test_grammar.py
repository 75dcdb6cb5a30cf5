"""Addresses that RFC 5321 knows, and strict=yes, which refuses all others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support import Client, Server

from mailhandlers import MailCatcher
from mailhandlers.smtp.grammar import begins_with_path

GOOD = [
    "<eva@example.com>",
    " <eva@example.com> SIZE=10",
    "<>",
    "<Postmaster>",
    "<a.b+c=d!#$%&'*/?^_`{|}~-@x-y.example>",
    '<"a b"@example.com>',
    r'<"a\"b\\>@"@example.com>',
    '<""@example.com>',
    "<a@b>",
    "<a@127.0.0.1>",
    "<a@[127.0.0.1]>",
    "<a@[IPv6:::1]>",
    "<a@[ipv6:2001:db8::1]>",
    "<@one.example,@two.example:a@example.com>",
    "<zoë@ü.example>",
    "<a@xn--mnchen-3ya.example>",
]
BAD = [
    "<@@>",
    "<johnathon@>",
    "<a b@c>",
    "<a@x..org>",
    "<.a@b>",
    "<a.@b>",
    "<a..b@c>",
    "<@b>",
    "<a>",
    "<a@b@c>",
    "<a@-b>",
    "<a@b->",
    "<a@b_c>",
    "<a@b.>",
    "<a@[>",
    "<a@[300.0.0.1]>",
    "<a@[::1]>",
    "<a@[IPv6:1::2::3]>",
    "<a,b@c>",
    "<a@b>x",
    "<a@b",
    "a@b",
    "< a@b>",
    "<a@b >",
    '<"a@b>',
    '<"a"b@c>',
    "<Eva <eva@example.com>>",
    "<eva@example.com(home)>",
    "<mailto:eva@example.com>",
    "<a\udcffb@c>",
    "<a\tb@c>",
    "<a\0@c>",
    "",
]


@pytest.mark.parametrize("text", GOOD)
def test_an_address(text: str) -> None:
    assert begins_with_path(text)


@pytest.mark.parametrize("text", BAD)
def test_no_address(text: str) -> None:
    assert not begins_with_path(text)


@pytest.mark.parametrize("text", ["a.", "a-", '"', '\\"', "@a,", "a", "1:", "@"])
def test_its_time_grows_with_the_length(text: str) -> None:
    for start in ["<", "<a@", "<@", '<"', "<a@["]:
        began = time.process_time()
        assert not begins_with_path(start + text * 100_000)
        assert time.process_time() - began < 1


@pytest.mark.parametrize("address", [a for a in BAD if a[:1] == "<" and "\0" not in a])
def test_strict_refuses(address: str) -> None:
    with MailCatcher(strict=True) as mail, Client(mail.port) as client:
        client.command("EHLO laptop")
        assert client.command(f"MAIL FROM:{address}")[:9] == "553 5.1.3"
        client.command("MAIL FROM:<eva@example.com>")
        assert client.command(f"RCPT TO:{address}")[:9] == "553 5.1.3"
        assert mail.sessions[0].commands[-1].reply[:3] == "553"


@pytest.mark.parametrize("address", [a for a in GOOD if a.isascii() and a[0] == "<" != a[:2]])
def test_strict_takes(address: str) -> None:
    with MailCatcher(strict=True) as mail, Client(mail.port) as client:
        client.command("EHLO laptop")
        assert client.command(f"MAIL FROM:{address}") == "250 OK"
        assert client.command(f"RCPT TO:{address}")[:3] == ("553" if address == "<>" else "250")


def test_strict_wants_smtputf8_for_utf8() -> None:
    with MailCatcher(strict=True) as mail, Client(mail.port) as client:
        client.command("EHLO laptop")
        assert client.command("MAIL FROM:<zoë@example.com>")[:9] == "553 5.6.7"
        assert client.command("MAIL FROM:<zoë@example.com> SMTPUTF8") == "250 OK"
        assert client.command("RCPT TO:<bob@münchen.example>") == "250 OK"


def test_the_command_may_be_strict(tmp_path: Path) -> None:
    with Server("MailFile", tmp_path / "m", "strict=yes") as server:
        assert server.send(sender="johnathon@")[:3] == "553"
        assert server.send(to=["a@x..org"])[:3] == "553"
        assert server.send(to=[""])[:3] == "553"
        assert server.send(sender="") == "250 OK"
        assert server.errors() == ""


def test_without_it_all_is_taken() -> None:
    with MailCatcher() as mail, Client(mail.port) as client:
        for address in ["@@", "johnathon@", "a b@c", ""]:
            assert client.send(sender=address, to=[address]) == "250 OK"
        assert len(mail) == 4
