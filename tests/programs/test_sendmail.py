"""Programs that call sendmail store through ``mailhandlers sendmail``, without a server.

What the guide "Programs that call sendmail" tells to write is taken from there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import pytest

pytest.importorskip("docutils", reason="docutils reads the pages")

from markup import Block, sections
from support import PATIENCE

from mailhandlers import StoredMessage, read_messages

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs/how-to/sendmail.rst"
BIN = Path(sys.executable).parent
SUBJECT = "Grüße aus Köln"


def recipe(name: str, folder: Path) -> str:
    """Return what the guide tells to save as the file *name*, for *folder*."""
    blocks = [block for section in sections(GUIDE) for block in section.blocks]
    text = blocks[blocks.index(Block("comment", f"file: {name}")) + 1].text + "\n"
    return text.replace("/home/eva/.venv/bin", str(BIN)).replace("/home/eva", str(folder))


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path, folder: Path, text: str = "", **env: str) -> None:
    """Run a program that must succeed; it finds no configuration of whoever runs the tests."""
    done = subprocess.run(
        command,
        cwd=folder,
        input=text.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8", **env},
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout.decode()


@pytest.fixture
def sendmail(tmp_path: Path) -> Path:
    """The script of the guide, in the place of sendmail."""
    script = tmp_path / "sendmail"
    script.write_text(recipe("sendmail", tmp_path))
    script.chmod(0o755)
    return script


def stored(folder: Path) -> StoredMessage:
    [message] = read_messages(folder / "inbox")
    assert not message.is_altered
    assert message["Date"]
    assert message["Message-ID"]
    return message


def test_php(tmp_path: Path) -> None:
    php = program("php")
    (tmp_path / "php.ini").write_text(recipe("php.ini", tmp_path))
    script = tmp_path / "send.php"
    script.write_text(
        "<?php $done = mail('bob@example.com', 'Order 1', \"Hello\\n.\\nBob\","
        " ['From' => 'Shop <shop@example.com>', 'Bcc' => 'carol@example.com'],"
        " '-fbounce@example.com'); exit($done ? 0 : 1);"
    )
    run(php, "-c", tmp_path / "php.ini", script, folder=tmp_path)
    message = stored(tmp_path)
    assert message.envelope.mail_from == "bounce@example.com"
    assert message.envelope.rcpt_tos == ["bob@example.com", "carol@example.com"]
    assert message["Subject"] == "Order 1"
    assert message["Bcc"] is None
    assert message.bcc == ["carol@example.com"]
    assert message.text == "Hello\n.\nBob\n"
    assert b"\n" not in message.original_content.replace(b"\r\n", b"")


def test_php_hears_of_a_message_that_is_not_stored(tmp_path: Path) -> None:
    php = program("php")
    text = recipe("php.ini", tmp_path).replace(f"{tmp_path}/inbox", f"{tmp_path}/missing/inbox")
    (tmp_path / "php.ini").write_text(text)
    script = "exit(mail('bob@example.com', 'Order 1', 'Hello') ? 0 : 3);"
    done = subprocess.run([php, "-c", tmp_path / "php.ini", "-r", script], capture_output=True)
    assert done.returncode == 3
    assert b"create it first" in done.stderr


def test_mailx(sendmail: Path, tmp_path: Path) -> None:
    mailx = program("bsd-mailx")
    (tmp_path / ".mailrc").write_text(recipe(".mailrc", tmp_path))
    run(
        *(mailx, "-s", SUBJECT, "-c", "carol@example.com", "-b", "dave@example.com"),
        *("-r", "eva@example.com", "bob@example.com"),
        folder=tmp_path,
        text="Hello\n",
    )
    message = stored(tmp_path)
    assert {*message.envelope.rcpt_tos} == {
        f"{n}@example.com" for n in ("bob", "carol", "dave")
    }
    assert message["Subject"] == SUBJECT
    assert message.bcc == ["dave@example.com"]
    assert message.text == "Hello\n"


def test_mutt(sendmail: Path, tmp_path: Path) -> None:
    mutt = program("mutt")
    (tmp_path / ".muttrc").write_text(recipe(".muttrc", tmp_path))
    run(
        *(mutt, "-F", tmp_path / ".muttrc", "-e", "set from=eva@example.com"),
        *("-s", SUBJECT, "-b", "dave@example.com", "bob@example.com"),
        folder=tmp_path,
        text="Schöne Grüße\n",
    )
    message = stored(tmp_path)
    assert message.envelope.mail_from == "eva@example.com"
    assert message.envelope.rcpt_tos == ["bob@example.com", "dave@example.com"]
    assert (message["Subject"], message.text) == (SUBJECT, "Schöne Grüße\n")


def test_git_send_email(sendmail: Path, tmp_path: Path) -> None:
    git = program("git")
    scripts = subprocess.run([git, "--exec-path"], capture_output=True, text=True).stdout
    if not Path(scripts.strip(), "git-send-email").exists():
        pytest.skip("git send-email is not installed")
    (tmp_path / ".gitconfig").write_text(recipe(".gitconfig", tmp_path))
    patch = EmailMessage()
    patch["From"] = "eva@example.com"
    patch["Subject"] = SUBJECT
    patch.set_content("Schöne Grüße\n", cte="8bit")
    (tmp_path / "0001.patch").write_bytes(
        b"From 4711 Mon Sep 17 00:00:00 2001\n" + patch.as_bytes()
    )
    run(
        *(git, "-c", "user.name=Eva", "-c", "user.email=eva@example.com", "send-email"),
        *("--quiet", "--confirm=never", "--suppress-cc=all", "--from=eva@example.com"),
        *("--to=bob@example.com", "--bcc=carol@example.com", tmp_path / "0001.patch"),
        folder=tmp_path,
    )
    message = stored(tmp_path)
    assert message.envelope.rcpt_tos == ["bob@example.com", "carol@example.com"]
    assert message["Subject"] == SUBJECT
    assert message.bcc == ["carol@example.com"]


# The arguments with which each of them starts it, from its source.
CRON = {
    "Debian's cron": "-FCronDaemon -i -B8BITMIME -oem eva",
    "cronie": "-FCronDaemon -i -odi -oem -oi -t -f eva",
    "busybox": "-ti",
}


@pytest.mark.parametrize("arguments", CRON.values(), ids=CRON)
def test_cron(sendmail: Path, tmp_path: Path, arguments: str) -> None:
    text = (
        "From: eva (Cron Daemon)\nTo: eva\nSubject: Cron <eva@laptop> ./backup\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        "X-Cron-Env: <SHELL=/bin/sh>\n\ndisk is full: Größe 0\n"
    )
    run(sendmail, *shlex.split(arguments), folder=tmp_path, text=text)
    message = stored(tmp_path)
    assert message.envelope.rcpt_tos == ["eva"]
    assert message["Subject"] == "Cron <eva@laptop> ./backup"
    assert message.text == "disk is full: Größe 0\n"
