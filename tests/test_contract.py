"""What holds for all handlers, each under the real stock command."""

from __future__ import annotations

import hashlib
import json
import mailbox
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Certificate
from support import (
    ALL_KINDS,
    BUCKET,
    HELLO,
    IS_ROOT,
    KIND,
    KINDS,
    PATIENCE,
    WINDOWS,
    Client,
    Kind,
    Server,
    controlled,
    json_line,
    tree,
    wait_until,
)
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import Inbox, StoredMessage, block, read_latest, read_messages
from mailhandlers.mail import Mail


class Running(NamedTuple):
    """A server that many tests share, and its store, which is gone when a test begins."""

    kind: Kind
    server: Server
    store: Path

    def clean(self) -> None:
        if self.kind == BUCKET:
            Inbox(self.store).clear()
            return
        for path in self.store.parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def holds(self, *contents: bytes) -> bool:
        """Tell whether a reader gets these messages and, where they are kept, no others."""
        kept = contents if self.kind.keeps_all else contents[-1:]
        return [message.original_content for message in read_messages(self.store)] == [*kept]


@pytest.fixture(scope="module", params=ALL_KINDS, ids=[kind.handler for kind in ALL_KINDS])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    kind: Kind = request.param
    if kind == BUCKET:
        store = request.getfixturevalue("new_bucket")()
    else:
        store = tmp_path_factory.mktemp(kind.handler) / kind.store
    with Server(kind.handler, store, flags=("-n", "-u")) as server:
        yield Running(kind, server, store)


def stored_by(*handlers: str) -> pytest.MarkDecorator:
    """Have a test use the servers with these handlers only."""
    kinds = [KIND[handler] for handler in handlers]
    return pytest.mark.parametrize("shared", kinds, ids=handlers, indirect=True, scope="module")


@pytest.fixture
def running(shared: Running) -> Running:
    """A server whose store somebody has just deleted."""
    shared.clean()
    return shared


# Exact


def wire(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


CONTENTS = {
    "hello": HELLO,
    "empty": b"",
    "one blank line": wire(b""),
    "only blank lines": wire(b"", b"", b"", b""),
    "no header": wire(b"just text", b"", b"more"),
    "a blank line first": wire(b"", b"Subject: no header"),
    "no body": wire(b"Subject: no body"),
    "an empty body": wire(b"Subject: no body", b""),
    "blank lines at the end": wire(b"Subject: x", b"", b"y", b"", b"", b""),
    "NUL": wire(b"Subject: \0", b"", b"a\0b\0"),
    "all octets": wire(b"Subject: x", b"", bytes(range(256)).replace(b"\r\n", b"")),
    "8-bit": wire(b"Subject: Gr\xfc\xdfe", b"", "Grüße".encode(), b"\xff\xfe"),
    "UTF-8": wire("Subject: Grüße \U0001f600\u2028".encode(), b"", "\x85ß".encode()),
    "bare CR": wire(b"Subject: a\rb", b"", b"c\rd", b"\r", b"e\r"),
    "bare LF": wire(b"Subject: a\nb", b"", b"c\nd", b"\n", b"e\n"),
    "only bare LF": b"Subject: a\n\nb\nc\n\r\n",
    "CR CR LF": wire(b"Subject: a\r", b"\r", b"b\r", b"\r\r"),
    "LF CR": wire(b"Subject: a\n\r", b"\n\r", b"b"),
    "From first": wire(b"From eva Mon Nov 21 08:48:00 2026", b"Subject: x", b"", b"y"),
    "From as header": wire(b"Subject: x", b"From eva", b"From: eva", b"", b"y"),
    "From in the body": wire(b"Subject: x", b"", b"From me", b"", b"From you", b"From "),
    "From last": wire(b"Subject: x", b"", b"", b"From "),
    "From only": wire(b"From "),
    "quoted From": wire(b">From x", b">>From y", b"", b">From ", b">>>From z", b" From a"),
    "From behind bare LF": wire(b"Subject: x", b"", b"a\nFrom b", b"a\n>From b"),
    "a whole mbox": wire(b"From a@b Mon Nov 21 08:48:00 2026", b"Subject: 1", b"", b"x", b"")
    * 3,
    "a leading space": wire(b" Subject: x", b"", b"y"),
    "a leading tab": wire(b"\tSubject: x", b"", b"y"),
    "leading spaces and braces": wire(b" }", b"\t}", b" {}", b"Subject: x", b"", b"y"),
    "dots": wire(b".", b"..", b"...", b".Subject: x", b"", b".", b".x", b"."),
    "998 octets a line": wire(b"Subject: " + b"x" * 989, b"", b"y" * 998, b"." * 997),
    "Status and Lines": wire(b"Status: RO", b"Lines: 1", b"Content-Length: 2", b"", b"y"),
    "no colon": wire(b"Subject x", b"", b"y"),
    "JSON": wire(b'{"id": "', b'{"id": "1", "raw": ""}'),
    "broken MIME": wire(
        b"Content-Type: multipart/mixed; boundary=b", b"Date: never", b"To: a@b, (", b"", b"--b"
    ),
    "nested MIME": wire(*[b"Content-Type: message/rfc822", b""] * 200, b"x"),
    "an unknown charset": wire(b"Content-Type: text/plain; charset=no", b"", b"\xff"),
    "broken base64": wire(b"Content-Transfer-Encoding: base64", b"", b"!!!="),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_any_message_reads_back_octet_for_octet(running: Running, content: bytes) -> None:
    with running.server.client() as client:
        assert client.send(content) == "250 OK"
        assert running.holds(content)
        assert client.send(HELLO) == "250 OK"
    assert running.holds(content, HELLO)
    assert read_latest(running.store).envelope is not None


def python_messages() -> list[bytes]:
    data = pytest.importorskip("test.test_email", reason="this Python is without its tests")
    folder = Path(data.__file__ or "").parent / "data"
    found = [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
    as_lines = [wire(*file.splitlines()) for file in found]
    as_they_are = [file + b"\r\n" for file in found]
    # SMTP allows lines of a thousand octets: only a small file may come with its bare LF.
    return [m for m in as_lines + as_they_are if max(map(len, m.split(b"\r\n"))) <= 998]


def test_all_messages_of_pythons_own_tests_read_back(running: Running) -> None:
    messages = python_messages()
    assert len(messages) > 40
    with running.server.client() as client:
        for message in messages:
            assert client.send(message) == "250 OK"
            assert read_latest(running.store).original_content == message
    assert running.holds(*messages)


@pytest.mark.slow
def test_thirty_megabytes_read_back(running: Running) -> None:
    message = b"Subject: large\r\n\r\n" + wire(b"From " + bytes(range(32, 127)) * 10) * 33_000
    assert len(message) > 30 << 20
    assert running.server.send(message) == "250 OK"
    assert running.holds(message)
    assert running.server.send() == "250 OK"
    assert running.holds(message, HELLO)


# Any address


class Recorder:
    """A handler that keeps what aiosmtpd hands over: the truth about an address."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[str], str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        sender = "" if envelope.mail_from == "<>" else envelope.mail_from
        self.seen.append((sender, list(envelope.rcpt_tos), session.host_name))
        return "250 OK"


class Truth(NamedTuple):
    recorder: Recorder
    port: int


@pytest.fixture(scope="module")
def truth() -> Iterator[Truth]:
    """Stock aiosmtpd, which stores nothing."""
    recorder = Recorder()
    with controlled(recorder, enable_SMTPUTF8=True) as controller:
        yield Truth(recorder, controller.port)


ADDRESSES = [
    *(b"a\rX-Envelope: {}@x", b'"a\rX-RcptTo: forged"@x', b'"\r\r"@x', b'"a\r\tb"@x'),
    *(b"../../x", b'"../../x"@y', b"../../../../../../tmp/x", b"/etc/passwd", b'"/x"@y'),
    *(b"a\0b@x", b'"a\0b"@x', b"\0", b"x" * 400, b"x" * 400 + b"@example.com"),
    *(b'"a, b"@x', b'"a,b"@x', b'","@x', b'"a b" <c@d>', b'"<x>"@y', b"a b@x"),
    *("zoë@ümlaut.test".encode(), "\U0001f600@x".encode(), b"\xff\xfe@x", b'"\xe9"@x'),
    *(b"\xff" * 400, "ß".encode() * 200, "\u2028\u202e@x".encode(), b"\xc2\x85@x"),
    *(b"new", b"cur", b"tmp", b"latest.eml", b"x.eml", b"CON", b"NUL.txt", b".", b"..", b"..."),
    *(b".hidden", b"a%2Fb", b"%", b"~", b"-", b"*", b"", b"@", b"a@", b"@a", b"<>"),
    *(b"a@[127.0.0.1]", b"BOB@Example.COM", b'"\\""@x', b"{}", b'{"id": "', b"From "),
]
NAMES = [
    *(b"a\rX-Envelope: {}", b"\r", b"../../x", b"a\0b", b"x" * 400, b"a, b", b'"', b"{}"),
    *("zoë".encode(), b"\xff\xfe", b"[127.0.0.1]", b"new", b"\t\tx", b"<", b"}\n"[:1]),
]
OWN = b"Subject: own\r\n\r\nMy body.\r\n"


def replies(client: Client, sender: bytes, recipient: bytes, helo: bytes) -> list[str]:
    """Return the code of each reply of a session that sends :data:`OWN`."""
    lines = [b"EHLO " + helo, b"MAIL FROM:<%s>" % sender, b"RCPT TO:<%s>" % recipient, b"DATA"]
    codes = [client.command(line)[:3] for line in lines]
    return [*codes, client.finish(OWN)[:3]] if codes[-1] == "354" else codes


def check_as_truth(
    running: Running, truth: Truth, sender: bytes, recipient: bytes, helo: bytes
) -> None:
    """Check that a session goes as with stock aiosmtpd, and what it accepts is stored.

    But an address that it finds malformed is taken as it is, if it has no brackets inside.
    """
    with Client(truth.port) as stock, running.server.client() as client:
        expected = replies(stock, sender, recipient, helo)
        is_malformed = "553" in expected and b"<>" not in (sender, recipient)
        if is_malformed:
            expected = ["250", "250", "250", "354", "250"]
        assert replies(client, sender, recipient, helo) == expected
    if expected[-1] != "250":
        assert list(read_messages(running.store)) == []
        return
    message = read_latest(running.store)
    envelope = message.envelope
    assert envelope is not None
    if is_malformed:  # the stock server has seen nothing
        handed_over = (sender.decode(), [recipient.decode()], helo.decode())
    else:
        handed_over = truth.recorder.seen[-1]
    assert (envelope.mail_from, envelope.rcpt_tos, envelope.helo) == handed_over
    assert (message["Subject"], message.text) == ("own", "My body.\n")
    assert message.original_content == OWN
    assert read_latest(running.store, to=envelope.rcpt_tos[0]).envelope == envelope
    assert [path.name for path in running.store.parent.iterdir()] == [running.store.name]


# That each store gives back any envelope is tested without a server, in stores/.


@stored_by("PerRecipientDir", "MboxSink")
@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: ascii(address[:20]))
def test_any_recipient_is_stored_inside_the_store(
    running: Running, truth: Truth, address: bytes
) -> None:
    check_as_truth(running, truth, b"eva@example.com", address, b"laptop")


@stored_by("MboxSink")
@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: ascii(address[:20]))
def test_any_sender_is_stored(running: Running, truth: Truth, address: bytes) -> None:
    check_as_truth(running, truth, address, b"bob@example.com", b"laptop")


@stored_by("JsonLines")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_any_helo_name_is_stored(running: Running, truth: Truth, name: bytes) -> None:
    check_as_truth(running, truth, b"eva@example.com", b"bob@example.com", name)


def test_a_bounce_has_no_sender(running: Running) -> None:
    assert running.server.send(sender="") == "250 OK"
    message = read_latest(running.store, mail_from="")
    assert message.envelope is not None
    assert message.envelope.mail_from == ""
    assert message["Return-Path"] == "<>"


def test_other_letters_are_stored_without_smtputf8_too(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        for address in ("zoë@x", "\udcff@x"):
            assert server.send(sender=address, to=[address]) == "250 OK"
            envelope = read_latest(store).envelope
            assert envelope is not None
            assert (envelope.mail_from, envelope.rcpt_tos) == (address, [address])
            assert envelope.protocol == "ESMTP"


def test_a_hundred_recipients_share_one_message(running: Running) -> None:
    recipients = [f"user{number}@example.com" for number in range(100)]
    assert running.server.send(to=recipients) == "250 OK"
    assert running.holds(HELLO)
    message = read_latest(running.store, to=recipients[77])
    assert message.envelope is not None
    assert message.envelope.rcpt_tos == recipients


# Ours on top


FORGED = replace(EXAMPLE, size=len(HELLO), rcpt_tos=["forged@x"])
FORGERIES = {
    "headers": wire(
        *(b"Return-Path: <forged@x>", b"X-Peer: forged", b"X-MailFrom: forged@x"),
        *(b"X-RcptTo: forged@x", b"X-Envelope: " + FORGED.to_json().encode(), b"", b"x"),
    ),
    "our own block": block.header_block(FORGED).replace(b"\n", b"\r\n") + HELLO,
    "our own block in LF": block.header_block(FORGED)[:900] + b"\r\n" + HELLO,
    "a continued line": b" " + FORGED.to_json().encode() + b"\r\n" + HELLO,
    "a continued line with a tab": b"\t" + FORGED.to_json().encode() + b"\r\n" + HELLO,
    "an mbox entry": wire(b"", b"From eva Mon Nov 21 08:48:00 2026")
    + block.header_block(FORGED).replace(b"\n", b"\r\n")
    + HELLO,
    "a JSON line": wire(b"", json_line(Mail(FORGED, HELLO))[:-1]),
}


@pytest.mark.parametrize("content", FORGERIES.values(), ids=FORGERIES)
def test_forged_headers_change_nothing(running: Running, content: bytes) -> None:
    assert running.server.send(content) == "250 OK"
    [message] = read_messages(running.store)
    assert message.original_content == content
    assert message.envelope is not None
    assert message.envelope.id != FORGED.id
    assert message.envelope.helo == "laptop"
    assert message.envelope.mail_from == "eva@example.com"
    assert message.envelope.rcpt_tos == ["bob@example.com"]
    assert message.envelope.size == len(content)
    assert message["Return-Path"] == "<eva@example.com>"
    assert message["X-MailFrom"] == "eva@example.com"
    assert message["X-RcptTo"] == "bob@example.com"
    assert message["X-Peer"] == message.envelope.peer
    assert json.loads(message["X-Envelope"])["rcpt_tos"] == ["bob@example.com"]


# What is recorded


def test_the_envelope_tells_the_session(running: Running) -> None:
    before = datetime.now(timezone.utc)
    with running.server.client() as client:
        assert (
            client.send(options="BODY=8BITMIME", to=["bob@x.test", "carol@x.test"]) == "250 OK"
        )
        host, port = client.socket.getsockname()
    envelope = read_latest(running.store).envelope
    assert envelope is not None
    assert before <= envelope.received <= datetime.now(timezone.utc)
    assert envelope.sha256 == hashlib.sha256(HELLO).hexdigest()
    told = replace(envelope, id=EXAMPLE.id, received=EXAMPLE.received, sha256=None)
    assert told == replace(
        EXAMPLE,
        peer=f"{host}:{port}",
        protocol="ESMTP",
        tls=None,
        auth=None,
        rcpt_tos=["bob@x.test", "carol@x.test"],
        size=len(HELLO),
    )


def test_helo_is_smtp_and_smtputf8_is_utf8smtp(running: Running) -> None:
    with running.server.client() as client:
        for line in ("HELO old", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA"):
            client.command(line)
        assert client.finish(HELLO) == "250 OK"
        assert protocol(running.store) == ("SMTP", None)
        assert client.send(options="SMTPUTF8") == "250 OK"
    assert protocol(running.store) == ("UTF8SMTP", None)


def protocol(store: Path) -> tuple[str, str | None]:
    envelope = read_latest(store).envelope
    assert envelope is not None
    return envelope.protocol, envelope.tls


VIEWED = ["hello", "broken MIME", "8-bit", "From in the body", "bare CR", "a leading space"]


def test_a_message_looks_the_same_whichever_handler_stored_it(tmp_path: Path) -> None:
    views: list[list[object]] = []
    for kind in KINDS:
        with Server(kind.handler, tmp_path / kind.store, "sync=no") as server:
            views.append([])
            for name in VIEWED:
                assert server.send(CONTENTS[name]) == "250 OK"
                views[-1].append(view(read_latest(tmp_path / kind.store)))
    assert views == views[:1] * len(KINDS)


def view(message: StoredMessage) -> object:
    """Return all that a message shows, but for what makes it another message."""
    envelope = message.envelope
    assert envelope is not None
    ours = ("X-Peer", "X-Envelope")
    return (
        replace(envelope, id="", received=EXAMPLE.received, peer=""),
        [(name, value) for name, value in message.items() if name not in ours],
        (message.original_content, message.text, message.html),
        [
            (p.get_content_type(), p.get_payload())
            for p in message.walk()
            if not p.is_multipart()
        ],
        (message.links, message.codes, message.bcc, message.summary()["attachments"]),
    )


# On disk


def permissions(folder: Path) -> dict[str, set[int]]:
    """Return the permissions of the files and of the folders below *folder*."""
    found: dict[str, set[int]] = {"files": set(), "folders": set()}
    for path in folder.rglob("*"):
        if not path.is_symlink():
            kind = "folders" if path.is_dir() else "files"
            found[kind].add(stat.S_IMODE(path.stat().st_mode))
    return found


@pytest.mark.posix
@pytest.mark.parametrize(
    ("options", "umask", "file", "folder"),
    [
        ([], "000", 0o600, 0o700),
        ([], "022", 0o600, 0o700),
        (["mode=0644"], "077", 0o644, 0o755),
        (["mode=660", "sync=no"], "022", 0o660, 0o770),
    ],
)
def test_files_and_folders_have_the_permissions_asked_for(
    kind: Kind, store: Path, options: list[str], umask: str, file: int, folder: int
) -> None:
    place = store.parent
    shell = ["sh", "-c", f'umask {umask}; exec "$@"', "sh"]
    with Server(kind.handler, store, *options, prefix=shell) as server:
        assert server.send() == "250 OK"
    folders = {folder} if kind.is_folder else set()
    assert permissions(place) == {"files": {file}, "folders": folders}


def test_mail_files_have_unix_line_ends(running: Running) -> None:
    assert running.server.send() == "250 OK"
    for data in tree(running.store.parent).values():
        assert b"\r" not in data


def test_no_temporary_file_stays(running: Running) -> None:
    for _ in range(3):
        assert running.server.send(to=["bob@x", "carol@x"]) == "250 OK"
    names = list(tree(running.store.parent))
    assert not [n for n in names if "/." in n or n[0] == "." or n.endswith((".lock", ".tmp"))]
    assert not [n for n in names if "/tmp/" in n and not n.endswith("/tmp/")]


def test_pythons_mailbox_reads_the_mbox(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    bodies = ["hello", "From in the body", "a whole mbox", "no header"]
    with Server("MboxSink", store) as server:
        for name in bodies:
            assert server.send(CONTENTS[name]) == "250 OK"
    box = mailbox.mbox(store, create=False)
    assert len(box) == len(bodies)
    assert next(iter(box))["Subject"] == "hello"
    assert [message["X-RcptTo"] for message in box] == ["bob@example.com"] * len(bodies)


def test_pythons_mailbox_reads_the_maildir(tmp_path: Path) -> None:
    with Server("MaildirSink", tmp_path / "inbox") as server:
        for _ in range(3):
            assert server.send() == "250 OK"
    box = mailbox.Maildir(tmp_path / "inbox", create=False)
    assert [message["Subject"] for message in box] == ["hello"] * 3
    _, message = box.popitem()
    message.set_subdir("cur")
    message.set_flags("S")
    box.add(message)
    assert len(list(read_messages(tmp_path / "inbox"))) == 3


@pytest.mark.slow
def test_mutt_marks_an_mbox_and_it_still_reads_exactly(tmp_path: Path) -> None:
    mutt = shutil.which("mutt")
    if mutt is None or shutil.which("script") is None:
        pytest.skip("mutt and script are not here")
    store = tmp_path / "mail.mbox"
    sent = [CONTENTS[name] for name in ("hello", "From in the body", "8-bit")]
    with Server("MboxSink", store) as server:
        for content in sent:
            assert server.send(content) == "250 OK"
        settings = [
            f"set folder={tmp_path} quit=yes move=no",
            "push <flag-message><sync-mailbox><quit>",
        ]
        command = shlex.join([mutt, "-n", "-F", "/dev/null", "-f", str(store)])
        command += "".join(f" -e {shlex.quote(setting)}" for setting in settings)
        subprocess.run(
            ["script", "-qec", f"stty rows 24 cols 80; {command}", "/dev/null"],
            env={**os.environ, "TERM": "xterm", "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        assert b"\nStatus: " in store.read_bytes()
        assert server.send(HELLO) == "250 OK"
    assert [m.original_content for m in read_messages(store)] == [*sent, HELLO]


def test_each_recipient_has_a_folder_with_the_latest(tmp_path: Path) -> None:
    store = tmp_path / "people"
    with Server("PerRecipientDir", store) as server:
        assert server.send(HELLO, to=["Bob@example.com", "carol@x"]) == "250 OK"
        assert server.send(OWN, to=["bob@EXAMPLE.com"]) == "250 OK"
    assert sorted(os.listdir(store)) == ["bob@example.com", "carol@x"]
    assert len(list((store / "bob@example.com").glob("*.eml"))) == 3
    if not WINDOWS:
        assert "/" not in os.readlink(store / "bob@example.com" / "latest.eml")
    assert (store / "bob@example.com" / "latest.eml").read_bytes().endswith(b"My body.\n")
    assert (store / "carol@x" / "latest.eml").read_bytes().endswith(b"How are you?\n")
    shared_file = (store / "carol@x" / "latest.eml").resolve()
    assert shared_file.stat().st_nlink == (3 if WINDOWS else 2)
    assert len(list(read_messages(store))) == 2


def test_json_lines_on_standard_output(tmp_path: Path) -> None:
    with Server("JsonLines", "-") as server:
        assert server.send() == "250 OK"
        assert server.send(CONTENTS["all octets"]) == "250 OK"
        [first, second] = map(json.loads, server.output().splitlines())
    assert first["raw"] == HELLO.decode()
    assert first["subject"] == "hello"
    assert "raw_base64" in second


# A store that somebody deletes


def test_a_deleted_store_is_made_anew(running: Running) -> None:
    with running.server.client() as client:
        assert client.send(HELLO) == "250 OK"
        running.clean()
        assert client.send(OWN) == "250 OK"
    assert running.holds(OWN)


def test_a_rotated_store_is_made_anew(running: Running) -> None:
    with running.server.client() as client:
        assert client.send(HELLO) == "250 OK"
        rotated = running.store.rename(f"{running.store}.1")
        assert client.send(OWN) == "250 OK"
    assert running.holds(OWN)
    assert [message.original_content for message in read_messages(rotated)] == [HELLO]


@pytest.mark.parametrize("folder", ["tmp", "new", "cur"])
def test_a_folder_missing_from_a_maildir_is_made_anew(tmp_path: Path, folder: str) -> None:
    store = tmp_path / "inbox"
    with Server("MaildirSink", store) as server:
        assert server.send() == "250 OK"
        shutil.rmtree(store / folder)
        assert server.send(OWN) == "250 OK"
    assert read_latest(store).original_content == OWN
    assert sorted(os.listdir(store)) == ["cur", "new", "tmp"]


def test_a_recipients_folder_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    with Server("PerRecipientDir", tmp_path / "people") as server:
        assert server.send(to=["bob@x", "carol@x"]) == "250 OK"
        shutil.rmtree(tmp_path / "people" / "bob@x")
        assert server.send(OWN, to=["bob@x", "carol@x"]) == "250 OK"
    assert read_latest(tmp_path / "people", to="bob@x").original_content == OWN
    assert len(list(read_messages(tmp_path / "people", to="bob@x"))) == 1


# The command's options


def test_a_message_over_the_size_limit_is_not_stored(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store, flags=("-n", "-s", "1000")) as server:
        assert server.send(HELLO) == "250 OK"
        assert server.send(HELLO + b"x\r\n" * 400).startswith("552")
    assert [message.original_content for message in read_messages(store)] == [HELLO]


def test_smtps_is_recorded(kind: Kind, store: Path, certificate: Certificate) -> None:
    flags: list[str | Path] = [
        "-n",
        "--smtpscert",
        certificate.certificate,
        "--smtpskey",
        certificate.key,
    ]
    with Server(kind.handler, store, flags=flags, tls=certificate.client) as server:
        assert server.send() == "250 OK"
    assert protocol(store) == ("ESMTPS", "TLSv1.3")


def test_starttls_is_recorded(kind: Kind, store: Path, certificate: Certificate) -> None:
    flags: list[str | Path] = [
        "-n",
        "--tlscert",
        certificate.certificate,
        "--tlskey",
        certificate.key,
    ]
    with Server(kind.handler, store, flags=flags) as server, server.client() as client:
        assert client.begin().startswith("530")
        client.command("EHLO laptop")
        client.starttls(certificate.client)
        assert client.send() == "250 OK"
    assert protocol(store) == ("ESMTPS", "TLSv1.3")


@pytest.mark.skipif(not IS_ROOT, reason="only root can become nobody")
def test_root_becomes_nobody(kind: Kind, store: Path, open_folder: Path) -> None:
    # Python itself may be root's alone: whatever a message needs was imported before.
    if kind != BUCKET:
        store = open_folder / kind.store
    with Server(kind.handler, store, flags=()) as server:
        for content in CONTENTS.values():
            assert server.send(content) == "250 OK"
            assert read_latest(store).original_content == content
    owners = {path.stat().st_uid for path in [store, *store.rglob("*")]}
    assert owners.isdisjoint({0})


# Under a Controller


def test_decoded_data_is_stored_as_it_came(kind: Kind, store: Path) -> None:
    handler = getattr(mailhandlers, kind.handler)(store)
    with (
        controlled(handler, decode_data=True, enable_SMTPUTF8=True) as controller,
        Client(controller.port) as client,
    ):
        for name in ("hello", "8-bit", "bare CR", "bare LF", "NUL"):
            assert client.send(CONTENTS[name]) == "250 OK"
            assert read_latest(store).original_content == CONTENTS[name]


def test_reset_empties_the_store_and_keeps_its_folders(kind: Kind, store: Path) -> None:
    handler = getattr(mailhandlers, kind.handler)(store)
    handler.reset()
    with controlled(handler) as controller, Client(controller.port) as client:
        assert client.send() == "250 OK"
        folders = [name for name in tree(store.parent) if name.endswith("/")]
        handler.reset()
        assert list(read_messages(store)) == []
        assert [name for name in tree(store.parent) if name.endswith("/")] == folders
        assert client.send(OWN) == "250 OK"
    assert [message.original_content for message in read_messages(store)] == [OWN]


def test_importing_the_package_opens_nothing() -> None:
    code = "import mailhandlers, sys; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ctrl_c_ends_the_server_quietly(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server:
        assert server.send() == "250 OK"
        assert server.stop() == 0
        # A socket of Wine takes no octet at times, of which Python says that a signal was sent.
        assert server.errors() == "" or WINDOWS
    wait_until(lambda: server.process.poll() == 0)
