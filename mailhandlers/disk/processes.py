"""Processes that others started: whether one has ended, and whether it has its port."""

from __future__ import annotations

import glob
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

_LISTENS = "0A"  # proc(5), /proc/net/tcp: the state of a socket that listens

if sys.platform == "win32":
    import ctypes

    _SYNCHRONIZE = 0x100000
    _ACCESS_DENIED = 5
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

    class Process:
        """The process *pid*, from now on: the next one with its number is another."""

        def __init__(self, pid: int) -> None:
            self.pid = pid
            self._handle = _kernel32.OpenProcess(_SYNCHRONIZE, False, pid)
            # Another user's process is there, too, but nothing tells when it ends.
            self._is_there = self._handle or ctypes.get_last_error() == _ACCESS_DENIED

        def has_ended(self, seconds: float = 0) -> bool:
            """Tell whether the process has ended, *seconds* from now at the latest."""
            if self._handle:
                return _kernel32.WaitForSingleObject(self._handle, int(seconds * 1000)) == 0
            time.sleep(seconds)
            return not self._is_there

else:

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
                os.kill(self.pid, 0)  # which would be Ctrl-C under Windows
            except ProcessLookupError:
                return True
            except PermissionError:  # another user's
                return False
            return False


def rival(pid: int, port: int) -> int | None:
    """Return the process that listens at *port* instead of *pid* and its children.

    None where there is none, or where only the system's administrator could tell.
    """
    sockets = set(_listening(port))
    names = glob.glob("/proc/[0-9]*/fd/*")  # on Linux alone
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
