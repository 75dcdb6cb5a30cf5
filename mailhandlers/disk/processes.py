"""Which process has a port: only Linux tells, by what it has at ``/proc``."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import suppress

_LISTENS = "0A"  # proc(5), /proc/net/tcp: the state of a socket that listens


def rival(pid: int, port: int) -> int | None:
    """Return the process that listens at *port* instead of *pid* and its children.

    None where there is none, or where only the system's administrator could tell.
    """
    sockets = set(_listening(port))
    names = glob.glob("/proc/[0-9]*/fd/*")  # none elsewhere
    holders = {int(name.split("/")[2]) for name in names if _link(name) in sockets}
    if any(pid in _ancestry(holder) for holder in holders):
        return None
    return min(holders, default=None)


def _link(name: str) -> str:
    try:
        return os.readlink(name)
    except OSError:  # closed by now, or not ours to look at
        return ""


def _listening(port: int) -> Iterator[str]:
    """Yield the sockets that listen at *port*, as ``/proc/PID/fd`` names them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table, encoding="ascii") as lines:
            for line in lines:
                fields = line.split()
                if fields[1].endswith(f":{port:04X}") and fields[3] == _LISTENS:
                    yield f"socket:[{fields[9]}]"


def _ancestry(pid: int) -> Iterator[int]:
    """Yield the process *pid*, its parent, and so on."""
    while pid:
        yield pid
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name stands in brackets, and may hold brackets.
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError):
            return
