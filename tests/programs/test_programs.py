"""Mail goes out to the programs that people use: what they see, and whose lock holds."""

from __future__ import annotations

import fcntl
import imaplib
import json
import mailbox
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import HOST, PATIENCE, Kind, Server, wait_until

from mailhandlers import read_messages
from mailhandlers.disk import locks

pytestmark = pytest.mark.slow

SUBJECTS = ["one", "Zweitens: Grüße", "three"]
MAIL = [
    f"Subject: {subject}\r\nFrom: Eva <eva@example.com>\r\n\r\nThis is {number}.\r\n".encode()
    for number, subject in enumerate(SUBJECTS, 1)
]
MAILDIR = Kind("MaildirSink", "inbox", is_folder=True)
MBOX = Kind("MboxSink", "mail.mbox")
both = pytest.mark.parametrize("kind", [MAILDIR, MBOX], ids=["MaildirSink", "MboxSink"])


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path, folder: Path, timeout: float = PATIENCE, **env: str) -> str:
    """Run a program that must succeed; it finds no configuration of whoever runs the tests."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8", "TERM": "xterm", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def mutt(store: Path, *keys: str, timeout: float = PATIENCE, **settings: str) -> None:
    """Open *store* in mutt, on a terminal of its own, and press *keys*."""
    command = [program("mutt"), "-n", "-F", "/dev/null", "-f", str(store)]
    chosen = {"folder": str(store.parent), "quit": "yes", "delete": "yes", **settings}
    for name, value in chosen.items():
        command += ["-e", f"set {name}={shlex.quote(value)}"]
    command += ["-e", 'push "{}"'.format("".join(keys))]
    program("script")
    # A terminal without a size is none for newer versions.
    line = f"stty rows 24 cols 80; {shlex.join(command)}"
    run("script", "-qec", line, "/dev/null", folder=store.parent, timeout=timeout)


def contents(store: Path) -> list[bytes]:
    return [message.original_content for message in read_messages(store)]


@pytest.fixture
def full(server: Server, store: Path) -> Path:
    """A store with three messages, whose server runs on."""
    for content in MAIL:
        assert server.send(content) == "250 OK"
    return store


def shows(output: Path, text: str) -> bool:
    return text in output.read_text()


# Mail clients


@both
def test_mutt_shows_every_message(full: Path) -> None:
    shown = full.parent / "shown"
    keys = f"<tag-pattern>.<enter><tag-prefix><pipe-message>cat>>{shown}<enter><exit>"
    mutt(full, keys, pipe_decode="yes")
    text = shown.read_text()
    for number, subject in enumerate(SUBJECTS, 1):
        assert f"Subject: {subject}\n" in text
        assert f"This is {number}.\n" in text
    assert contents(full) == MAIL


@both
def test_mutt_deletes_one_message_and_marks_another(full: Path, server: Server) -> None:
    mutt(full, "<delete-pattern>~s one<enter><flag-message><sync-mailbox><quit>")
    assert server.send(b"Subject: four\r\n\r\n") == "250 OK"
    assert contents(full) == [*MAIL[1:], b"Subject: four\r\n\r\n"]


@pytest.mark.parametrize("kind", [MAILDIR], ids=["MaildirSink"])
def test_mblaze_lists_and_shows(full: Path) -> None:
    program("mlist")
    (full.parent / ".mblaze").mkdir()
    (full.parent / ".mblaze/seq").touch()
    messages = run("mlist", full, folder=full.parent).splitlines()
    assert len(messages) == len(MAIL)
    scanned = run("mscan", "-f", "%s", *messages, folder=full.parent)
    assert sorted(scanned.split("\n")[:-1]) == sorted(SUBJECTS)
    newest = max(messages)
    assert "This is 3." in run("mshow", newest, folder=full.parent)


@pytest.mark.parametrize("kind", [MAILDIR], ids=["MaildirSink"])
def test_notmuch_indexes_and_finds(full: Path, tmp_path: Path) -> None:
    settings = tmp_path / "notmuch"
    settings.write_text(f"[database]\npath={full}\n[user]\nprimary_email=bob@example.com\n")
    command = program("notmuch")
    env: dict[str, Any] = {"NOTMUCH_CONFIG": str(settings)}
    run(command, "new", "--quiet", folder=tmp_path, **env)
    assert run(command, "count", "from:eva@example.com", folder=tmp_path, **env) == "3\n"
    found = run(
        *(command, "show", "--format=json", "--body=true", "subject:Zweitens"),
        folder=tmp_path,
        **env,
    )
    ((((message, _),),),) = [json.loads(found)]
    assert message["headers"]["Subject"] == SUBJECTS[1]
    assert contents(full) == MAIL


@pytest.mark.parametrize(
    ("kind", "factory"),
    [(MAILDIR, mailbox.Maildir), (MBOX, mailbox.mbox)],
    ids=["MaildirSink", "MboxSink"],
)
def test_the_standard_library_reads(full: Path, factory: Callable[..., Any]) -> None:
    box = factory(full, create=False)
    messages = sorted(box.values(), key=lambda message: str(message["X-Envelope"]))
    bodies = [message.get_payload() for message in messages]
    assert bodies == ["This is 1.\n", "This is 2.\n", "This is 3.\n"]
    box.close()


# Dovecot


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that Dovecot may enter, which never works as root."""
    folder = Path(tempfile.mkdtemp(prefix="mail"))
    yield folder
    shutil.rmtree(folder)


DOVECOT = {
    "2.3": {
        MAILDIR: "mail_location = maildir:{store}",
        MBOX: "mail_location = mbox:{store}.d:INBOX={store}",
    },
    "2.4": {
        MAILDIR: "mail_driver = maildir\nmail_path = {store}",
        MBOX: "mail_driver = mbox\nmail_path = {store}.d\nmail_inbox_path = {store}",
    },
}


def imap_command(kind: Kind, store: Path) -> str:
    """Return the command of an IMAP server on standard input and output, logged in already."""
    folder = store.parent
    server = Path("/usr/lib/dovecot/imap")
    if not server.exists():
        pytest.skip("Dovecot is not installed")
    version = run(program("dovecot"), "--version", folder=folder)[:3]
    if version not in DOVECOT:
        pytest.skip(f"this test knows how to configure Dovecot 2.3 and 2.4, not {version}")
    lines = ["ssl = no", f"base_dir = {folder}/run", f"log_path = {folder}/log"]
    if version == "2.4":
        # These come first, and tell whose defaults are meant.
        versions = ["dovecot_config_version = 2.4.0", "dovecot_storage_version = 2.4.0"]
        lines = [*versions, *lines, "namespace inbox {", "inbox = yes", "}"]
    settings = folder / "dovecot.conf"
    settings.write_text("\n".join([*lines, DOVECOT[version][kind].format(store=store), ""]))
    user = pwd.getpwuid(os.getuid()).pw_name
    switch = []
    if os.getuid() == 0:
        user = "nobody"
        group = str(pwd.getpwnam(user).pw_gid)
        switch = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    environment = ["env", "-i", f"HOME={folder}", f"USER={user}"]
    return shlex.join([*environment, *switch, str(server), "-c", str(settings)])


@both
def test_dovecot_serves_the_store_and_marks_it(kind: Kind, shared_folder: Path) -> None:
    store = shared_folder / kind.store
    command = imap_command(kind, store)
    with Server(kind.handler, store) as server:
        for content in MAIL:
            assert server.send(content) == "250 OK"
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in [shared_folder, *shared_folder.rglob("*")]:
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        with imaplib.IMAP4_stream(command) as client:
            assert client.state == "AUTH"
            assert client.select("INBOX") == ("OK", [b"3"])
            _, found = client.search(None, "TEXT", '"This is 3"')
            assert found == [b"3"]
            _, data = client.fetch("3", "(BODY[])")
            (body,) = (item[1] for item in data if isinstance(item, tuple))
            assert body.endswith(MAIL[2])
            client.store("1", "+FLAGS", r"(\Answered)")
            client.copy("2", "INBOX")
            client.close()
        assert server.send(b"Subject: four\r\n\r\n") == "250 OK"
    assert sorted(contents(store)) == sorted([*MAIL, MAIL[1], b"Subject: four\r\n\r\n"])


# Tools of the shell, and the web


@pytest.mark.parametrize("kind", [Kind("JsonLines", "mail.jsonl")], ids=["JsonLines"])
def test_jq_reads_every_line(full: Path) -> None:
    query = "[.subject, .rcpt_tos[0], .size]"
    lines = run(program("jq"), "-c", query, full, folder=full.parent).splitlines()
    expected = [
        [subject, "bob@example.com", len(content)]
        for subject, content in zip(SUBJECTS, MAIL, strict=True)
    ]
    assert [json.loads(line) for line in lines] == expected


@contextmanager
def tailing(store: Path, output: Path, *options: str) -> Iterator[int]:
    """Run ``tail -F`` with its own ideas of when to look, unless *options* say when."""
    with output.open("w") as file:
        tail = subprocess.Popen(
            [program("tail"), "-n", "+1", *options, "-F", store],
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield tail.pid
    finally:
        tail.kill()
        tail.wait(PATIENCE)


def is_shown_by_tail(server: Server, output: Path) -> bool:
    for number, content in enumerate(MAIL, 1):
        assert server.send(content) == "250 OK"
        wait_until(partial(shows, output, f"This is {number}.\n"))
    return True


def is_told_by_the_kernel(pid: int) -> bool:
    """Tell whether a tail looks at each change; else it looks for new files now and then."""
    folder = Path(f"/proc/{pid}/fd")
    if not folder.exists():
        pytest.skip("only Linux tells what a process has open")
    return any(os.readlink(fd) == "anon_inode:inotify" for fd in folder.iterdir())


def test_tail_sees_each_message(tmp_path: Path) -> None:
    store, output = tmp_path / "latest.mail", tmp_path / "tailed"
    with Server("MailFile", store) as server, tailing(store, output) as tail:
        assert is_shown_by_tail(server, output)
        assert is_told_by_the_kernel(tail)


def test_tail_that_starts_first_sees_each_message_where_the_file_is(tmp_path: Path) -> None:
    store, output = tmp_path / "latest.mail", tmp_path / "tailed"
    store.touch()
    with tailing(store, output) as tail, Server("MailFile", store) as server:
        assert is_shown_by_tail(server, output)
        assert is_told_by_the_kernel(tail)


def test_tail_that_starts_first_can_look_often(tmp_path: Path) -> None:
    store, output = tmp_path / "latest.mail", tmp_path / "tailed"
    with (
        tailing(store, output, "-s", "0.1") as tail,
        Server("MailFile", store) as server,
    ):
        assert is_shown_by_tail(server, output)
        assert not is_told_by_the_kernel(tail)  # else the page could leave the option out


@pytest.mark.parametrize("kind", [Kind("PerRecipientDir", "people", is_folder=True)])
def test_http_server_shows_the_latest(full: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = ["-u", "-m", "http.server", "-b", HOST, "-d", str(full), "0"]
    with said.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=subprocess.DEVNULL
        )
    try:
        port = wait_until(lambda: said.read_text().partition(" port ")[2].partition(" ")[0])
        address = f"http://{HOST}:{port}/bob@example.com/latest.eml"
        with urllib.request.urlopen(address, timeout=PATIENCE) as response:
            assert response.read().endswith(b"This is 3.\n")
    finally:
        server.kill()
        server.wait(PATIENCE)


# Locks


@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_we_wait_while_mailbox_holds_the_mbox(full: Path, server: Server) -> None:
    box = mailbox.mbox(full, create=False)
    box.lock()
    with ThreadPoolExecutor() as pool, server.client() as client:
        client.begin()
        size = full.stat().st_size
        reply = pool.submit(client.finish, MAIL[0])
        with pytest.raises(TimeoutError):
            reply.result(0.5)
        assert full.stat().st_size == size
        box.unlock()
        assert reply.result(PATIENCE) == "250 OK"
    box.close()
    assert contents(full) == [*MAIL, MAIL[0]]


@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_we_wait_for_a_lock_of_fcntl_alone(full: Path, server: Server) -> None:
    with full.open("r+b") as file, ThreadPoolExecutor() as pool, server.client() as client:
        fcntl.lockf(file, fcntl.LOCK_EX)
        client.begin()
        reply = pool.submit(client.finish, MAIL[0])
        with pytest.raises(TimeoutError):
            reply.result(0.5)
        fcntl.lockf(file, fcntl.LOCK_UN)
        assert reply.result(PATIENCE) == "250 OK"


@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_we_wait_while_mutt_holds_the_mbox(full: Path, server: Server) -> None:
    dotlock = program("mutt_dotlock")
    run(dotlock, full, folder=full.parent)
    with ThreadPoolExecutor() as pool, server.client() as client:
        client.begin()
        reply = pool.submit(client.finish, MAIL[0])
        with pytest.raises(TimeoutError):
            reply.result(0.5)
        run(dotlock, "-u", full, folder=full.parent)
        assert reply.result(PATIENCE) == "250 OK"
    assert contents(full) == [*MAIL, MAIL[0]]


@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_others_see_our_lock(full: Path) -> None:
    dotlock = [program("mutt_dotlock"), "-r", "0", str(full)]
    box = mailbox.mbox(full, create=False)
    ours = locks.MboxLock()
    fd = os.open(full, os.O_RDWR)
    ours.acquire(fd, str(full), locks.deadline())
    with pytest.raises(mailbox.ExternalClashError):
        box.lock()
    with full.open("r+b") as other, pytest.raises(BlockingIOError):
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert subprocess.run(dotlock).returncode == 3  # another has it
    ours.release(fd, str(full))
    box.lock()
    box.unlock()
    box.close()
    assert subprocess.run(dotlock).returncode == 0
    assert subprocess.run([dotlock[0], "-u", str(full)]).returncode == 0


@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_mailbox_appends_while_mail_comes_in(server: Server, store: Path) -> None:
    script = """
import mailbox, sys
box = mailbox.mbox(sys.argv[1])
added = 0
while added < 50:
    try:
        box.lock()
    except mailbox.ExternalClashError:
        continue
    with open(sys.argv[1], "ab") as file:
        file.write(b"From eve Sat Nov 21 12:00:00 2026\\nSubject: theirs\\n\\nTheirs.\\n\\n")
    box.unlock()
    added += 1
"""
    assert server.send(MAIL[0]) == "250 OK"
    with ThreadPoolExecutor() as pool:
        other = pool.submit(run, sys.executable, "-c", script, store, folder=store.parent)
        ours = 1
        with server.client() as client:
            while not other.done() or ours < 50:
                assert client.send(MAIL[0]) == "250 OK"
                ours += 1
        other.result()
    subjects = [message["Subject"] for message in read_messages(store)]
    assert (subjects.count("one"), subjects.count("theirs")) == (ours, 50)
    assert store.read_bytes().count(b"\n\nFrom ") == ours + 50 - 1
