"""The commands that take mail from a program, and pass it on: sendmail and send."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from shell import COMMAND, mail, put, shell
from support import PATIENCE, Kind

from mailhandlers import Inbox, MailCatcher, Reply, StoredMessage, read_latest
from mailhandlers.cli.sending import Submission

WHOLE = (
    b"From: Eva <eva@example.com>\nTo: Bob <bob@example.com>\nCc: carol@example.com,\n"
    b"\tdave@example.com\nSubject: hello\nDate: Fri, 21 Nov 2025 08:48:00 +0000\n"
    b"Message-ID: <1@example.com>\n\nHow are you?\n"
)


def sendmail(
    *arguments: str | Path, text: bytes = WHOLE, status: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*COMMAND, "sendmail", *arguments],
        input=text,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == status, done.stderr.decode()
    return done


def stored(store: Path) -> StoredMessage:
    [message] = Inbox(store)
    return message


def test_a_message_is_stored_as_it_is(kind: Kind, store: Path) -> None:
    done = sendmail(kind.handler, store, "sync=no", "-f", "eva@example.com", "bob@x", "carol@x")
    assert (done.stdout, done.stderr) == (b"", b"")
    message = stored(store)
    assert message.original_content == WHOLE.replace(b"\n", b"\r\n")
    envelope = message.envelope
    assert (envelope.mail_from, envelope.rcpt_tos) == ("eva@example.com", ["bob@x", "carol@x"])
    assert (envelope.protocol, envelope.peer, envelope.helo) == ("local", "", "")
    assert not message.is_altered


@pytest.mark.parametrize("flag", ["-t", "-ti", "-tf"])
def test_the_header_names_the_recipients(tmp_path: Path, flag: str) -> None:
    value = [""] if flag == "-tf" else []
    text = WHOLE.replace(b"Subject", b"Bcc: Eva <eva@x>\n (in \xfcblind),\n frank@x\nSubject")
    sendmail(
        "MaildirSink", tmp_path / "inbox", flag, *value, "more@x", "Bob@example.com", text=text
    )
    message = stored(tmp_path / "inbox")
    assert message.envelope.rcpt_tos == [
        *("more@x", "Bob@example.com", "bob@example.com", "carol@example.com"),
        *("dave@example.com", "eva@x", "frank@x"),
    ]
    assert message.original_content == WHOLE.replace(b"\n", b"\r\n")
    assert message.bcc == ["more@x", "eva@x", "frank@x"]


def test_a_message_that_is_sent_again_has_other_recipients(tmp_path: Path) -> None:
    text = b"Resent-To: frank@x\nResent-Bcc: hidden@x\n" + WHOLE
    sendmail("MaildirSink", tmp_path / "inbox", "-t", text=text)
    message = stored(tmp_path / "inbox")
    assert message.envelope.rcpt_tos == ["frank@x", "hidden@x"]
    assert b"hidden" not in message.original_content


@pytest.mark.parametrize("address", ['"a\nBcc: x@y\nX"@x', '"a\r\n(b"@x'])
def test_an_address_of_several_lines_makes_no_header(tmp_path: Path, address: str) -> None:
    sendmail("MaildirSink", tmp_path / "inbox", "-f", address, address, text=b"hello\n")
    message = stored(tmp_path / "inbox")
    assert [name for name, _ in message.own_items()] == ["From", "Date", "Message-ID"]
    assert message.envelope.mail_from.isprintable()
    assert message.envelope.rcpt_tos == [message.envelope.mail_from]


def test_what_is_missing_is_added(tmp_path: Path) -> None:
    sendmail("MaildirSink", tmp_path / "inbox", "-FEva \u00c4.", "bob@x", text=b"no header")
    message = stored(tmp_path / "inbox")
    own = f"{getpass.getuser()}@{socket.gethostname()}"
    assert message.envelope.mail_from == own
    assert str(message["From"].addresses[0].display_name) == "Eva \u00c4."
    assert message["From"].addresses[0].addr_spec == own
    assert parsedate_to_datetime(str(message["Date"])).tzinfo
    assert str(message["Message-ID"]).endswith(f"@{socket.gethostname()}>")
    assert message.text == "no header\n"
    assert message.original_content.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (b"Subject: x\n\na\r\nb\nc\r\n", b"Subject: x\r\n\r\na\r\nb\r\nc\r\n"),
        (b"From eva Fri Nov\nSubject: x\n\n", b"Subject: x\r\n\r\n"),
        (b"Subject: x", b"Subject: x\r\n\r\n"),
        (b"Subject: x\ntext\n", b"Subject: x\r\n\r\ntext\r\n"),
        (b"Bcc: a@x\nbcc : b@x\n\n.\n", b"\r\n.\r\n"),
        (b"", b"\r\n"),
        (b"\r\nSubject: x\r\n", b"\r\nSubject: x\r\n"),
        (b"X: a\rb\n\n\xff\0\n", b"X: a\rb\r\n\r\n\xff\0\r\n"),
    ],
)
def test_line_ends_and_the_end_of_the_header(given: bytes, made: bytes) -> None:
    head, _, rest = Submission(given).completed("eva@x", "").partition(b"\r\nMessage-ID:")
    assert head.startswith(b"From: eva@x\r\nDate: ")
    assert rest.partition(b"\r\n")[2] == made


@pytest.mark.parametrize(("flags", "kept"), [([], False), (["-i"], True), (["-oi"], True)])
def test_a_dot_ends_the_message(tmp_path: Path, flags: list[str], kept: bool) -> None:
    sendmail("MboxSink", tmp_path / "m", *flags, "bob@x", text=b"X: 1\n\n..\n.\nmore\n")
    assert stored(tmp_path / "m").text == ("..\n.\nmore\n" if kept else "..\n")


@pytest.mark.parametrize("sender", ["", "<>"])
def test_a_bounce_has_no_sender(tmp_path: Path, sender: str) -> None:
    sendmail("MaildirSink", tmp_path / "inbox", "-f", sender, "bob@x")
    assert stored(tmp_path / "inbox").envelope.mail_from == ""


def test_the_arguments_of_many_programs(tmp_path: Path) -> None:
    arguments = "-G -oem -odi -oi -om -B8BITMIME -N never -Rhdrs -V 4711 -U -v -L tag -bm --"
    sendmail("MaildirSink", tmp_path / "inbox", *arguments.split(), "Bob <bob@x>, carol@x")
    envelope = stored(tmp_path / "inbox").envelope
    assert envelope.rcpt_tos == ["bob@x", "carol@x"]
    assert envelope.mail_options == ["BODY=8BITMIME", "RET=hdrs", "ENVID=4711"]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        ([], 64, "no handler"),
        (["Maildir", "inbox"], 64, "choose from MailFile"),
        (["MaildirSink"], 64, "name the path"),
        (["MaildirSink", "inbox", "sync=maybe", "bob@x"], 64, "sync is yes or no"),
        (["MaildirSink", "inbox", "synk=no", "bob@x"], 64, "'synk'"),
        (["MaildirSink", "inbox", "-Q", "bob@x"], 64, "-Q not recognized"),
        (["MaildirSink", "inbox", "-bp"], 64, "there is no queue"),
        (["MaildirSink", "inbox"], 64, "no recipient"),
        (["MaildirSink", "inbox", ""], 64, "no recipient"),
        (["MaildirSink", "inbox", "-t"], 65, "no recipient"),
        (["MaildirSink", "missing/inbox", "bob@x"], 64, "create it first"),
        (["MaildirSink", "notes", "bob@x"], 64, "notes"),
    ],
)
def test_what_is_not_stored_has_a_status_of_sysexits(
    tmp_path: Path, arguments: list[str], status: int, why: str
) -> None:
    (tmp_path / "notes").write_text("these are my notes\n")
    done = subprocess.run(
        [*COMMAND, "sendmail", *arguments],
        input=b"Subject: nobody\n\n",
        capture_output=True,
        cwd=tmp_path,
    )
    text = done.stderr.decode()
    assert (done.returncode, text.count("\n")) == (status, 1), text
    assert why in text
    assert sorted(os.listdir(tmp_path)) == ["notes"]


def test_a_disk_that_is_full_is_worth_another_try(small_disk: Path) -> None:
    text = WHOLE + b"x" * (2 << 20)
    done = sendmail("MboxSink", small_disk / "m", "bob@x", text=text, status=75)
    assert b"No space left" in done.stderr
    assert len(Inbox(small_disk / "m")) == 0


SESSION = (
    b"EHLO laptop\r\nMAIL FROM:<eva@x>\r\nRCPT TO:<bob@x>\r\nDATA\r\n"
    b"Subject: x\r\n\r\n..\r\n.\r\n"
)


@pytest.mark.parametrize("end", [b"QUIT\r\n", b""])
def test_a_session_on_standard_input(tmp_path: Path, end: bytes) -> None:
    done = sendmail("MaildirSink", tmp_path / "inbox", "-bs", text=SESSION * 2 + end)
    replies = done.stdout.decode().splitlines()
    assert replies.count("250 OK") == 6
    assert (replies[-1] == "221 Bye") == bool(end)
    assert len(Inbox(tmp_path / "inbox")) == 2
    message = read_latest(tmp_path / "inbox")
    assert message.original_content == b"Subject: x\r\n\r\n.\r\n"
    assert message.envelope.protocol == "ESMTP"


def test_a_session_that_breaks_off_stores_nothing_and_ends(tmp_path: Path) -> None:
    done = sendmail("MaildirSink", tmp_path / "inbox", "-bs", text=SESSION[:-3])
    assert done.stdout.splitlines()[-1].startswith(b"354")
    assert len(Inbox(tmp_path / "inbox")) == 0


def test_a_session_is_scripted(tmp_path: Path) -> None:
    reply = "reply=RCPT *: 550 5.1.1 No such user"
    done = sendmail("MaildirSink", tmp_path / "inbox", reply, "-bs", text=SESSION[:51])
    assert b"550 5.1.1 No such user\r\n" in done.stdout


def test_a_session_ends_with_quit_though_standard_input_stays_open(tmp_path: Path) -> None:
    command = [*COMMAND, "sendmail", "MaildirSink", str(tmp_path / "inbox"), "-bs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline().startswith(b"220 ")
        process.stdin.write(b"QUIT\r\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"221 Bye\r\n"
        assert process.wait(PATIENCE) == 0


def test_standard_output_is_a_store_as_well() -> None:
    done = sendmail("JsonLines", "-", "bob@x")
    assert done.stdout.startswith(b'{"id": "')


@pytest.fixture
def target() -> Iterator[MailCatcher]:
    with MailCatcher() as catcher:
        yield catcher


def send(store: Path, target: MailCatcher, *arguments: str) -> tuple[int, str]:
    done = shell("send", store, "--via", f"{target.host}:{target.port}", *arguments)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_messages_are_sent_on(tmp_path: Path, target: MailCatcher) -> None:
    mails = [mail("one", to=["bob@x", "carol@x"]), mail("two", to=["dave@x"])]
    put("MboxSink", tmp_path / "m", *mails)
    assert send(tmp_path / "m", target) == (0, "2 messages sent; 0 refused\n")
    assert [(m.original_content, m.envelope.rcpt_tos) for m in target] == [
        (each.content, each.envelope.rcpt_tos) for each in mails
    ]


def test_those_that_are_wanted_are_sent_elsewhere(tmp_path: Path, target: MailCatcher) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("one"), mail("two", to=["dave@x"]))
    redirected = ["--redirect-to", "me@real", "--redirect-to", "you@real"]
    arguments = ["--to", "dave@x", *redirected]
    assert send(tmp_path / "inbox", target, *arguments) == (0, "1 message sent; 0 refused\n")
    assert target.latest()["Subject"] == "two"
    assert target.latest().envelope.rcpt_tos == ["me@real", "you@real"]
    assert target.latest().envelope.mail_from == "eva@example.com"


@pytest.mark.parametrize("address", ["", "me@real>\nRCPT TO:<you@real", "me real"])
def test_what_is_no_address_is_said_before_anything_is_sent(
    tmp_path: Path, target: MailCatcher, address: str
) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("one"))
    status, said = send(tmp_path / "inbox", target, "--redirect-to", address)
    assert (status, f"{address!r} is no address" in said) == (2, True)
    assert not target.sessions


def test_nothing_is_sent_without_via(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("one"))
    done = shell("send", tmp_path / "inbox")
    assert done.returncode == 2
    assert "--via" in done.stderr


def test_a_refusal_stops_no_other(tmp_path: Path, target: MailCatcher) -> None:
    put("MboxSink", tmp_path / "m", mail("one", to=["no\x1b@x"]), mail("two"), mail("three"))
    with target.replying(Reply("DATA", "554 5.6.0 No", times=1)):
        status, said = send(tmp_path / "m", target)
    assert status == 1
    first, second, end = said.splitlines()
    assert "to no\\x1b@x: 'one': not sent: 'no\\x1b@x' is no address" in first
    assert first.startswith("mailhandlers: ")
    assert "'two': not sent: it is refused: 554 5.6.0 No" in second
    assert end == "1 message sent; 2 refused"
    assert [message["Subject"] for message in target] == ["three"]


def test_a_server_that_goes_away(tmp_path: Path, target: MailCatcher) -> None:
    first, second = mail("one"), mail("two")
    put("MboxSink", tmp_path / "m", first, second)
    with target.replying(Reply("MAIL", hang_up=True, first=2)):
        status, said = send(tmp_path / "m", target)
    assert status == 1
    assert said.splitlines()[-1] == f"1 message sent; stopped at {second.envelope.id}"


def test_nobody_listens(tmp_path: Path, target: MailCatcher) -> None:
    put("MboxSink", tmp_path / "m", mail("one"))
    target.stop()
    status, said = send(tmp_path / "m", target)
    assert (status, said.count("\n")) == (1, 2)
    assert said.startswith(f"mailhandlers: {target.host}:{target.port}: ")


def test_no_such_message_is_no_success(tmp_path: Path, target: MailCatcher) -> None:
    put("MboxSink", tmp_path / "m", mail("one"))
    status, said = send(tmp_path / "m", target, "--to", "nobody@x")
    assert (status, "nothing is sent" in said) == (1, True)
    assert not target.sessions


def test_who_logs_in(tmp_path: Path) -> None:
    put("MboxSink", tmp_path / "m", mail("one"))
    secret = tmp_path / "secret"
    secret.write_text("eva:secret\n")
    with MailCatcher(auth="eva:secret", auth_required=True) as catcher:
        assert send(tmp_path / "m", catcher, "--user", f"@{secret}")[0] == 0
        status, said = send(tmp_path / "m", catcher, "--user", "eva:wrong")
        assert (status, "lets 'eva' not in: 535" in said) == (1, True)
        for user, why in [
            ("eva", "--user is"),
            ("@nothing", "can't be read"),
            ("$NO", "export"),
        ]:
            status, said = send(tmp_path / "m", catcher, "--user", user)
            assert (status, why in said) == (2, True)
        assert len(catcher) == 1
