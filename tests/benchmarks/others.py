"""The part that measures other programs that catch mail, beside a handler of ours.

Each is installed into an environment of its own in a temporary folder, in the newest version
that the registry has. What can't be installed or doesn't start is left out, with a sentence.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ratios
import servers
from loads import Load

_ADDRESS = f"{servers.HOST}:PORT"
_MAILDIR = next(each for each in servers.handlers(None) if each.name == "MaildirSink")

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
    """Print messages a second of other programs that catch mail, and over those of Sink."""
    print("\nOther programs:")
    with tempfile.TemporaryDirectory() as folder:
        targets = [servers.SINK, servers.MAILBOX, _MAILDIR, *_others(Path(folder))]
        for sessions, messages in ((50, options.messages), (1, options.messages // 3)):
            load = Load(sessions, messages, is_kept=False)
            measured = ratios.speeds(targets, options.rounds, load)
            over_sink = ratios.over("Sink", measured)
            print(f"\nMessages a second, and over those of Sink, {load}:")
            for target in targets:
                rate = statistics.median(result[target.name] for result in measured)
                values = over_sink.get(target.name)
                spread = ratios.spread(values) if values else ""
                print(f"  {target.name:32} {rate:5.0f} a second  {spread}", flush=True)


def _others(folder: Path) -> list[servers.Target]:
    """Install all that can be had here; return those that start."""
    found = []
    makers: list[tuple[str, Callable[[], servers.Target]]] = [
        (package.name, partial(_from_pypi, package, folder)) for package in PACKAGES
    ]
    makers += [("maildev", partial(_maildev, folder)), ("Mailpit", _mailpit)]
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


def _mailpit() -> servers.Target:
    """Return the Mailpit of this machine."""
    program = shutil.which("mailpit")
    if program is None:
        raise NotHereError("neither pip nor npm has it: put its program mailpit on the PATH")
    told = subprocess.check_output([program, "version", "--no-release-check"], text=True)
    arguments = ("--smtp", _ADDRESS, "--listen", f"{servers.HOST}:0", "--max", "0")
    return _target("Mailpit", told.split()[1], program, *arguments, "--database", "store")


def _target(name: str, version: str, *command: str) -> servers.Target:
    return servers.Target(f"{name} {version}", "", command=command)


def _fails(*command: str) -> bool:
    return bool(subprocess.run(command, check=False, capture_output=True).returncode)


def _field(told: str, key: str) -> str:
    lines = told.splitlines()
    return next(line.split(": ", 1)[1] for line in lines if line.startswith(f"{key}: "))
