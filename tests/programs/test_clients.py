"""Mail comes in from the programs that people use.

One handler will do, since none knows who the client is.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import pytest
from support import HOST, PATIENCE, Kind, Server

from mailhandlers import StoredMessage, read_latest, read_messages

pytestmark = pytest.mark.slow

SENDER = "eva@example.com"
RECIPIENTS = ["bob@example.com", "carol@example.com"]
SUBJECT = "Grüße aus Köln"
TEXT = "Schöne Grüße\n.\n.. von Eva\n"


@pytest.fixture
def kind() -> Kind:
    return Kind("MboxSink", "mail.mbox")


def run(*command: str | Path, folder: Path, text: bytes | None = None, **env: str) -> None:
    """Run a program that must succeed; it finds no configuration of whoever runs the tests."""
    done = subprocess.run(
        command,
        cwd=folder,
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8", **env},
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout.decode()


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = RECIPIENTS[0]
    message["Subject"] = SUBJECT
    message.set_content(TEXT, cte="8bit")
    return message


def stored(server: Server, store: Path) -> StoredMessage:
    """Return the one message, checked for what each of the clients says of it."""
    assert not server.errors()
    message = read_latest(store)
    assert [m.envelope for m in read_messages(store)] == [message.envelope]
    assert message.envelope is not None
    assert message.envelope.mail_from == SENDER
    assert message.envelope.rcpt_tos == RECIPIENTS
    assert message["Subject"] == SUBJECT
    assert message.text.rstrip() == TEXT.rstrip()  # swaks puts a blank line behind it
    return message


def test_smtplib(server: Server, store: Path) -> None:
    with smtplib.SMTP(HOST, server.port, local_hostname="laptop") as smtp:
        smtp.send_message(mail(), SENDER, RECIPIENTS)
    message = stored(server, store)
    assert message.envelope is not None
    assert message.envelope.helo == "laptop"
    assert message.bcc == RECIPIENTS[1:]
    assert message.original_content == mail().as_bytes().replace(b"\n", b"\r\n")


def test_swaks(server: Server, store: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.eml"
    letter.write_bytes(mail().as_bytes())
    run(
        *(program("swaks"), "--silent", "--server", HOST, "--port", str(server.port)),
        *("--from", SENDER, "--to", ",".join(RECIPIENTS), "--data", f"@{letter}"),
        folder=tmp_path,
    )
    stored(server, store)


def test_msmtp(server: Server, store: Path, tmp_path: Path) -> None:
    run(
        *(program("msmtp"), f"--host={HOST}", f"--port={server.port}", "--read-envelope-from"),
        *("--", *RECIPIENTS),
        folder=tmp_path,
        text=mail().as_bytes(),
    )
    message = stored(server, store)  # a Date on top is msmtp's own
    assert message.original_content.endswith(mail().as_bytes().replace(b"\n", b"\r\n"))


def test_curl(server: Server, store: Path, tmp_path: Path) -> None:
    run(
        *(program("curl"), "--silent", "--show-error", f"smtp://{HOST}:{server.port}/laptop"),
        *("--mail-from", SENDER, "--crlf", "--upload-file", "-"),
        *(word for recipient in RECIPIENTS for word in ("--mail-rcpt", recipient)),
        folder=tmp_path,
        text=mail().as_bytes(),
    )
    message = stored(server, store)
    assert message.original_content == mail().as_bytes().replace(b"\n", b"\r\n")


def test_git_send_email(server: Server, store: Path, tmp_path: Path) -> None:
    git = program("git")
    scripts = subprocess.run([git, "--exec-path"], capture_output=True, text=True).stdout
    if not Path(scripts.strip(), "git-send-email").exists():
        pytest.skip("git send-email is not installed")
    patch = tmp_path / "0001.patch"
    patch.write_bytes(mail().as_bytes())
    run(
        *(git, "-c", "user.name=Eva", "-c", f"user.email={SENDER}", "send-email"),
        *("--quiet", "--confirm=never", "--suppress-cc=all", f"--from={SENDER}"),
        *(f"--smtp-server={HOST}", f"--smtp-server-port={server.port}"),
        *(f"--to={RECIPIENTS[0]}", f"--bcc={RECIPIENTS[1]}", str(patch)),
        folder=tmp_path,
    )
    message = stored(server, store)
    assert message.bcc == RECIPIENTS[1:]


def test_django(server: Server, store: Path, tmp_path: Path) -> None:
    pytest.importorskip("django", reason="Django is not installed")
    script = tmp_path / "send.py"
    script.write_text(
        f"""
from django.conf import settings
from django.core.mail import EmailMessage

settings.configure(EMAIL_HOST={HOST!r}, EMAIL_PORT={server.port})
to, bcc = {RECIPIENTS!r}
EmailMessage({SUBJECT!r}, {TEXT!r}, {SENDER!r}, [to], bcc=[bcc]).send()
"""
    )
    run(sys.executable, script, folder=tmp_path)
    message = stored(server, store)
    assert message.bcc == RECIPIENTS[1:]


@pytest.fixture(scope="session")
def nodemailer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where nodemailer is; NODE_PATH may say, or else npm fetches it."""
    node, npm = program("node"), program("npm")
    if subprocess.run([node, "-e", "require('nodemailer')"], capture_output=True).returncode:
        folder = tmp_path_factory.mktemp("node")
        command = [
            npm,
            "install",
            "--silent",
            "--no-save",
            "--fetch-retries=0",
            "--prefix",
            str(folder),
            "nodemailer",
        ]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("npm can't fetch nodemailer here")
        return str(folder / "node_modules")
    return os.environ.get("NODE_PATH", "")


def test_nodemailer(server: Server, store: Path, tmp_path: Path, nodemailer: str) -> None:
    script = """
const [port, from, to, bcc, subject, text] = process.argv.slice(1);
require("nodemailer")
  .createTransport({host: "127.0.0.1", port, ignoreTLS: true})
  .sendMail({from, to, bcc, subject, text});
"""
    run(
        *(program("node"), "-e", script, "--", str(server.port), SENDER, *RECIPIENTS),
        *(SUBJECT, TEXT),
        folder=tmp_path,
        NODE_PATH=nodemailer,
    )
    message = stored(server, store)
    assert message.bcc == RECIPIENTS[1:]
