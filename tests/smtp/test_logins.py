"""AUTH and TLS: who may log in, what of it is recorded, and that no password is."""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
import logging
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

import pytest
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP
from conftest import Certificate
from support import (
    HELLO,
    HOST,
    PATIENCE,
    Client,
    Kind,
    Process,
    Server,
    controlled,
    reserved_port,
    tree,
    wait_until,
)

from mailhandlers import Envelope, MailCatcher, MailFile, options, read_latest, read_messages
from mailhandlers.smtp.endpoints import is_loopback
from mailhandlers.smtp.private import NEEDS

USER, PASSWORD = "eva", "s3cret-of-eva"
LAYERS = ["clear", "starttls", "smtps"]


def flags(certificate: Certificate, layer: str) -> list[str]:
    """The stock command's flags for a server that offers *layer*."""
    names = {"starttls": ("--tlscert", "--tlskey"), "smtps": ("--smtpscert", "--smtpskey")}
    if layer == "clear":
        return ["-n"]
    certificate_flag, key_flag = names[layer]
    return [
        "-n",
        certificate_flag,
        str(certificate.certificate),
        key_flag,
        str(certificate.key),
    ]


def connected(server: Server, layer: str, tls: ssl.SSLContext) -> smtplib.SMTP:
    if layer == "smtps":
        return smtplib.SMTP_SSL(HOST, server.port, "laptop", context=tls, timeout=PATIENCE)
    client = smtplib.SMTP(HOST, server.port, "laptop", timeout=PATIENCE)
    if layer == "starttls":
        client.starttls(context=tls)
    return client


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def credentials(user: str = USER, password: str = PASSWORD) -> str:
    return in_base64(f"\0{user}\0{password}")


def envelope_of(path: Path) -> Envelope:
    envelope = read_latest(path).envelope
    assert envelope is not None
    return envelope


# Who may log in


@pytest.mark.parametrize("auth", ["auth=any", f"auth={USER}:{PASSWORD}"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("initial", [True, False], ids=["initial response", "challenge"])
def test_smtplib_logs_in(
    tmp_path: Path,
    certificate: Certificate,
    auth: str,
    layer: str,
    mechanism: str,
    initial: bool,
) -> None:
    path = tmp_path / "latest.mail"
    with (
        Server("MailFile", path, auth, flags=flags(certificate, layer)) as server,
        connected(server, layer, certificate.client) as client,
    ):
        client.ehlo()
        digests = [] if auth == "auth=any" else ["CRAM-MD5"]
        offered = ["PLAIN", *digests, "LOGIN", "OAUTHBEARER", "XOAUTH2"]
        assert client.esmtp_features["auth"].split() == offered
        client.user, client.password = USER, PASSWORD
        respond = getattr(client, f"auth_{mechanism.lower()}")
        code, _ = client.auth(mechanism, respond, initial_response_ok=initial)
        assert code == 235
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
    envelope = envelope_of(path)
    assert envelope.auth == USER
    assert envelope.protocol == ("ESMTPA" if layer == "clear" else "ESMTPSA")


def test_every_handler_records_the_login_and_no_password(kind: Kind, store: Path) -> None:
    with (
        Server(kind.handler, store, f"auth={USER}:{PASSWORD}") as server,
        smtplib.SMTP(HOST, server.port) as client,
    ):
        client.login(USER, PASSWORD)
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
    assert [m.envelope and m.envelope.auth for m in read_messages(store)] == [USER]
    assert PASSWORD.encode() not in b"".join(tree(store.parent).values())


def test_any_takes_every_user(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    with Server("MailFile", path, "auth=any") as server:
        for user, password in [("a", "b"), ("Zoë", "ü"), ("c", ""), ("a:b", "c:d")]:
            with server.client() as client:
                client.command("EHLO laptop")
                reply = client.command(f"AUTH PLAIN {credentials(user, password)}")
                assert reply == "235 2.7.0 Authentication successful"
                assert client.send() == "250 OK"
            assert envelope_of(path).auth == user


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(
    ("user", "password"),
    [(USER, "wrong"), ("wrong", PASSWORD), ("", ""), (USER, ""), (USER.upper(), PASSWORD)],
)
def test_wrong_credentials_get_535(
    tmp_path: Path, mechanism: str, user: str, password: str
) -> None:
    path = tmp_path / "latest.mail"
    with (
        Server("MailFile", path, f"auth={USER}:{PASSWORD}") as server,
        smtplib.SMTP(HOST, server.port) as client,
    ):
        client.ehlo()
        client.user, client.password = user, password
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
        assert caught.value.smtp_code == 535
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
        assert envelope_of(path).auth is None
        client.login(USER, PASSWORD)


@pytest.mark.parametrize("layer", LAYERS)
def test_smtplib_logs_in_with_cram_md5(
    tmp_path: Path, certificate: Certificate, layer: str
) -> None:
    path = tmp_path / "latest.mail"
    auth = f"auth={USER}:{PASSWORD}"
    with (
        Server("MailFile", path, auth, flags=flags(certificate, layer)) as server,
        connected(server, layer, certificate.client) as client,
    ):
        client.ehlo()
        for user, password, code in [
            (USER, "wrong", 535),
            ("wrong", PASSWORD, 535),
            (USER, PASSWORD, 235),
        ]:
            client.user, client.password = user, password
            if code == 235:
                assert client.auth("CRAM-MD5", client.auth_cram_md5)[0] == code
            else:
                with pytest.raises(smtplib.SMTPAuthenticationError, match=str(code)):
                    client.auth("CRAM-MD5", client.auth_cram_md5)
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
    assert envelope_of(path).auth == USER


def test_cram_md5_asks_each_time_for_another_proof(tmp_path: Path) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", f"auth={USER}:{PASSWORD}") as server,
        server.client() as client,
    ):
        client.command("EHLO laptop")
        challenges = set()
        for answer in ["*", "", "!", in_base64("eva"), in_base64("eva 00"), in_base64("é ü")]:
            challenge = client.command("auth cram-md5")
            assert challenge[:4] == "334 "
            challenges.add(challenge)
            assert client.command(answer)[:3] == ("501" if answer in ("*", "!") else "535")
        assert len(challenges) == 6
        assert client.command(f"AUTH CRAM-MD5 {in_base64('eva')}")[:3] == "501"
        assert client.send() == "250 OK"


def test_any_has_no_password_to_prove(tmp_path: Path) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=any") as server,
        server.client() as client,
    ):
        assert "CRAM-MD5" not in client.command("EHLO laptop")
        assert client.command("AUTH CRAM-MD5")[:9] == "504 5.5.4"


# Tokens


def xoauth2(user: str = USER, token: str = PASSWORD) -> str:
    return in_base64(f"user={user}\1auth=Bearer {token}\1\1")


def oauthbearer(user: str = USER, token: str = PASSWORD) -> str:
    return in_base64(f"n,a={user},\1host=localhost\1port=25\1auth=Bearer {token}\1\1")


TOKENS = pytest.mark.parametrize(
    ("mechanism", "response"), [("XOAUTH2", xoauth2), ("OAUTHBEARER", oauthbearer)]
)


@TOKENS
@pytest.mark.parametrize("initial", [True, False], ids=["initial response", "challenge"])
def test_a_token_logs_in(
    tmp_path: Path, mechanism: str, response: Callable[..., str], initial: bool
) -> None:
    path = tmp_path / "latest.mail"
    with (
        Server("MailFile", path, f"auth={USER}:{PASSWORD}") as server,
        server.client() as client,
    ):
        assert f" {mechanism}" in client.command("EHLO laptop")
        for user, token in [("wrong", PASSWORD), (USER, "wrong"), (USER, PASSWORD[:-1])]:
            if initial:
                told = client.command(f"AUTH {mechanism} {response(user, token)}")
            else:
                assert client.command(f"auth {mechanism.lower()}") == "334 "
                told = client.command(response(user, token))
            # What was wrong, which the client takes note of: RFC 7628 section 3.2.2.
            assert json.loads(base64.b64decode(told.removeprefix("334 ")))["status"]
            assert client.command("" if mechanism == "XOAUTH2" else "AQ==")[:3] == "535"
        assert client.command(f"AUTH {mechanism} {response()}")[:3] == "235"
        assert client.send() == "250 OK"
    assert envelope_of(path).auth == USER
    assert PASSWORD.encode() not in path.read_bytes()


@TOKENS
def test_any_takes_every_token_however_long(
    mechanism: str, response: Callable[..., str]
) -> None:
    with MailCatcher(auth="any") as mail:
        for user, token in [(USER, "a-token"), ("zoë@ü", "y" * 8000)]:
            with Client(mail.port) as client:
                client.command("EHLO laptop")
                Client(mail.port).close()  # aiosmtpd's limits are those of all connections
                assert client.command(f"AUTH {mechanism} {response(user, token)}")[:3] == "235"
                assert client.send(b"x" * 2000 + b"\r\n")[:3] == "500"
                client.command("RSET")
                assert client.send() == "250 OK"
            assert mail.latest().envelope.auth == user
            assert response(user, token) not in repr(mail.sessions)


def test_a_name_may_hold_what_separates_it() -> None:
    with MailCatcher(auth="a,b=c:token") as mail, Client(mail.port) as client:
        client.command("EHLO laptop")
        assert (
            client.command(f"AUTH OAUTHBEARER {oauthbearer('a=2Cb=3Dc', 'token')}")[:3] == "235"
        )


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_token_that_is_none_is_told(mechanism: str) -> None:
    with MailCatcher(auth="any") as mail, Client(mail.port) as client:
        client.command("EHLO laptop")
        for text in [
            "",
            "x",
            "user=eva",
            "user=eva\1auth=Basic x\1\1",
            "n,a=eva,\1auth=Bearer \1",
        ]:
            assert client.command(f"AUTH {mechanism} {in_base64(text) or '='}")[:3] == "501"
        assert client.command(f"AUTH {mechanism}")[:3] == "334"
        assert client.command("*")[:3] == "501"
        assert client.command("AUTH PLAIN " + "A" * 12300)[:3] == "500"
        assert client.send() == "250 OK"


# auth_tls


@pytest.mark.parametrize("tls", ["starttls", "smtps", None])
def test_a_login_may_need_tls(tls: str | None) -> None:
    with MailCatcher(auth="any", auth_tls=True, tls=tls) as mail:
        trusting = ssl.create_default_context(cafile=mail.ca_file) if tls else None
        if trusting is not None:
            trusting.check_hostname = False
        with Client(mail.port, trusting if tls == "smtps" else None) as client:
            if tls != "smtps":
                assert "AUTH" not in client.command("EHLO laptop")
                assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "538"
                assert client.send() == "250 OK"
                assert mail.latest().envelope.auth is None
            if tls == "starttls" and trusting is not None:
                client.starttls(trusting)
            if tls is not None:
                assert " XOAUTH2" in client.command("EHLO laptop")
                assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "235"


def test_a_controller_that_needs_no_tls_is_told_too(tmp_path: Path) -> None:
    handler = MailFile(tmp_path / "m", auth="any", auth_tls=True)
    with (
        controlled(handler, auth_require_tls=False) as controller,
        Client(controller.port) as client,
    ):
        assert "AUTH" not in client.command("EHLO laptop")
        assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "538"


def test_the_command_wants_tls_for_a_login(tmp_path: Path, certificate: Certificate) -> None:
    tls = [*flags(certificate, "starttls"), "--no-requiretls"]
    with (
        Server("MailFile", tmp_path / "m", "auth=any", "auth_tls=yes", flags=tls) as server,
        smtplib.SMTP(HOST, server.port, timeout=PATIENCE) as client,
    ):
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login(USER, PASSWORD)
        client.starttls(context=certificate.client)
        client.login(USER, PASSWORD)


@pytest.mark.parametrize("auth", ["auth=any", f"auth={USER}:{PASSWORD}"])
def test_a_required_login_comes_before_mail(kind: Kind, store: Path, auth: str) -> None:
    replies = ["reply=MAIL x1: 450 4.2.1 Busy", "rset=clear"]
    with (
        Server(kind.handler, store, auth, "auth_required=yes", *replies) as server,
        server.client() as client,
    ):
        for greeting in ["EHLO laptop", "HELO laptop", "EHLO laptop"]:
            client.command(greeting)
            assert client.command("MAIL FROM:<a@b>") == "530 5.7.0 Authentication required"
            for command in ["MAIL", "RCPT TO:<a@b>", "RCPT", "DATA", "VRFY bob", "HELP"]:
                assert client.command(command) == "530 5.7.0 Authentication required"
            for command in ["NOOP", "RSET"]:
                assert client.command(command) == "250 OK"
        assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "235"
        assert client.command("MAIL FROM:<a@b>") == "450 4.2.1 Busy"
        assert client.send() == "250 OK"
    assert [m.envelope and m.envelope.auth for m in read_messages(store)] == [USER]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nanother:line\n"])
def test_a_password_may_come_from_a_file(tmp_path: Path, end: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{USER}:a:ü $x{end}", "utf-8", newline="")
    with (
        Server("MailFile", tmp_path / "latest.mail", f"auth=@{secret}") as server,
        server.client() as client,
    ):
        client.command("EHLO laptop")
        assert client.command(f"AUTH PLAIN {credentials(password='a:ü')}")[:3] == "535"
        assert client.command(f"AUTH PLAIN {credentials(password='a:ü $x')}")[:3] == "235"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r\nCaf\u010a:\r\n"])
def test_its_file_may_be_of_any_editor(tmp_path: Path, encoding: str, end: str) -> None:
    secret = tmp_path / "secret.txt"
    # Not the first letter ends the line whose number, in UTF-16, ends as that of a line's end.
    secret.write_bytes(f"{USER}:a\u010ab{end}".encode(encoding))
    assert options.check(auth=f"@{secret}").auth == f"{USER}:a\u010ab"


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_a_file_that_is_not_what_its_mark_says(tmp_path: Path, mark: bytes) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(mark + b"eva:s3cret\xff\xdc\xff")
    with pytest.raises(ValueError, match="auth=@FILE is not in UTF-8: save it so") as caught:
        options.check(auth=f"@{secret}")
    assert "s3cret" not in str(caught.value)


def test_a_password_may_come_from_the_environment(tmp_path: Path) -> None:
    env = {"MAIL_USER": f"{USER}:{PASSWORD}"}
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=$MAIL_USER", env=env) as server,
        server.client() as client,
    ):
        arguments = Path(f"/proc/{server.process.pid}/cmdline")
        if arguments.exists():
            assert PASSWORD.encode() not in arguments.read_bytes()
        client.command("EHLO laptop")
        assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "235"


def test_a_password_may_hold_colons(tmp_path: Path) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=eva:a:b:ü") as server,
        server.client() as client,
    ):
        client.command("EHLO laptop")
        assert client.command(f"AUTH PLAIN {credentials('eva', 'a:b')}")[:3] == "535"
        assert client.command(f"AUTH PLAIN {credentials('eva', 'a:b:ü')}")[:3] == "235"


@pytest.mark.parametrize("line", ["AUTH plain", "auth Plain", "Auth pLAIN", "AUTH PLAIN"])
def test_plain_in_any_case(tmp_path: Path, line: str) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", f"auth={USER}:{PASSWORD}") as server,
        server.client() as client,
    ):
        client.command("EHLO laptop")
        assert client.command(f"{line} {credentials(password='no')}")[:3] == "535"
        assert client.command(f"{line} {credentials()}")[:3] == "235"


@pytest.mark.parametrize("line", ["auth login", "AUTH Login", "AUTH LOGIN"])
def test_login_in_any_case(tmp_path: Path, line: str) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", f"auth={USER}:{PASSWORD}") as server,
        server.client() as client,
    ):
        client.command("EHLO laptop")
        assert client.command(line)[:4] == "334 "
        assert client.command(in_base64(USER))[:4] == "334 "
        assert client.command(in_base64(PASSWORD))[:3] == "235"


def check_challenges(client: Client) -> None:
    """Log in as several programs in Go do: the first mechanism, and challenges word by word."""
    offered = client.command("EHLO laptop")
    assert offered.index(" PLAIN") < offered.index(" LOGIN")
    assert client.command("AUTH LOGIN") == f"334 {in_base64('Username:')}"
    assert client.command(in_base64(USER)) == f"334 {in_base64('Password:')}"
    assert client.command(in_base64(PASSWORD))[:3] == "235"


def test_login_is_asked_for_in_the_words_of_everybody(tmp_path: Path) -> None:
    handler = MailFile(tmp_path / "other.mail", auth=f"{USER}:{PASSWORD}")
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=any") as server,
        server.client() as client,
    ):
        check_challenges(client)
    with controlled(handler) as controller, Client(controller.port) as client:
        check_challenges(client)
    with MailCatcher(auth="any") as mail, Client(mail.port) as client:
        check_challenges(client)


def test_aiosmtpds_own_login_is_asked_for_in_these_words_too(tmp_path: Path) -> None:
    def let_in(*_: object) -> bool:
        return True

    handler = MailFile(tmp_path / "latest.mail")
    settings = {"auth_callback": let_in, "auth_require_tls": False}
    with controlled(handler, **settings) as controller, Client(controller.port) as client:
        client.command("EHLO laptop")
        assert client.command("AUTH LOGIN") == f"334 {in_base64('Username:')}"
        assert client.command(in_base64(USER)) == f"334 {in_base64('Password:')}"
        assert client.command(in_base64(PASSWORD))[:3] == "235"


def test_a_broken_exchange_is_told_and_the_session_goes_on(tmp_path: Path) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=any") as server,
        server.client() as client,
    ):
        assert client.command("AUTH PLAIN")[:3] == "503"
        client.command("EHLO laptop")
        assert client.command("AUTH PLAIN !")[:9] == "501 5.5.2"
        assert client.command("AUTH PLAIN " + in_base64("no zero bytes"))[:9] == "501 5.5.2"
        assert client.command("AUTH CRAM-MD5")[:9] == "504 5.5.4"
        assert client.command("AUTH")[:3] == "501"
        client.command("AUTH LOGIN")
        assert client.command("*")[:9] == "501 5.7.0"
        assert client.command("AUTH LOGIN =")[:4] == "334 "
        assert client.command("*")[:9] == "501 5.7.0"
        assert client.send() == "250 OK"


# Unset, and where TLS comes first: as stock aiosmtpd


@pytest.mark.parametrize("layer", LAYERS)
def test_unset_is_as_stock(tmp_path: Path, certificate: Certificate, layer: str) -> None:
    path = tmp_path / "latest.mail"
    said = []
    for handler, *arguments in [("MailFile", path), ("aiosmtpd.handlers.Sink",)]:
        with (
            Server(str(handler), *arguments, flags=flags(certificate, layer)) as server,
            connected(server, layer, certificate.client) as client,
        ):
            greeting = client.ehlo()
            said.append((greeting, client.docmd("AUTH", f"PLAIN {credentials()}")))
    assert said[0] == said[1]
    assert b"AUTH" not in said[0][0][1] or layer == "starttls"


def test_auth_waits_for_a_starttls_that_is_required(
    tmp_path: Path, certificate: Certificate
) -> None:
    path = tmp_path / "latest.mail"
    with (
        Server("MailFile", path, "auth=any", flags=flags(certificate, "starttls")) as server,
        server.client() as client,
    ):
        assert "AUTH" not in client.command("EHLO laptop")
        assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "530"
        client.starttls(certificate.client)
        assert client.command("EHLO laptop").count("AUTH PLAIN LOGIN") == 1
        assert client.command(f"AUTH plain {credentials()}")[:3] == "235"


def test_auth_comes_before_a_starttls_that_is_not_required(
    tmp_path: Path, certificate: Certificate
) -> None:
    optional = [*flags(certificate, "starttls"), "--no-requiretls"]
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=any", flags=optional) as server,
        server.client() as client,
    ):
        assert "AUTH PLAIN LOGIN" in client.command("EHLO laptop")
        assert client.command(f"AUTH PLAIN {credentials()}")[:3] == "235"
        # RFC 3207 section 4.2: what came before STARTTLS is forgotten.
        client.starttls(certificate.client)
        assert client.send() == "250 OK"
    assert envelope_of(tmp_path / "latest.mail").auth is None


@pytest.mark.parametrize("name", NEEDS)
def test_aiosmtpd_still_has_what_is_needed_of_it(name: str) -> None:
    loop = asyncio.new_event_loop()
    try:
        server = SMTP(Sink(), loop=loop)
        reader = asyncio.StreamReader(loop=loop)
        server._cb_client_connected(reader, None)  # type: ignore[arg-type]
        attrgetter(name)(server)
    except AttributeError:
        pytest.fail(
            f"there is no SMTP.{name} any more: mailhandlers/smtp/private.py needs it for "
            f"{NEEDS[name]}, so find its new name and put it there"
        )
    finally:
        loop.close()


# Never a password


def test_no_log_and_no_file_has_a_password(tmp_path: Path) -> None:
    secret, half = "pa$$word-in-clear", "A" * 13000
    guesses = [secret, half[:900], in_base64(PASSWORD), credentials(), PASSWORD]
    server = Server(
        "MailFile",
        tmp_path / "latest.mail",
        f"auth={USER}:{PASSWORD}",
        flags=["-n", "-d", "-d", "-d"],
    )
    with server:
        for password in [PASSWORD, "wrong"]:
            for command in ["AUTH PLAIN ", "auth  plain   ", "AUTH PLAIN\r\n"]:
                with server.client() as client:
                    client.command("EHLO laptop")
                    line = command + credentials(password=password)
                    reply = client.command(line)
                    while reply[:3] == "334":
                        reply = client.reply()
                    assert reply[:3] in ("235", "535")
                    assert client.send() == "250 OK"
        with server.client() as client:
            client.command("EHLO laptop")
            client.command("AUTH LOGIN")
            client.command(in_base64(USER))
            assert client.command(secret)[:9] == "501 5.5.2"  # no base64: as typed by hand
            assert client.command(f"AUTH PLAIN {secret}")[:9] == "501 5.5.2"
            client.command("AUTH LOGIN")
            assert client.command(half)[:3] == "421"
            with pytest.raises(ConnectionError):
                client.command("NOOP")
        log = server.errors()
    assert "AUTH" in log
    for guess in guesses:
        assert guess not in log
        assert guess.encode() not in b"".join(tree(tmp_path).values())


def test_a_bad_auth_option_is_refused_without_repeating_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_USER", "nocolon-s3cret")
    secret = tmp_path / "file"
    secret.write_text(":s3cret")
    for value in [
        *("nocolon-s3cret", ":s3cret", "", "$MAIL_USER", "$eva:s3cret", "$", f"@{secret}"),
        *("@", "@eva:s3cret", "@s3cret\0", f"@{tmp_path}", True, b"eva:s3cret", 5),
    ]:
        with pytest.raises((TypeError, ValueError), match="user:password") as caught:
            MailFile(tmp_path / "latest.mail", auth=value)  # type: ignore[arg-type]
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert PASSWORD not in repr(options.check(auth=f"{USER}:{PASSWORD}"))


def test_the_session_keeps_no_password(tmp_path: Path) -> None:
    seen = []

    class Looking(MailFile):
        async def handle_MAIL(self, server: SMTP, session: object, *_: object) -> str:
            seen.append(session)
            return "550 5.7.1 Not now"

    handler = Looking(tmp_path / "latest.mail", auth="any")
    with controlled(handler) as controller, smtplib.SMTP(HOST, controller.port) as client:
        client.login(USER, PASSWORD)
        assert client.mail("eva@example.com")[0] == 550
    assert seen[0].auth_data.login == USER.encode()  # type: ignore[attr-defined]
    assert PASSWORD.encode() not in seen[0].auth_data  # type: ignore[attr-defined]


# auth=any where others can reach it


@pytest.fixture
def address() -> str:
    """An address of this machine that is no loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the kernel picks the address
        except OSError:
            pytest.skip("this machine has no address but loopback")
        found: str = probe.getsockname()[0]
    if found.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return found


@pytest.mark.parametrize(
    ("auth", "warnings"), [("auth=any", 1), (f"auth={USER}:{PASSWORD}", 0)], ids=["any", "user"]
)
def test_any_warns_once_on_an_address_others_reach(
    tmp_path: Path, address: str, auth: str, warnings: int
) -> None:
    reservation, port = reserved_port()
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"0.0.0.0:{port}"]
    command += ["-c", "mailhandlers.MailFile", str(tmp_path / "latest.mail"), auth]
    with reservation, Process(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: is_open(port))
            with Client(port) as client:
                client.command("EHLO laptop")
            for _ in range(2):
                with smtplib.SMTP(address, port) as visitor:
                    visitor.login(USER, PASSWORD)
        finally:
            process.kill()
        _, log = process.communicate()
    lines = [line for line in log.splitlines() if "mailhandlers" in line]
    assert len(lines) == warnings
    assert all(address in line and " WARNING:mailhandlers:" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        (("127.0.0.1", 25), True),
        (("127.8.9.10", 25), True),
        (("::1", 25, 0, 0), True),
        (("::ffff:127.0.0.1", 25, 0, 0), True),
        ("/run/a-unix-socket", True),
        (("192.0.2.1", 25), False),
        (("::ffff:192.0.2.1", 25, 0, 0), False),
        (("fe80::1%eth0", 25, 0, 2), False),
    ],
)
def test_loopback_is_known_by_its_address(name: object, is_ours: bool) -> None:
    assert is_loopback(name) == is_ours


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.mark.mailcatcher(auth="any")
def test_any_does_not_warn_on_loopback(
    mailcatcher: MailCatcher, caplog: pytest.LogCaptureFixture
) -> None:
    with smtplib.SMTP(mailcatcher.host, mailcatcher.port) as client:
        client.login(USER, PASSWORD)
    assert [record for record in caplog.records if record.name == "mailhandlers"] == []
    assert logging.getLogger("mailhandlers").isEnabledFor(logging.WARNING)


# protocol, helo and tls in every combination (RFC 3848, RFC 6531)


@pytest.fixture(scope="module", params=LAYERS)
def spoken(
    request: pytest.FixtureRequest,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Server, Path]]:
    layer: str = request.param
    path = tmp_path_factory.mktemp(layer) / "latest.mail"
    tls = certificate.client if layer == "smtps" else None
    with Server(
        "MailFile", path, "auth=any", flags=[*flags(certificate, layer), "-u"], tls=tls
    ) as server:
        yield layer, server, path


@pytest.mark.parametrize(
    ("commands", "options", "keyword"),
    [
        (["HELO {}"], "", "SMTP"),
        (["EHLO {}"], "", "ESMTP{s}"),
        (["HELO other", "EHLO {}"], "", "ESMTP{s}"),
        (["EHLO other", "HELO {}"], "", "SMTP"),
        (["EHLO {}", "AUTH PLAIN {}"], "", "ESMTP{s}A"),
        (["EHLO other", "AUTH PLAIN {}", "EHLO {}"], "", "ESMTP{s}A"),
        (["EHLO {}", "AUTH PLAIN !"], "", "ESMTP{s}"),
        (["EHLO {}"], "SMTPUTF8", "UTF8SMTP{s}"),
        (["EHLO {}", "AUTH PLAIN {}"], "SMTPUTF8 BODY=8BITMIME", "UTF8SMTP{s}A"),
    ],
)
def test_the_envelope_tells_how_the_session_went(
    spoken: tuple[str, Server, Path],
    certificate: Certificate,
    commands: Sequence[str],
    options: str,
    keyword: str,
) -> None:
    layer, server, path = spoken
    with server.client() as client:
        if layer == "starttls":
            client.command("EHLO before-starttls")
            client.starttls(certificate.client)
        for command in commands:
            is_auth = command.startswith("AUTH")
            client.command(command.format(credentials() if is_auth else "laptop"))
        client.command(f"MAIL FROM:<eva@example.com> {options}".rstrip())
        client.command("RCPT TO:<bob@example.com>")
        assert client.command("DATA")[:3] == "354"
        assert client.finish(HELLO) == "250 OK"
        version = client.socket.version() if isinstance(client.socket, ssl.SSLSocket) else None
    envelope = envelope_of(path)
    assert envelope.protocol == keyword.format(s="" if layer == "clear" else "S")
    assert envelope.helo == "laptop"
    assert envelope.tls == version
    assert (envelope.tls is None) == (layer == "clear")
    assert envelope.auth == (USER if "A" in envelope.protocol else None)
    assert envelope.mail_options == options.split()


# Other programs


def program(name: str) -> str:
    """The path of a client program, or the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian has it as {name})")
    return found


def run(*command: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=content, capture_output=True, timeout=PATIENCE)


def send_with(name: str, port: int, layer: str, mechanism: str, password: str) -> bool:
    """Send HELLO as eva with another program; return whether it says that this worked."""
    if name == "swaks":
        support = run(program(name), "--support").stdout
        if layer != "clear" and b"TLS supported" not in support:
            pytest.skip("swaks has no TLS here (Debian: apt install libnet-ssleay-perl)")
        tls = {"clear": [], "starttls": ["--tls"], "smtps": ["--tls-on-connect"]}[layer]
        done = run(
            program(name),
            *("--server", f"{HOST}:{port}", "--from", "eva@example.com"),
            *("--to", "bob@example.com", "--auth", mechanism),
            *("--auth-user", USER, "--auth-password", password, "--data", "-", *tls),
            content=HELLO,
        )
    elif name == "curl":
        scheme = "smtps" if layer == "smtps" else "smtp"
        done = run(
            program(name),
            *("--silent", "--show-error", "--insecure", "--max-time", f"{PATIENCE}"),
            *(["--ssl-reqd"] if layer == "starttls" else []),
            *("--user", f"{USER}:{password}", "--login-options", f"AUTH={mechanism}"),
            *("--mail-from", "eva@example.com", "--mail-rcpt", "bob@example.com"),
            *("--upload-file", "-", f"{scheme}://{HOST}:{port}/laptop"),
            content=HELLO,
        )
    else:
        done = run(
            program(name),
            *(
                "--file=/dev/null",
                f"--host={HOST}",
                f"--port={port}",
                f"--timeout={PATIENCE:.0f}",
            ),
            *(
                f"--auth={mechanism.lower()}",
                f"--user={USER}",
                f"--passwordeval=echo {password}",
            ),
            *(f"--tls={'off' if layer == 'clear' else 'on'}", "--tls-certcheck=off"),
            f"--tls-starttls={'on' if layer == 'starttls' else 'off'}",
            *("--from=eva@example.com", "bob@example.com"),
            content=HELLO.replace(b"\r\n", b"\n"),
        )
    return done.returncode == 0


@pytest.mark.parametrize("name", ["swaks", "curl", "msmtp"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.slow
def test_other_programs_log_in(
    tmp_path: Path, certificate: Certificate, name: str, layer: str, mechanism: str
) -> None:
    path = tmp_path / "latest.mail"
    auth = f"auth={USER}:{PASSWORD}"
    with Server("MailFile", path, auth, flags=flags(certificate, layer)) as server:
        assert not send_with(name, server.port, layer, mechanism, "wrong")
        assert list(read_messages(path)) == []
        assert send_with(name, server.port, layer, mechanism, PASSWORD)
    message = read_latest(path)
    assert message["Subject"] == "hello"
    assert message.envelope is not None
    assert message.envelope.auth == USER
    assert message.envelope.protocol == ("ESMTPA" if layer == "clear" else "ESMTPSA")
