"""A server that fails at each step of a session, as smtplib and a plain client see it."""

from __future__ import annotations

import gc
import smtplib
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificate, server_side
from support import HELLO, HOST, PATIENCE, Client, Server, controlled, wait_until

from mailhandlers import MailCatcher, MailFile, Reply
from mailhandlers.smtp import servers
from mailhandlers.smtp.replies import VERBS

A_MINUTE = 60.0


def connect(mail: MailCatcher, **others: Any) -> smtplib.SMTP:
    return smtplib.SMTP(mail.host, mail.port, "laptop", timeout=PATIENCE, **others)


def send(mail: MailCatcher) -> None:
    with connect(mail) as client:
        client.sendmail("eva@example.com", "bob@example.com", HELLO)


def last_said(mail: MailCatcher) -> tuple[str, str]:
    """The last command of the last session, and what was replied."""
    wait_until(lambda: mail.sessions and mail.sessions[-1].commands)
    verb, _, reply = mail.sessions[-1].commands[-1]
    return verb, reply


def steps(verb: str) -> list[str]:
    """What a client says until *verb* is answered, *verb* included."""
    lines = {
        "CONNECT": [],
        "EHLO": ["EHLO laptop"],
        "HELO": ["HELO laptop"],
        "AUTH": ["EHLO laptop", "AUTH PLAIN AGV2YQBzZWNyZXQ="],
        "MAIL": ["EHLO laptop", "MAIL FROM:<eva@example.com>"],
        "VRFY": ["EHLO laptop", "VRFY bob@example.com"],
    }
    lines["RCPT"] = [*lines["MAIL"], "RCPT TO:<bob@example.com>"]
    lines["DATA"] = [*lines["RCPT"], "DATA", "Subject: hello\r\n\r\nhello\r\n."]
    return lines.get(verb, ["EHLO laptop", verb])


def reach(port: int, verb: str, wanted: int) -> list[str]:
    """Return the last *wanted* lines that the server says when *verb* is answered."""
    heard = b""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as client:
        file = client.makefile("rb")
        if verb != "CONNECT":
            file.readline()
        for line in steps(verb)[:-1]:
            client.sendall(line.encode() + b"\r\n")
            while file.readline()[3:4] == b"-":
                pass
        for line in steps(verb)[-1:]:
            client.sendall(line.encode() + b"\r\n")
        with suppress(ConnectionResetError):
            for _ in range(wanted):
                heard += file.readline()
        file.close()
    return heard.decode().splitlines()


# A hang-up at each step


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("text", ["", "451 4.3.0 Later"])
def test_the_server_hangs_up(verb: str, text: str) -> None:
    reply = Reply(verb, text, hang_up=True)
    with MailCatcher(auth="any", replies=[reply]) as mail:
        assert reach(mail.port, verb, 2) == ([text] if text else [])
        assert last_said(mail) == (verb, f"{text}\nhang-up".lstrip("\n"))
        assert len(mail) == 0
        assert mail.unused_replies == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_hangs_up(verb: str, tmp_path: Path) -> None:
    # The first connection is that by which the test waits for the port.
    number = "x2" if verb == "CONNECT" else "x1"
    with Server(
        "MailFile", tmp_path / "m", "auth=any", f"reply={verb} {number}: hang-up"
    ) as server:
        assert reach(server.port, verb, 1) == []
        assert server.errors() == ""
        wait_until(lambda: says_hello(server.port))
        assert server.send() == "250 OK"


def says_hello(port: int) -> bool:
    with suppress(ConnectionError):
        Client(port).close()
        return True
    return False


@pytest.mark.parametrize("size", [1, 100_000])
def test_it_hangs_up_amid_the_content(size: int) -> None:
    hang_up = Reply("DATA", match="amid", hang_up=True, times=1)
    content = HELLO + size * (70 * b"x" + b"\r\n")
    with MailCatcher(replies=[hang_up]) as mail:
        with pytest.raises(smtplib.SMTPServerDisconnected):  # noqa: SIM117
            with connect(mail) as client:
                client.sendmail("eva@example.com", "bob@example.com", content)
        assert last_said(mail) == ("DATA", "hang-up")
        assert len(mail) == 0
        send(mail)
        assert len(mail) == 1


def test_421_is_said_amid_the_content() -> None:
    with MailCatcher(replies=[Reply("DATA", "421 4.3.2 Bye", match="amid")]) as mail:
        with Client(mail.port) as client:
            assert client.begin()[:3] == "354"
            client.socket.sendall(b"Subject: hello\r\n")
            assert client.reply() == "421 4.3.2 Bye"
            with pytest.raises(ConnectionError):
                client.reply()
        assert last_said(mail) == ("DATA", "421 4.3.2 Bye")


def test_a_success_may_be_followed_by_a_hang_up() -> None:
    with MailCatcher(replies=[Reply("DATA", "250 OK", hang_up=True)]) as mail:
        client = connect(mail)
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.quit()
        assert len(mail) == 1
        assert last_said(mail)[1] == "250 OK\nhang-up"


# The greeting


@pytest.mark.parametrize("text", ["554 5.3.2 No service", "421 4.3.2 Too busy", "450 Later"])
def test_a_greeting_that_is_none(text: str) -> None:
    with MailCatcher(replies=[Reply("CONNECT", text, times=1)]) as mail:
        with pytest.raises(smtplib.SMTPConnectError) as caught:
            connect(mail)
        assert caught.value.smtp_code == int(text[:3])
        assert mail.sessions[0].commands == [("CONNECT", "", text)]
        send(mail)
        assert mail.sessions[1].commands[0].verb == "EHLO"


def test_behind_it_all_but_quit_gets_503() -> None:
    with (
        MailCatcher(replies=[Reply("CONNECT", "554 5.3.2 No service")]) as mail,
        Client(mail.port) as client,
    ):
        assert client.greeting == "554 5.3.2 No service"
        for line in ["EHLO laptop", "HELO laptop", "MAIL FROM:<a@b>", "STARTTLS", "NOOP"]:
            assert client.command(line)[:3] == "503"
        assert client.command("QUIT")[:3] == "221"


def test_the_command_greets_as_it_is_told(tmp_path: Path) -> None:
    reply = "reply=CONNECT x2+: 421 4.3.2 Too busy"
    with Server("MailFile", tmp_path / "m", reply) as server:
        wait_until(lambda: reach(server.port, "CONNECT", 1) == ["421 4.3.2 Too busy"])
        assert server.errors() == ""


def test_other_words_greet_too() -> None:
    with MailCatcher(replies=[Reply("CONNECT", "220 mx.example.com")]) as mail:
        send(mail)
        with Client(mail.port) as client:
            assert client.greeting == "220 mx.example.com"
        assert [command.verb for command in mail.sessions[0].commands][:1] == ["EHLO"]


def test_a_greeting_comes_first_under_smtps() -> None:
    with MailCatcher(tls="smtps", replies=[Reply("CONNECT", hang_up=True)]) as mail:
        trusting = ssl.create_default_context(cafile=mail.ca_file)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtplib.SMTP_SSL("localhost", mail.port, context=trusting, timeout=PATIENCE)
        assert last_said(mail) == ("CONNECT", "hang-up")


def test_a_controller_says_at_once_that_it_cannot_greet(tmp_path: Path) -> None:
    told = "take a MailCatcher, or the command"
    handler = MailFile(tmp_path / "m", replies=[Reply("CONNECT", "554 No")])
    with pytest.raises(ValueError, match=told), controlled(handler):
        pass
    handler = MailFile(tmp_path / "m")
    with controlled(handler) as controller:
        with pytest.raises(ValueError, match=told):
            handler.replying(Reply("CONNECT", "554 No"))
        with Client(controller.port) as client:
            assert client.send() == "250 OK"


# STARTTLS, and DATA before its content


def test_starttls_is_refused(certificate: Certificate) -> None:
    reply = Reply("STARTTLS", "454 4.7.0 TLS not available", times=1)
    with MailCatcher(tls="starttls", replies=[reply]) as mail:
        with connect(mail) as client:
            with pytest.raises(smtplib.SMTPResponseException) as caught:
                client.starttls()
            assert caught.value.smtp_code == 454
        with connect(mail) as client:
            client.starttls(context=ssl.create_default_context(cafile=mail.ca_file))
            client.sendmail("eva@example.com", "bob@example.com", HELLO)
        assert mail.latest().envelope.tls


def test_a_controller_refuses_starttls(tmp_path: Path, certificate: Certificate) -> None:
    handler = MailFile(tmp_path / "m", replies=[Reply("STARTTLS", "454 No", times=1)])
    with (
        controlled(handler, tls_context=server_side(certificate)) as controller,
        Client(controller.port) as client,
    ):
        client.command("EHLO laptop")
        client.command("EHLO laptop")
        assert client.command("STARTTLS") == "454 No"
        client.starttls(certificate.client)
        assert client.send() == "250 OK"


def test_data_is_refused_before_the_content() -> None:
    reply = Reply("DATA", "554 5.5.1 No valid recipients", match="before", times=1)
    with MailCatcher(replies=[reply]) as mail:
        with connect(mail) as client:
            with pytest.raises(smtplib.SMTPDataError) as caught:
                client.sendmail("eva@example.com", "bob@example.com", HELLO)
            assert caught.value.smtp_code == 554
            assert mail.sessions[0].commands[3] == ("DATA", "", reply.text)
            client.rset()  # the transaction goes on, as with other servers
            client.sendmail("eva@example.com", "bob@example.com", HELLO)
        assert len(mail) == 1


def test_data_without_a_recipient_uses_no_reply_up() -> None:
    with MailCatcher(replies=[Reply("DATA", "554 No", match="before")]) as mail:
        with Client(mail.port) as client:
            client.command("EHLO laptop")
            assert client.command("DATA")[:3] == "503"
        assert len(mail.unused_replies) == 1


# Lines, numbers, delays


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "CONNECT"])
def test_a_reply_has_several_lines(verb: str) -> None:
    reply = Reply(verb, "450 4.2.1 Busy\n4.2.1 Come back later\nor never")
    with MailCatcher(auth="any", replies=[reply]) as mail:
        assert reach(mail.port, verb, 3) == [
            "450-4.2.1 Busy",
            "450-4.2.1 Come back later",
            "450 or never",
        ]
        assert mail.sessions[0].commands[-1].reply == (
            "450-4.2.1 Busy\n450-4.2.1 Come back later\n450 or never"
        )


def test_a_reply_begins_with_the_nth_command() -> None:
    quota = Reply("RCPT", "452 4.5.3 Too many recipients", match="*@example.com", first=3)
    people = [f"{name}@example.com" for name in "abcd"]
    with MailCatcher(replies=[quota]) as mail:
        with connect(mail) as client:
            refused = client.sendmail("eva@example.com", ["x@other.test", *people], HELLO)
        assert sorted(refused) == ["c@example.com", "d@example.com"]
        assert mail.unused_replies == []


def test_a_reply_may_begin_late_and_end() -> None:
    with (
        MailCatcher(replies=[Reply("NOOP", "450 Now", first=2, times=2)]) as mail,
        Client(mail.port) as client,
    ):
        said = [client.command("NOOP")[:3] for _ in range(5)]
    assert said == ["250", "450", "450", "250", "250"]


@pytest.mark.parametrize("verb", VERBS)
def test_each_step_may_take_its_time(verb: str) -> None:
    with MailCatcher(auth="any", replies=[Reply(verb, delay=A_MINUTE)]) as mail:
        with socket.create_connection((mail.host, mail.port), timeout=PATIENCE) as client:
            file = client.makefile("rb")
            if verb != "CONNECT":
                file.readline()
            for line in steps(verb)[:-1]:
                client.sendall(line.encode() + b"\r\n")
                while file.readline()[3:4] == b"-":
                    pass
            for line in steps(verb)[-1:]:
                client.sendall(line.encode() + b"\r\n")
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
            file.close()
        assert mail.unused_replies == []


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("QUIT", "STARTTLS")])
def test_after_its_time_a_step_goes_on(verb: str) -> None:
    with MailCatcher(auth="any", replies=[Reply(verb, delay=0.01)]) as mail:
        send(mail)
        with connect(mail) as client:
            client.login("eva", "secret")
        assert len(mail) == 1


# replying()


def test_replying_lasts_until_it_is_closed() -> None:
    with MailCatcher() as mail:
        replying = mail.replying(Reply("NOOP", "450 Later"))
        mail.replying(Reply("RSET", "450 Later"))  # nobody keeps it
        gc.collect()
        with Client(mail.port) as client:
            assert client.command("NOOP") == "450 Later"
            assert client.command("RSET") == "450 Later"
            replying.close()
            replying.close()
            assert client.command("NOOP") == "250 OK"
            assert client.command("RSET") == "450 Later"


def test_replying_has_every_step() -> None:
    with MailCatcher(tls="starttls") as mail:
        with (
            mail.replying(Reply("CONNECT", "554 No")),
            pytest.raises(smtplib.SMTPConnectError),
        ):
            connect(mail)
        client = connect(mail)
        with (
            mail.replying(Reply("STARTTLS", "454 No")),
            pytest.raises(smtplib.SMTPResponseException),
        ):
            client.starttls()
        with (
            mail.replying(Reply("DATA", "451 No", match="before")),
            pytest.raises(smtplib.SMTPDataError),
        ):
            client.sendmail("eva@example.com", "bob@example.com", HELLO)
        client.rset()
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
        client.quit()
        assert len(mail) == 1


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "DATA"])
def test_a_stop_does_not_wait_for_a_delay(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "LONGEST_ANSWER", None)
    mail = MailCatcher(auth="any", replies=[Reply(verb, delay=3600)])
    mail.start()
    with socket.create_connection((mail.host, mail.port), timeout=PATIENCE) as client:
        client.sendall("".join(f"{line}\r\n" for line in steps(verb)).encode())
        wait_until(lambda: mail.unused_replies == [])
        stop = threading.Thread(target=mail.stop, daemon=True)
        stop.start()
        stop.join(PATIENCE)
        assert not stop.is_alive()


def test_a_stop_waits_for_the_delay_of_a_message_that_is_stored() -> None:
    mail = MailCatcher(replies=[Reply("DATA", "250 Late", delay=0.5)])
    mail.start()
    with Client(mail.port) as client:
        client.submit()
        mail.latest(timeout=PATIENCE)
        mail.stop()
        assert client.reply() == "250 Late"
