"""What is sent to a server, and what that costs."""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

import servers

OCTETS = 2000
MIB = 1 << 20


class Load(NamedTuple):
    """Many small messages."""

    sessions: int
    messages: int
    is_kept: bool

    def __str__(self) -> str:
        plural = "s" * (self.sessions > 1)
        kept = "kept connections" if self.is_kept else "a connection for each message"
        return f"{self.sessions} session{plural}, {kept}"


def speed(port: int, load: Load) -> float:
    """Return messages a second; a session keeps its connection, or has one a message."""
    seconds = _smtp_source(port, load, OCTETS)
    os.sync()  # what this one left in memory is not the next one's to pay for
    return load.messages / seconds


def send_one(port: int, octets: int = OCTETS) -> float:
    """Send one message; return the seconds that it took."""
    return _smtp_source(port, Load(1, 1, is_kept=False), octets)


class Large(NamedTuple):
    """What one large message cost."""

    seconds: float
    peak_mib: float
    noop_seconds: float


def large(target: servers.Target, octets: int) -> Large:
    """Send one message; meanwhile watch the memory, and wait for NOOPs elsewhere."""
    with servers.running(target) as server:
        send_one(server.port)
        done = threading.Event()
        waits: list[float] = []
        sizes: list[float] = []
        watchers = [
            threading.Thread(target=_ask, args=(server.port, done, waits)),
            threading.Thread(target=_weigh, args=(server.process.pid, done, sizes)),
        ]
        for watcher in watchers:
            watcher.start()
        seconds = send_one(server.port, octets)
        done.set()
        for watcher in watchers:
            watcher.join()
        return Large(seconds, max(sizes), max(waits))


def _smtp_source(port: int, load: Load, octets: int) -> float:
    program = shutil.which("smtp-source", path=f"{os.defpath}:/usr/sbin:{os.environ['PATH']}")
    if program is None:
        raise SystemExit("smtp-source is missing: install Debian's package postfix")
    command = [program, "-4", "-s", str(load.sessions), "-m", str(load.messages)]
    command += ["-l", str(octets), *(["-d"] if load.is_kept else [])]
    begun = time.perf_counter()
    subprocess.run([*command, f"{servers.HOST}:{port}"], check=True)
    return time.perf_counter() - begun


def _ask(port: int, done: threading.Event, waits: list[float]) -> None:
    with smtplib.SMTP(servers.HOST, port) as client:
        while not done.wait(0.005):
            begun = time.perf_counter()
            client.noop()
            waits.append(time.perf_counter() - begun)


def _weigh(pid: int, done: threading.Event, sizes: list[float]) -> None:
    """Note the memory of a process and its children, shared pages counted once.

    While the kernel adds up a gigabyte, which takes it 10 ms and more, the process can get
    no memory: asked every 10 ms, a server took twice as long. So we rest 20 times as long.
    """
    pause = 0.0
    while not done.wait(max(pause, 0.01)):
        begun = time.perf_counter()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        sizes.append(sum(_pss(process) for process in [str(pid), *children]) / MIB)
        pause = 20 * (time.perf_counter() - begun)


def _pss(pid: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
