"""The part that measures other programs that catch mail, beside a handler of ours.

Each is installed into an environment of its own in a temporary folder, in the newest version
that the registry has. What can't be installed or doesn't start is left out, with a sentence.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import shutil
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import loads
import ratios
import servers
from loads import Load

_ADDRESS = f"{servers.HOST}:PORT"
_MAILDIR = next(each for each in servers.handlers(None) if each.name == "MaildirSink")
_OURS = [
    _MAILDIR._replace(name=_MAILDIR.name + name, args=(*_MAILDIR.args, *options))
    for name, options in (
        ("", ()),
        (", sync=no", ("sync=no",)),
        (", web=", (f"web={servers.HOST}:0",)),
    )
]
_KEPT = 10_000  # messages, when the memory is looked at

# The two fixtures, as servers of a process of their own.
_SMTPDFIX = f"""
import threading
from smtpdfix import SMTPDFix
with SMTPDFix({servers.HOST!r}, PORT):
    threading.Event().wait()
"""
_LOCALSERVER = f"""
import threading
from pytest_localserver.smtp import Server
Server({servers.HOST!r}, PORT).start()
threading.Event().wait()
"""


class NotHereError(Exception):
    """A program is not on this machine; the text says why, and what to do."""


class Package(NamedTuple):
    """A package of PyPI, and its server: a program that it installs, or ``python``."""

    requirement: str
    program: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name without the extra."""
        return self.requirement.partition("[")[0]


PACKAGES = [
    Package("dsmtpd", "dsmtpd", ("-i", servers.HOST, "-p", "PORT", "-d", "store")),
    Package(
        "maildirsink",
        "maildirsink",
        ("--host", servers.HOST, "--port", "PORT", "--dir", "store"),
    ),
    Package("fakesmtpd", "fakesmtpd", ("-b", servers.HOST, "-p", "PORT", "-o", "store")),
    Package("smtpdfix", "python", ("-c", _SMTPDFIX)),
    Package("pytest-localserver[smtp]", "python", ("-c", _LOCALSERVER)),
]


def others(options: argparse.Namespace) -> None:
    """Print what other programs that catch mail do a second, their start, memory, search."""
    print("\nOther programs:")
    with tempfile.TemporaryDirectory() as folder:
        targets = [servers.SINK, servers.MAILBOX, *_OURS, *_others(Path(folder))]
        for sessions, messages in ((50, options.messages), (1, options.messages // 3)):
            _speeds(targets, options.rounds, Load(sessions, messages, is_kept=False))
        _starts(targets, options.rounds)
        _memories(targets)
        _searches(Path(folder), min(options.most, 100_000))


def _speeds(targets: list[servers.Target], rounds: int, load: Load) -> None:
    measured = ratios.speeds(targets, rounds, load)
    over_sink = ratios.over("Sink", measured)
    print(f"\nMessages a second, and over those of Sink, {load}:")
    for target in targets:
        rate = statistics.median(result[target.name] for result in measured)
        values = over_sink.get(target.name)
        spread = ratios.spread(values) if values else ""
        print(f"  {target.name:32} {rate:5.0f} a second  {spread}", flush=True)


def _starts(targets: list[servers.Target], rounds: int) -> None:
    print("\nMilliseconds from the start of the program to its greeting:")
    measured = [[1000 * _greeting_seconds(target) for target in targets] for _ in range(rounds)]
    for target, times in zip(targets, zip(*measured, strict=True), strict=True):
        print(f"  {target.name:32} {statistics.median(times):6.0f}", flush=True)


def _greeting_seconds(target: servers.Target) -> float:
    with servers.running(target) as server:
        begun = time.perf_counter()
        with smtplib.SMTP(servers.HOST, server.port, local_hostname="laptop"):
            return server.start_seconds + time.perf_counter() - begun


def _memories(targets: list[servers.Target]) -> None:
    print(f"\nMiB of memory after the start, and after {_KEPT:,} messages:")
    for target in targets:
        with servers.running(target) as server:
            first = loads.memory_mib(server.process.pid)
            loads.speed(server.port, Load(50, _KEPT, is_kept=False))
            last = loads.memory_mib(server.process.pid)
        print(f"  {target.name:32} {first:6.0f} {last:6.0f}", flush=True)


# The message that is looked for, in the mailbox of all others.
_NEEDLE_TO = ["carol@example.com", loads.RECIPIENT]
_NEEDLE = (
    "From: eva@example.com\r\nTo: carol@example.com\r\nSubject: The needle\r\n\r\nxylophone\r\n"
)


def _searches(folder: Path, count: int) -> None:
    print(f"\nMilliseconds to find one of {count:,} messages, the first time and the third:")
    for target, ask, questions in _searched(folder):
        with servers.running(target) as server:
            loads.speed(server.port, Load(50, count, is_kept=True))
            with smtplib.SMTP(servers.HOST, server.port, local_hostname="laptop") as client:
                client.sendmail("eva@example.com", _NEEDLE_TO, _NEEDLE)
            for question in questions:
                times = [_milliseconds(ask, question) for _ in range(3)]
                told = f"{target.name:32} {question:24} {times[0]:6.0f} {times[2]:6.0f}"
                print(f"  {told}", flush=True)


def _searched(folder: Path) -> Iterator[tuple[servers.Target, Callable[[str], int], list[str]]]:
    """Yield those that can search, how each is asked, and what."""
    with socket.socket() as free:
        free.bind((servers.HOST, 0))
        port = free.getsockname()[1]
    listen = f"{servers.HOST}:{port}"
    ours = _MAILDIR._replace(args=(*_MAILDIR.args, f"web={listen}"))
    questions = ["to=carol@example.com", "matching=xylophone"]
    yield ours, partial(_over_http, f"http://{listen}/api/messages?"), questions
    with suppress(NotHereError):
        mailpit = _mailpit("--database", "store", "--max", "0", "--listen", listen)
        questions = ["to:carol@example.com", "xylophone"]
        yield mailpit, partial(_over_http, f"http://{listen}/api/v1/search?query="), questions
    with suppress(NotHereError):
        imap = (f"-Dgreenmail.imap.hostname={servers.HOST}", f"-Dgreenmail.imap.port={port}")
        greenmail = _greenmail(folder, *imap)
        yield greenmail, partial(_over_imap, port), ["TO carol@example.com", "TEXT xylophone"]


def _milliseconds(ask: Callable[[str], int], question: str) -> float:
    begun = time.perf_counter()
    found = ask(question)
    if found != 1:
        raise SystemExit(f"{question} found {found} messages instead of one")
    return 1000 * (time.perf_counter() - begun)


def _over_http(address: str, question: str) -> int:
    with urllib.request.urlopen(address + question) as answer:
        told = json.load(answer)
    return len(told["messages"] if isinstance(told, dict) else told)


def _over_imap(port: int, question: str) -> int:
    client = imaplib.IMAP4(servers.HOST, port)
    client.login(loads.RECIPIENT, loads.RECIPIENT)
    client.select()
    found = client.search(None, question)[1][0]
    client.logout()
    return len(found.split())


def _others(folder: Path) -> list[servers.Target]:
    """Install all that can be had here; return those that start."""
    found = []
    makers: list[tuple[str, Callable[[], servers.Target]]] = [
        (package.name, partial(_from_pypi, package, folder)) for package in PACKAGES
    ]
    makers += [
        ("maildev", partial(_maildev, folder)),
        ("Mailpit", _mailpit),
        ("Mailpit", partial(_mailpit, "--database", "store", "--max", "0")),
        ("GreenMail", partial(_greenmail, folder)),
    ]
    for name, make in makers:
        try:
            target = make()
            with servers.running(target):
                pass
        except (NotHereError, servers.EndedError) as error:
            print(f"  {name} is left out: {error}", flush=True)
        else:
            found.append(target)
    return found


def _from_pypi(package: Package, folder: Path) -> servers.Target:
    home = folder / package.name
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = str(home / "bin" / "python")
    if _fails(python, "-m", "pip", "-qq", "install", package.requirement):
        raise NotHereError("pip can't install it")
    told = subprocess.check_output([python, "-m", "pip", "show", package.name], text=True)
    program = str(home / "bin" / package.program)
    return _target(package.name, _field(told, "Version"), program, *package.arguments)


def _maildev(folder: Path) -> servers.Target:
    """Return MailDev, without its page, which would want a port of its own."""
    if shutil.which("npm") is None:
        raise NotHereError("npm is missing: install Debian's packages nodejs and npm")
    if _fails("npm", "install", "--silent", "--no-save", "--prefix", str(folder), "maildev"):
        raise NotHereError("npm can't install it")
    program = str(folder / "node_modules" / ".bin" / "maildev")
    version = subprocess.check_output([program, "--version"], text=True).strip()
    arguments = ("--ip", servers.HOST, "-s", "PORT", "--disable-web", "--silent")
    return _target("maildev", version, program, *arguments, "--mail-directory", "store")


def _mailpit(*options: str) -> servers.Target:
    """Return the Mailpit of this machine; its temporary database is beside our stores."""
    program = shutil.which("mailpit")
    if program is None:
        raise NotHereError("neither pip nor npm has it: put its program mailpit on the PATH")
    told = subprocess.check_output([program, "version", "--no-release-check"], text=True)
    name = " ".join(["Mailpit", told.split()[1], *options[:1]])
    listen = ("--smtp", _ADDRESS, "--listen", f"{servers.HOST}:0")
    return servers.Target(name, "", command=("env", "TMPDIR=.", program, *listen, *options))


def _greenmail(folder: Path, *options: str) -> servers.Target:
    """Return GreenMail with SMTP alone, and the memory that Java gives it."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise NotHereError(
                f"{program} is missing: install Debian's packages of a JDK and maven"
            )
    artifact = "-Dartifact=com.icegreen:greenmail-standalone:LATEST"
    repository = f"-Dmaven.repo.local={folder / 'maven'}"
    if _fails("mvn", "-q", repository, "dependency:get", artifact, "-Dtransitive=false"):
        raise NotHereError("mvn can't install it")
    (jar,) = folder.glob("maven/**/greenmail-standalone-*.jar")
    listen = (f"-Dgreenmail.smtp.hostname={servers.HOST}", "-Dgreenmail.smtp.port=PORT")
    version = jar.stem.rpartition("-")[2]
    return _target("GreenMail", version, "java", *listen, *options, "-jar", str(jar))


def _target(name: str, version: str, *command: str) -> servers.Target:
    return servers.Target(f"{name} {version}", "", command=command)


def _fails(*command: str) -> bool:
    return bool(subprocess.run(command, check=False, capture_output=True).returncode)


def _field(told: str, key: str) -> str:
    lines = told.splitlines()
    return next(line.split(": ", 1)[1] for line in lines if line.startswith(f"{key}: "))
