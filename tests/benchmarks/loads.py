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
RECIPIENT = "bob@example.com"
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
        asker = threading.Thread(target=_ask, args=(server.port, done, waits))
        memory = _Memory(server.process.pid)
        asker.start()
        seconds = send_one(server.port, octets)
        done.set()
        asker.join()
        return Large(seconds, memory.peak_mib(), max(waits))


def _smtp_source(port: int, load: Load, octets: int) -> float:
    program = shutil.which("smtp-source", path=f"{os.defpath}:/usr/sbin:{os.environ['PATH']}")
    if program is None:
        raise SystemExit("smtp-source is missing: install Debian's package postfix")
    command = [program, "-4", "-s", str(load.sessions), "-m", str(load.messages)]
    command += ["-t", RECIPIENT, "-l", str(octets), *(["-d"] if load.is_kept else [])]
    begun = time.perf_counter()
    subprocess.run([*command, f"{servers.HOST}:{port}"], check=True)
    return time.perf_counter() - begun


def _ask(port: int, done: threading.Event, waits: list[float]) -> None:
    with smtplib.SMTP(servers.HOST, port) as client:
        while not done.wait(0.005):
            begun = time.perf_counter()
            client.noop()
            waits.append(time.perf_counter() - begun)


def memory_mib(pid: int) -> float:
    """Return what a process and its children have now; what they share counts once."""
    return sum(_mib(process / "smaps_rollup", "Pss") for process in _processes(pid))


def _processes(pid: int) -> list[Path]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path("/proc", process) for process in [str(pid), *children]]


class _Memory:
    """The most memory that a process and its children had since this was made.

    The kernel keeps each one's peak. To ask it for the sum every 10 ms made a server with
    a gigabyte take twice as long, since memory that is being counted can't grow.
    """

    def __init__(self, pid: int) -> None:
        self._processes = _processes(pid)
        for process in self._processes:
            (process / "clear_refs").write_text("5")  # proc(5): the peak starts anew
        # What they share is counted once here, and in both peaks, whose growth alone counts.
        self._first = memory_mib(pid) - self._peaks()

    def _peaks(self) -> float:
        return sum(_mib(process / "status", "VmHWM") for process in self._processes)

    def peak_mib(self) -> float:
        """Return it; the processes must still be there."""
        return self._first + self._peaks()


def _mib(file: Path, key: str) -> float:
    lines = file.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024
