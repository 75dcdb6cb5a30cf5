"""The command ``mailhandlers`` as a process, and mail for it to read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path

from support import PATIENCE

import mailhandlers
from mailhandlers.mail import Envelope, Identity, Mail

Shell = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-m", "mailhandlers"]


def shell(
    *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``mailhandlers`` with *arguments*, and wait for its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **(env or {})},
    )


def mail(
    subject: str = "hello",
    text: str = "How are you?\n",
    *,
    html: str | None = None,
    to: Sequence[str] = ("bob@example.com",),
    sender: str = "eva@example.com",
    files: Mapping[str, bytes] | None = None,
) -> Mail:
    """Return a message as a mail program would send it."""
    message = EmailMessage()
    message["From"] = f"Eva <{sender}>"
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    for name, content in (files or {}).items():
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=name
        )
    return raw_mail(message.as_bytes().replace(b"\n", b"\r\n"), to, sender)


def raw_mail(
    content: bytes,
    to: Sequence[str] = ("bob@example.com",),
    sender: str = "eva@example.com",
) -> Mail:
    """Return *content* with an envelope, as it is read back."""
    identity = Identity.now()
    return Mail(
        Envelope(
            id=identity.id,
            received=identity.received,
            peer="127.0.0.1:54321",
            helo="laptop",
            protocol="ESMTP",
            tls=None,
            auth=None,
            mail_from=sender,
            mail_options=[],
            rcpt_tos=list(to),
            size=len(content),
        ),
        content,
    ).sealed()


def put(handler: str, store: Path, *mails: Mail) -> None:
    """Store *mails* as a server with *handler* would, and as one batch."""
    keeper = getattr(mailhandlers, handler)(store, sync=False)
    keeper.store_all(mails)
    keeper.close()
