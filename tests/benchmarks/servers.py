"""A stock aiosmtpd command, its load, and what both cost."""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
OCTETS = 2000
MIB = 1 << 20
# As it is for users: with the compiled modules that Python keeps.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT["PYTHONPATH"] = str(Path(__file__).parent)  # for the bare handlers


class Target(NamedTuple):
    """A handler under the stock command."""

    name: str
    classpath: str
    args: tuple[str, ...] = ()


SINK = Target("Sink", "aiosmtpd.handlers.Sink")
MAILBOX = Target("Mailbox", "aiosmtpd.handlers.Mailbox", ("store",))
BARE = [
    Target("bare append", "bare.Append", ("store",)),
    Target("bare file", "bare.File", ("store",)),
]
HANDLERS = [
    Target(name, f"mailhandlers.{name}", ("store",))
    for name in ("MailFile", "MboxSink", "MaildirSink", "JsonLines", "PerRecipientDir")
]


def with_uvloop(target: Target) -> Target:
    """Return *target* with ``loop=uvloop``."""
    return target._replace(args=(*target.args, "loop=uvloop"))


class Running(NamedTuple):
    """A server that answers."""

    process: subprocess.Popen[bytes]
    port: int


@contextmanager
def running(target: Target) -> Iterator[Running]:
    """Run *target* on a free port, in a new folder here that stays."""
    folder = tempfile.mkdtemp(dir=Path.cwd())
    os.sync()  # what was written before is not this one's to pay for
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}"]
        command += ["-c", target.classpath, *target.args]
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT)
        try:
            _wait_for(port, process)
            yield Running(process, port)
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
    raise SystemExit(f"{process.args!r} ended with {process.returncode}")


def start_seconds(target: Target) -> float:
    """Return how long *target* takes to open its port."""
    begun = time.perf_counter()
    with running(target):
        return time.perf_counter() - begun


def throughput(port: int, sessions: int, messages: int) -> float:
    """Return messages a second, each over a connection of its own."""
    seconds = _smtp_source(port, sessions, messages, OCTETS)
    os.sync()  # what this one left in memory is not the next one's to pay for
    return messages / seconds


class Large(NamedTuple):
    """What one large message cost."""

    seconds: float
    peak_mib: float
    noop_seconds: float


def large(target: Target, octets: int) -> Large:
    """Send one message; meanwhile watch the memory, and wait for NOOPs elsewhere."""
    with running(target) as server:
        _smtp_source(server.port, 1, 1, OCTETS)
        done = threading.Event()
        waits: list[float] = []
        sizes: list[float] = []
        watchers = [
            threading.Thread(target=_ask, args=(server.port, done, waits)),
            threading.Thread(target=_weigh, args=(server.process.pid, done, sizes)),
        ]
        for watcher in watchers:
            watcher.start()
        seconds = _smtp_source(server.port, 1, 1, octets)
        done.set()
        for watcher in watchers:
            watcher.join()
        return Large(seconds, max(sizes), max(waits))


def _smtp_source(port: int, sessions: int, messages: int, octets: int) -> float:
    program = shutil.which("smtp-source", path=f"{os.defpath}:/usr/sbin:{os.environ['PATH']}")
    if program is None:
        raise SystemExit("smtp-source is missing: install Debian's package postfix")
    command = [program, "-4", "-s", str(sessions), "-m", str(messages), "-l", str(octets)]
    begun = time.perf_counter()
    subprocess.run([*command, f"{HOST}:{port}"], check=True)
    return time.perf_counter() - begun


def _ask(port: int, done: threading.Event, waits: list[float]) -> None:
    with smtplib.SMTP(HOST, port) as client:
        while not done.wait(0.005):
            begun = time.perf_counter()
            client.noop()
            waits.append(time.perf_counter() - begun)


def _weigh(pid: int, done: threading.Event, sizes: list[float]) -> None:
    """Note the memory of a process and its children, shared pages counted once."""
    while not done.wait(0.01):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        sizes.append(sum(_pss(process) for process in [str(pid), *children]) / MIB)


def _pss(pid: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
