"""What the tests of the page share: a filled store, the server as a process, the browser."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from support import PATIENCE, wait_until

import mailhandlers
from mailhandlers import MailCatcher, block
from mailhandlers.mail import UNKNOWN, Identity, Mail

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# With `re`, and the text of the message, the pattern takes longer than anybody lives.
EVIL = "(?:a|aa)+$"
HOOK = b"Subject: hook\r\n\r\n" + b"a" * 5000 + b"!\r\n"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@contextmanager
def catching(store: Path, handler: str = "MaildirSink") -> Iterator[MailCatcher]:
    """Catch mail in *store*."""
    kind = getattr(mailhandlers, handler)
    with MailCatcher(kind(store, sync=False)) as catcher:
        yield catcher


def deliver(
    catcher: MailCatcher,
    content: bytes | str = "Subject: hello\r\n\r\nHow are you?\r\n",
    to: Iterable[str] = ("bob@example.com",),
    sender: str = "eva@example.com",
) -> None:
    """Send one message."""
    with smtplib.SMTP(catcher.host, catcher.port) as smtp:
        smtp.sendmail(sender, list(to), content)


def store_directly(
    folder: Path,
    content: bytes,
    to: Sequence[str] = ("bob@example.com",),
    received: datetime | None = None,
) -> str:
    """Store a message in a Maildir as a handler would, also one that SMTP can't carry.

    Return its id.
    """
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    identity = Identity.now()
    envelope = dataclasses.replace(
        UNKNOWN,
        id=identity.id,
        received=received or identity.received,
        protocol="ESMTP",
        mail_from="eva@example.com",
        rcpt_tos=list(to),
        size=len(content),
    )
    data = b"".join(block.encode(Mail(envelope, content).sealed()))
    (folder / "tmp" / identity.id).write_bytes(data)
    (folder / "tmp" / identity.id).rename(folder / "new" / identity.id)
    return identity.id


def processor_time(pid: int) -> float:
    """Return how many seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def busy(url: str, path: str, pid: int) -> Iterator[None]:
    """Have the page, which is the process *pid*, answer a request that it can't end."""
    host, _, port = url.removeprefix("http://").strip("/").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        before = processor_time(pid)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if "matching" in path:
            wait_until(lambda: processor_time(pid) - before > 0.3)
        else:  # the request before this one has been read
            urlopen(url, timeout=PATIENCE).close()
        yield


BUSY = [
    "/api/messages?matching=" + quote(EVIL),
    "/api/messages/latest?to=nobody@example.com&timeout=60",
    "/api/events",
]


def get(url: str, **options: Any) -> Any:
    """Return the answer of httpx, whose own patience is five seconds."""
    import httpx

    return httpx.get(url, timeout=PATIENCE, **options)


class Web:
    """``mailhandlers web`` as a process."""

    start: ClassVar = ["-m", "mailhandlers", "web"]

    def __init__(self, store: Path, listen: str = "127.0.0.1:0", *more: str) -> None:
        command = [sys.executable, *self.start, os.fspath(store), "--listen", listen, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.line)
        assert found, f"no address in {self.line!r}"
        self.address = found[0]
        self.url = self.address.partition("?")[0].rstrip("/")
        self.port = int(self.url.split(":")[-1].partition("/")[0])

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End the server as Ctrl-C does; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        if self.process.stdout:
            self.process.stdout.close()
        return status


class EndlessWeb(Web):
    """The same with all the time of the world for a pattern."""

    start: ClassVar = [
        "-c",
        "import sys\nfrom mailhandlers.cli.main import main\n"
        "from mailhandlers.web import query\n"
        "query._MATCHING_SECONDS = 1e9\nsys.exit(main(['web', *sys.argv[1:]]))",
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright; skips where one of them is missing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api.expect.set_options(timeout=PATIENCE * 1000)
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


__all__ = [
    *("BUSY", "CHROMIUM", "EVIL", "FLAGS", "HOOK", "EndlessWeb", "Web", "browser", "busy"),
    *("catching", "deliver", "get", "processor_time", "store_directly"),
]
