"""Stock aiosmtpd commands: which handler, of which version, and how one is run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
# As it is for users: with the compiled modules that Python keeps.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT["PYTHONPATH"] = str(Path(__file__).parent)  # for the bare handlers
_BESIDE = ", beside"


class Target(NamedTuple):
    """A handler under the stock command, of the version that *python* has installed."""

    name: str
    classpath: str
    args: tuple[str, ...] = ()
    python: str = sys.executable
    command: tuple[str, ...] = ()
    """What runs another program, with ``PORT`` for the port; else it is aiosmtpd's command."""

    @property
    def handler(self) -> str:
        """The name of the handler, which its two versions share."""
        return self.name.removesuffix(_BESIDE)

    @property
    def is_beside(self) -> bool:
        """Whether it is of the version that ours is compared with."""
        return self.name.endswith(_BESIDE)


SINK = Target("Sink", "aiosmtpd.handlers.Sink")
MAILBOX = Target("Mailbox", "aiosmtpd.handlers.Mailbox", ("store",))
BARE = [
    Target("bare append", "bare.Append", ("store",)),
    Target("bare file", "bare.File", ("store",)),
]
_HANDLERS = [
    Target(name, f"mailhandlers.{name}", ("store",))
    for name in ("MailFile", "MboxSink", "MaildirSink", "JsonLines", "PerRecipientDir")
]


def handlers(beside: str | None) -> list[Target]:
    """Return the five handlers, each followed by that of the interpreter *beside*, if any."""
    if beside is None:
        return _HANDLERS
    pairs = [
        (ours, ours._replace(name=ours.name + _BESIDE, python=beside)) for ours in _HANDLERS
    ]
    return [target for pair in pairs for target in pair]


def with_uvloop(targets: Iterable[Target]) -> list[Target]:
    """Return *targets* with ``loop=uvloop``."""
    return [target._replace(args=(*target.args, "loop=uvloop")) for target in targets]


# The folder of the package is found, not imported, as the server will find it.
_TELL = """
import importlib.metadata as m, importlib.util as u, platform
print(u.find_spec("mailhandlers").origin)
print(f"Python {platform.python_version()}, aiosmtpd {m.version('aiosmtpd')}")
"""


def _told(python: str, *options: str, folder: str | None = None) -> list[str]:
    command = [python, *options, "-c", _TELL]
    try:
        text = subprocess.check_output(command, cwd=folder, env=ENVIRONMENT, text=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{python} can't find mailhandlers and aiosmtpd: see above") from error
    return text.splitlines()


@cache
def version(python: str) -> list[str]:
    """Return the file of the mailhandlers installed for *python*, and what it runs on."""
    return _told(python, "-I")  # neither a PYTHONPATH nor the working directory counts


def _check_version(target: Target, folder: str) -> None:
    """Exit where a server of *target*, run in *folder*, would load another version."""
    loaded, installed = _told(target.python, folder=folder)[0], version(target.python)[0]
    if loaded != installed:
        raise SystemExit(f"{target.name} would load {loaded} instead of {installed}")


class EndedError(SystemExit):
    """A server ended before it answered."""


class Running(NamedTuple):
    """A server that answers."""

    process: subprocess.Popen[bytes]
    port: int
    start_seconds: float


@contextmanager
def running(target: Target) -> Iterator[Running]:
    """Run *target* on a free port, in a new folder here that stays."""
    folder = tempfile.mkdtemp(dir=Path.cwd())
    if target.classpath.startswith("mailhandlers."):
        _check_version(target, folder)
    os.sync()  # what was written before is not this one's to pay for
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [target.python, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}"]
    command += ["-c", target.classpath, *target.args]
    if target.command:
        command = [word.replace("PORT", str(port)) for word in target.command]
    begun = time.perf_counter()
    # Other programs have a line for each message.
    output = subprocess.DEVNULL if target.command else None
    process = subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=output, stderr=output
    )
    try:
        _wait_for(port, process)
        yield Running(process, port, time.perf_counter() - begun)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.002)
        else:
            return
    raise EndedError(f"{process.args!r} ended with {process.returncode}")
