"""A process that serves: whether it is alive, and whether it is the one that listens.

Where the system doesn't tell, a process counts as the one.
"""

from __future__ import annotations

import glob
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import suppress

_LISTENS = "0A"  # proc(5), /proc/net/tcp: the state of a socket that listens


class Process:
    """The process *pid*, from now on: the next one with its number is another."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: select.poll | None = None
        # Linux: true also of a process that its parent has not waited for yet.
        if hasattr(os, "pidfd_open"):
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                self._ended = select.poll()
                self._ended.register(fd, select.POLLIN)

    def has_ended(self, seconds: float = 0) -> bool:
        """Tell whether the process has ended, *seconds* from now at the latest."""
        if self._ended is not None:
            return bool(self._ended.poll(seconds * 1000))
        time.sleep(seconds)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        return False

    def rival(self, port: int) -> int | None:
        """Return the process that listens at *port* instead of this one and its children.

        None where there is none, or where only the system's administrator could tell.
        """
        sockets = set(_listening(port))
        holders = [pid for pid in map(int, _numbers("/proc")) if sockets & _sockets(pid)]
        if any(self.pid in _ancestry(pid) for pid in holders):
            return None
        return next(iter(holders), None)


def _listening(port: int) -> Iterator[str]:
    """Yield the sockets that listen at *port*, as ``/proc/PID/fd`` names them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table, encoding="ascii") as lines:
            for line in lines:
                fields = line.split()
                if fields[1].endswith(f":{port:04X}") and fields[3] == _LISTENS:
                    yield f"socket:[{fields[9]}]"


def _sockets(pid: int) -> set[str]:
    found = set()
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        with suppress(OSError):  # closed by now, or not ours to look at
            found.add(os.readlink(path))
    return found


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


def _numbers(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if re.fullmatch("[0-9]+", name)]
    except OSError:  # macOS has no such folder
        return []
