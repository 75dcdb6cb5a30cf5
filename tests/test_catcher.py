"""MailCatcher: a server in a with block, without pytest."""

from __future__ import annotations

import errno
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, Client

from mailhandlers import (
    Inbox,
    JsonLines,
    MailCatcher,
    MaildirSink,
    MboxSink,
    NoMessageError,
    Reply,
    commit,
)
from mailhandlers.disk.locks import LOCK_TIMEOUT
from mailhandlers.mail import Mail
from mailhandlers.stores.maildir import MaildirStore

UNITTEST = """
import smtplib, unittest
from mailhandlers import MailCatcher

def send(mail, subject):
    with smtplib.SMTP(mail.host, mail.port) as client:
        client.sendmail("eva@example.com", ["bob@example.com"], f"Subject: {subject}\\n\\nHi")

class TestMethod(unittest.TestCase):
    def setUp(self):
        self.mail = MailCatcher()
        self.mail.__enter__()
        self.addCleanup(self.mail.__exit__, None, None, None)

    def test_one(self):
        send(self.mail, "one")
        self.assertEqual(self.mail.latest()["Subject"], "one")

class TestClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail = MailCatcher()
        cls.mail.start()

    @classmethod
    def tearDownClass(cls):
        cls.mail.stop()

    def test_two(self):
        with self.mail.expect(to="bob@example.com") as expected:
            send(self.mail, "two")
        self.assertEqual(expected.message["Subject"], "two")

    def test_three(self):
        self.mail.clear()
        send(self.mail, "three")
        self.assertEqual([m["Subject"] for m in self.mail], ["three"])
"""

LEFT_BEHIND = """
import gc, glob, logging, os, tempfile, threading, time
from mailhandlers import MailCatcher
import smtplib

logging.getLogger("asyncio").setLevel(logging.ERROR)  # not of a machine that is slow

def state():
    gc.collect()
    kept = glob.glob(os.path.join(tempfile.gettempdir(), "mailcatcher-*"))
    return threading.active_count(), len(os.listdir("/dev/fd")), kept

before = state()
for tls in (None, "starttls", "required", "smtps"):
    for raises in (False, True):
        try:
            with MailCatcher(tls=tls) as mail:
                waiting = smtplib.SMTP(mail.host, mail.port) if tls != "smtps" else None
                if raises:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        if waiting:
            waiting.close()
        waiting = None
catcher = MailCatcher()
for _ in range(3):
    catcher.start()
    catcher.stop()
del catcher
deadline = time.monotonic() + 60
while state() != before and time.monotonic() < deadline:
    time.sleep(0.01)  # a thread that ends
assert state() == before, (state(), before)
"""


def send(mail: MailCatcher, subject: str = "hello", to: str = "bob@example.com") -> None:
    with smtplib.SMTP(mail.host, mail.port) as client:
        client.sendmail("eva@example.com", [to], f"Subject: {subject}\n\nHi")


def test_a_block_has_a_server_and_its_inbox() -> None:
    with MailCatcher() as mail:
        assert isinstance(mail, Inbox)
        send(mail)
        assert mail.latest()["Subject"] == "hello"
        assert [command.verb for command in mail.sessions[0].commands][:2] == ["EHLO", "MAIL"]
        folder = os.path.dirname(mail.path)
        assert os.listdir(folder) == ["inbox"]
    assert not os.path.exists(folder)
    with socket.socket() as probe:
        assert probe.connect_ex((mail.host, mail.port)) != 0


def test_any_handler_stores(tmp_path: Path) -> None:
    with MailCatcher(MboxSink(tmp_path / "mail.mbox", sync=False)) as mail:
        send(mail)
    assert Inbox(tmp_path / "mail.mbox").latest()["Subject"] == "hello"


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        (("inbox",), {}, "takes a handler.*not 'inbox'"),
        ((JsonLines,), {}, "takes a handler"),
        ((), {"host": ""}, "host is a name or an address"),
        ((), {"port": "8025"}, "port is a number"),
        ((), {"port": 65536}, "port is a number"),
        ((), {"tls": "yes"}, "tls is 'starttls', 'required', 'smtps'"),
        ((), {"sync": "no"}, "sync is True or False"),
        ((), {"colour": "red"}, "no option 'colour'"),
        ((), {"auth_required": True}, "auth_required=yes needs auth"),
    ],
)
def test_bad_arguments_end_in_one_sentence(
    arguments: tuple[Any, ...], options: dict[str, Any], told: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=told) as error:
        MailCatcher(*arguments, **options)
    assert "\n" not in str(error.value)


def test_options_belong_to_the_handler_that_is_given(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="give auth to the handler"):
        MailCatcher(JsonLines(tmp_path / "mail.jsonl"), auth="any")


def test_it_goes_away_and_comes_back_at_the_same_port() -> None:
    with MailCatcher() as mail:
        send(mail, "before")
        port = mail.port
        for _ in range(3):
            mail.stop()
            with pytest.raises(ConnectionRefusedError):
                send(mail)
            mail.start()
            assert mail.port == port
        with pytest.raises(RuntimeError, match="runs already"):
            mail.start()
        send(mail, "after")
        assert [message["Subject"] for message in mail] == ["before", "after"]


def test_nothing_is_told_by_silence_where_no_server_runs() -> None:
    mail = MailCatcher()
    with pytest.raises(RuntimeError, match="the server was not started, or was stopped"):
        mail.expect_none(within=0)
    with mail, mail.expect_none(within=0):
        pass
    with pytest.raises(RuntimeError, match=f"no mail can come to {mail.host}:{mail.port}"):
        mail.expect_none(within=0)


def test_a_port_that_is_taken_is_an_error_and_leaves_it_stopped() -> None:
    with MailCatcher() as mail:
        other = MailCatcher(port=mail.port)
        with pytest.raises(OSError) as raised:
            other.start()
        assert raised.value.errno == errno.EADDRINUSE
        other.stop()


@pytest.mark.parametrize("tls", ["starttls", "required"])
def test_starttls_with_a_certificate_that_clients_can_trust(tls: str) -> None:
    with MailCatcher(tls=tls, auth="eva:secret", auth_required=True) as mail:
        trusting = ssl.create_default_context(cafile=mail.ca_file)
        with smtplib.SMTP("localhost", mail.port) as client:
            client.ehlo()
            assert client.has_extn("starttls")
            if tls == "required":
                assert client.mail("eva@example.com")[0] == 530
                assert not client.has_extn("auth")
            client.starttls(context=trusting)
            client.ehlo()
            assert client.mail("eva@example.com") == (530, b"5.7.0 Authentication required")
            client.login("eva", "secret")
            client.sendmail("eva@example.com", ["bob@example.com"], "Subject: safe\n\nHi")
        envelope = mail.latest().envelope
        assert (envelope.protocol, envelope.auth) == ("ESMTPSA", "eva")
        assert envelope.tls


def test_smtps() -> None:
    with MailCatcher(tls="smtps") as mail:
        trusting = ssl.create_default_context(cafile=mail.ca_file)
        with smtplib.SMTP_SSL(mail.host, mail.port, context=trusting) as client:
            client.sendmail("eva@example.com", ["bob@example.com"], "Subject: safe\n\nHi")
        assert mail.latest().envelope.protocol == "ESMTPS"
        with pytest.raises(ssl.SSLCertVerificationError):
            smtplib.SMTP_SSL(mail.host, mail.port, context=ssl.create_default_context())


def test_a_client_that_speaks_no_tls_to_smtps_is_let_go_at_the_stop() -> None:
    mail = MailCatcher(tls="smtps")
    mail.start()
    with socket.create_connection((mail.host, mail.port), timeout=PATIENCE) as client:
        with socket.create_connection((mail.host, mail.port), timeout=PATIENCE) as other:
            other.sendall(b"EHLO laptop\r\n")  # the loop has the first when it answers this
            assert other.recv(1000) == b""
        mail.stop()
        with suppress(ConnectionResetError):
            assert client.recv(1000) == b""


def test_a_context_of_ones_own_is_offered(certificate: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with MailCatcher(tls=context) as mail, smtplib.SMTP(mail.host, mail.port) as client:
        assert mail.ca_file is None
        client.starttls(context=certificate.client)


def test_without_trustme_a_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['trustme'] = None\n"
        "from importlib import util; find = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'trustme' else find(name)\n"
        "from mailhandlers import MailCatcher; MailCatcher(tls='required')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "ValueError: a certificate is made by trustme: pip install 'mailhandlers[tls]'"
    )


def test_replies_for_a_while_reach_a_connection_that_is_open() -> None:
    with MailCatcher() as mail, Client(mail.port) as client:
        assert client.send() == "250 OK"
        with mail.replying(Reply("DATA", "451 4.3.0 Down"), Reply("RCPT", "450 4.2.1 x", "a*")):
            assert client.send() == "451 4.3.0 Down"
            assert client.send(to=["a@example.com"]) == "450 4.2.1 x"
        assert client.send() == "250 OK"
        assert len(mail) == 2


def test_the_error_tells_who_connected() -> None:
    with MailCatcher() as mail:
        with pytest.raises(NoMessageError, match=r"nobody connected to 127.*locmem"):
            mail.latest(timeout=0.01)
        with (
            pytest.raises(NoMessageError, match="nobody connected"),
            mail.expect(timeout=0.01),
        ):
            pass
        with Client(mail.port) as client:
            client.command("EHLO lap\x07top")
            client.command("MAIL FROM:<eva@example.com>")
        with pytest.raises(NoMessageError) as error:
            mail.latest(timeout=0.01)
        last = str(error.value).splitlines()[-1]
        assert re.search(r"one client connected .*EHLO lap\\+x07top.*MAIL FROM.* -> 250", last)


def test_two_at_once_share_nothing() -> None:
    with MailCatcher() as one, MailCatcher() as two:
        send(one, "one")
        send(two, "two")
        assert [m["Subject"] for m in one] == ["one"]
        assert [m["Subject"] for m in two] == ["two"]


def test_addresses_in_utf8_are_offered_and_read_back() -> None:
    with MailCatcher() as mail:
        with smtplib.SMTP(mail.host, mail.port) as client:
            client.ehlo()
            assert client.has_extn("smtputf8")
            message = EmailMessage()
            message["From"], message["To"] = "zoë@example.com", "jürgen@bücher.example"
            message["Subject"] = "Grüße"
            message.set_content("Hi\n")
            client.send_message(message)  # raises where SMTPUTF8 is not offered
        found = mail.latest(to="jürgen@bücher.example")
        assert found.envelope.mail_from == "zoë@example.com"
        assert found.envelope.rcpt_tos == ["jürgen@bücher.example"]
        assert found.envelope.protocol == "UTF8SMTP"
        assert found["To"] == "jürgen@bücher.example"
        assert found["Subject"] == "Grüße"


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *command],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.posix  # Windows gives back handles as it sees fit
def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    assert run(tmp_path, "-c", LEFT_BEHIND) == ""


def test_unittest(tmp_path: Path) -> None:
    (tmp_path / "test_mail.py").write_text(UNITTEST)
    told = run(tmp_path, "-m", "unittest", "test_mail")
    assert "Ran 3 tests" in told
    assert "Warning" not in told


class Recording(MaildirStore):
    """A Maildir that notes which thread writes."""

    threads: list[str] = []  # noqa: RUF012

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        self.threads.append(threading.current_thread().name.removeprefix("mailhandlers-"))
        super().add(mails, patience)


def test_a_small_message_needs_no_second_thread_where_nothing_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "LONGEST_ON_LOOP", PATIENCE)
    monkeypatch.setattr(MaildirSink, "_store_class", Recording)
    monkeypatch.setattr(Recording, "threads", [])
    large = b"Subject: large\r\n\r\n" + 2000 * (76 * b"x" + b"\r\n")
    handler = MaildirSink(tmp_path / "inbox", sync=False)
    with MailCatcher(handler) as mail, Client(mail.port) as client:
        assert client.send() == "250 OK"
        assert client.send(large) == "250 OK"
        assert client.send() == "250 OK"
        assert len(mail) == 3
    assert Recording.threads == ["server", "writer", "server"]


def test_a_client_waits_for_no_delayed_acknowledgement() -> None:
    with MailCatcher() as mail, Client(mail.port) as client:
        client.command("EHLO laptop")
        (transport,) = mail._server._connections._transports()  # type: ignore[union-attr]
        connected = transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
