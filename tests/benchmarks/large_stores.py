"""Stores of any size, and how long the latest message takes to find."""

from __future__ import annotations

import argparse
import dataclasses
import mailbox
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import servers

import mailhandlers
from mailhandlers import Envelope, StoredMessage, block, read_latest
from mailhandlers.mail import Mail
from mailhandlers.stores import json_lines, mbox

_CONTENT = b"Subject: A benchmark\r\n\r\n" + 8 * (72 * b"x" + b"\r\n")
_NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
_ENVELOPE = Envelope(
    id="NUMBER",
    received=_NOW,
    peer="127.0.0.1:54321",
    helo="laptop",
    protocol="ESMTP",
    tls=None,
    auth=None,
    mail_from="eva@example.com",
    mail_options=[],
    rcpt_tos=["bob@example.com"],
    size=len(_CONTENT),
)
_MAIL = Mail(_ENVELOPE, _CONTENT)
_PEOPLE = 20_000
_COUNTS = (1_000, 10_000, 100_000, 1_000_000)


def _name(number: int) -> str:
    return f"1767225600.M000000P1Q{number:09d}.laptop"


def _fill(folder: Path, count: int, suffix: str) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        envelope = dataclasses.replace(_ENVELOPE, id=_name(number))
        file = folder / (_name(number) + suffix)
        file.write_bytes(b"".join(block.encode(Mail(envelope, _CONTENT))))


def make(name: str, path: Path, count: int) -> None:
    """Fill the store of the handler *name* with *count* messages."""
    if name == "MailFile":
        path.write_bytes(b"".join(block.encode(_MAIL)))
    elif name == "MaildirSink":
        for folder in ("tmp", "cur"):
            (path / folder).mkdir(parents=True)
        _fill(path / "new", count, "")
    elif name == "PerRecipientDir":
        _fill(path / "bob@example.com", count, ".eml")
    else:
        summary = StoredMessage.parse(_CONTENT).summary()
        pieces = mbox.encode(_MAIL) if name == "MboxSink" else json_lines.encode(_MAIL, summary)
        entry = b"".join(pieces)
        with path.open("wb") as file:
            for number in range(count):
                file.write(entry.replace(b"NUMBER", _name(number).encode()))


def recipient(number: int) -> str:
    """Return to whom :func:`spread` sends a message: 20,000 people, in turn."""
    return f"user{number % _PEOPLE}@example.com"


def mail(number: int) -> Mail:
    """Return the message with this *number*, to one of 20,000 people."""
    envelope = dataclasses.replace(_ENVELOPE, id=_name(number), rcpt_tos=[recipient(number)])
    return Mail(envelope, _CONTENT).sealed()


def spread(name: str, path: Path, count: int) -> None:
    """Fill the store of the handler *name* with *count* messages, to 20,000 people."""
    summary = StoredMessage.parse(_CONTENT).summary()
    # Written once and filled in: a message takes 1 us so, and 40 otherwise.
    one = Mail(dataclasses.replace(_ENVELOPE, rcpt_tos=["RECIPIENT"]), _CONTENT).sealed()
    if name == "MboxSink":
        form = b"".join(mbox.encode(one))
    elif name == "JsonLines":
        form = b"".join(json_lines.encode(one, summary))
    else:
        form = b"".join(block.encode(one))
    folders = {"MaildirSink": ["tmp", "cur", "new"], "PerRecipientDir": [""]}.get(name)
    for folder in folders or ():
        (path / folder).mkdir(parents=True)
    with open(os.devnull if folders else path, "wb") as whole:
        for number in range(count):
            to, own = recipient(number), _name(number)
            entry = form.replace(b"NUMBER", own.encode()).replace(b"RECIPIENT", to.encode())
            if not folders:
                whole.write(entry)
            elif name == "MaildirSink":
                _write(f"{path}/new/{own}", entry)
            else:
                if number < _PEOPLE:
                    os.mkdir(f"{path}/{to}")
                _write(f"{path}/{to}/{own}.eml", entry)
                if number >= count - _PEOPLE:
                    os.symlink(f"{own}.eml", f"{path}/{to}/latest.eml")


def _write(path: str, octets: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, octets)
    os.close(fd)


def _of_mailbox_mbox(path: Path) -> None:
    box = mailbox.mbox(path, create=False)
    _ = box[max(box.keys())]
    box.close()


def _of_mailbox_maildir(path: Path) -> None:
    box = mailbox.Maildir(path, create=False)
    _ = box[max(box.keys())]


_STANDARD_LIBRARY: dict[str, Callable[[Path], None]] = {
    "MboxSink": _of_mailbox_mbox,
    "MaildirSink": _of_mailbox_maildir,
}


def _seconds(read: Callable[[Path], object], path: Path, repeat: int = 5) -> float:
    """Return the shortest of some readings, with a warm cache."""
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        read(path)
        times.append(time.perf_counter() - begun)
    return min(times)


def _ours(path: Path) -> object:
    """Read the latest message."""
    return read_latest(path)


def latest(options: argparse.Namespace) -> None:
    """Print how long read_latest takes in stores of growing size."""
    counts = [count for count in (100, 10_000, 1_000_000) if count <= options.most]
    print("\nread_latest, in milliseconds (the standard library's mailbox in brackets):")
    print(f"  {'messages':16}" + "".join(f"{count:>22,}" for count in counts))
    for target in servers.handlers(None):
        row = f"  {target.name:16}"
        for count in counts:
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                path = Path(folder) / "store"
                make(target.name, path, count)
                cell = f"{1000 * _seconds(_ours, path):.2f}"
                if other := _STANDARD_LIBRARY.get(target.name):
                    cell += f" [{1000 * _seconds(other, path, repeat=1):.2f}]"
            row += f"{cell:>22}"
        print(row, flush=True)


def questions(options: argparse.Namespace) -> None:
    """Print what questions cost in stores of growing size, and how that grows."""
    counts = [count for count in _COUNTS if count <= options.most]
    for target in servers.handlers(None):
        if target.name == "MailFile":
            continue
        print(
            f"\n{target.name}, 20,000 recipients, in milliseconds; how it grows with ten times"
        )
        print("as many messages: 1.0 not at all, 10 as they do")
        table: dict[str, list[float]] = {}
        for count in counts:
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                path = Path(folder) / "store"
                spread(target.name, path, count)
                for python in [sys.executable, options.beside]:
                    if python is None:
                        continue
                    script = Path(__file__).with_name("asking.py")
                    told = subprocess.run(
                        [python, script, path], check=True, stdout=subprocess.PIPE, text=True
                    ).stdout
                    beside = " (beside)" if python == options.beside else ""
                    for line in told.splitlines():
                        name, _, value = line.partition("\t")
                        table.setdefault(f"{name}{beside}", []).append(float(value))
        print(f"  {'':34}" + "".join(f"{count:>12,}" for count in counts) + "   growth")
        for name, values in table.items():
            tens = math.log10(counts[-1] / counts[0]) or 1
            growth = (values[-1] / max(values[0], 1e-9)) ** (1 / tens)
            cells = "".join(f"{value:12.3f}" for value in values)
            print(f"  {name:34}{cells}{growth:9.1f}", flush=True)


def keep(options: argparse.Namespace) -> None:
    """Print what ``keep=`` adds to a message of a store that is full: us, batches of ten."""
    print("\nMicroseconds a message, without fsync, in batches of ten; then with keep=:")
    batch = [Mail(dataclasses.replace(_ENVELOPE, id=""), _CONTENT)] * 10
    for name in ("MaildirSink", "PerRecipientDir"):
        for count in (10_000, 100_000):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                path = Path(folder, "store")
                make(name, path, count)
                handler_class = getattr(mailhandlers, name)
                handlers = [
                    handler_class(path, sync=False),
                    handler_class(path, sync=False, keep=count),
                ]
                seconds = [0.0, 0.0]
                for _ in range(count // 10 // options.rounds // 10):
                    for which, handler in enumerate(handlers * options.rounds):
                        mails = [mail.renamed() for mail in batch]
                        begun = time.perf_counter()
                        handler.store_all(mails)
                        seconds[which % 2] += time.perf_counter() - begun
                for handler in handlers:
                    handler.close()
            sent = count // 100 // options.rounds * options.rounds * 10
            without, with_keep = (1e6 * each / sent for each in seconds)
            print(
                f"  {name:16} {count:7,} messages  {without:6.0f}  {with_keep:6.0f}", flush=True
            )
